"""The least that any build of per-client features has to do: decode the columns once, group the rows by client once."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from curves.child import Job


def run(job: Job) -> None:
    """Per table: seconds to decode everyone's rows from the input files, to decode the History's prepared rows, and to group
    these by client; beside them, what grouping everyone's rows takes. Details: `tables` and the two floors.

    The floor of the whole build = decode everyone's rows (among whom the relevant ones must be found) + group the relevant
    ones; that of the feature stage alone = decode the prepared rows + group them.
    """
    import polars as pl

    from curves.stages import open_history
    from kit.challenge import EventType
    from kit.data.layout import DataFolder

    history, folder = open_history(job), DataFolder(job.order.data)
    tables = {}
    with job.clock():
        for kind in EventType:
            tables[kind.value] = one_table(kind, pl.scan_parquet(folder.input(kind)), history.events(kind))
            tables[kind.value]["file_mib"] = folder.input(kind).stat().st_size / 2**20

    def total(column: str) -> float:
        return float(sum(table[column] for table in tables.values()))

    job.details |= {
        "tables": tables,
        "rows": total("rows"),
        "relevant_rows": total("relevant_rows"),
        "decoded_mib": total("decoded_mib"),
        "file_mib": total("file_mib"),
        "whole": total("decode") + total("group"),
        "features": total("decode_prepared") + total("group"),
        "every_row": total("decode") + total("group_everyone"),
    }


def one_table(kind: Any, everyone: Any, relevant: Any) -> dict[str, float]:
    """Seconds, rows and decoded MiB of one table."""
    import polars as pl

    text = kind.value_column == "query"
    value = pl.col(kind.value_column)
    touched = value.str.len_bytes() if text else value
    sums = [pl.col("client_id").sum(), pl.col("timestamp").cast(pl.Int64).sum().alias("time")]
    began = perf_counter()
    seen = everyone.select(pl.len(), *sums, touched.sum().alias("value")).collect(engine="streaming")
    decode = perf_counter() - began
    rows = int(seen["len"].item())

    began = perf_counter()
    grouped = everyone.group_by("client_id").agg(pl.len(), pl.col("timestamp").max(), touched.sum().alias("value"))
    grouped.select(pl.len()).collect(engine="streaming")
    group_everyone = max(perf_counter() - began - decode, 0.0)

    began = perf_counter()
    held = relevant.select("client_id", "timestamp", kind.value_column).collect()
    decode_prepared = perf_counter() - began

    began = perf_counter()
    inner = [] if text else [value.sum()]
    held.lazy().group_by("client_id").agg(pl.len(), pl.col("timestamp").max(), *inner).collect(engine="streaming")
    group = perf_counter() - began
    of_text = int(seen["value"].item() or 0) if text else 8 * rows
    return {
        "rows": rows,
        "relevant_rows": held.height,
        "decoded_mib": (16 * rows + of_text) / 2**20,
        "decode": decode,
        "group_everyone": group_everyone,
        "decode_prepared": decode_prepared,
        "group": group,
    }
