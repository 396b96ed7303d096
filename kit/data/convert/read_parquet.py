"""parquet files → rows: each file by itself, its columns by name, decoded once to know that they can be."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from kit.data.convert.columns import require_columns
from kit.data.convert.counts import Tally
from kit.data.convert.footer import rows_stated
from kit.data.convert.mapping import SourceFile
from kit.data.convert.staging import FILE, RECORD
from kit.data.convert.widen import Piece
from kit.errors import KitError

YEAR_1, YEAR_9999 = 62_135_596_800, 253_402_300_800
"""Seconds from the year 1 to 1970, and from 1970 to the end of the year 9999."""


def open_parquet(source: SourceFile, wanted: Mapping[str, str], file: int, tally: Tally) -> Piece:
    """A lazy frame of the wanted columns with FILE and RECORD; `tally` is filled in.

    Raises:
        KitError: a file that is cut short or damaged; a column that is not there or holds lists or objects.
    """
    try:
        frame = pl.scan_parquet(tally.path, glob=False)
        schema = frame.collect_schema()
        require_columns(schema.names(), wanted, tally.name)
        columns = [_plain(name, schema[name], tally.name) for name in wanted]
        tally.records = rows_stated(tally.path)
        placed = frame.with_row_index(RECORD, offset=1).select(
            *columns, pl.lit(file, dtype=pl.UInt32).alias(FILE), pl.col(RECORD).cast(pl.UInt64)
        )
        times = [name for name in wanted if isinstance(schema[name], pl.Datetime)]
        seen = placed.select(
            pl.len(),
            pl.col(*wanted).null_count().name.prefix("nulls of "),
            *(pl.col(name).to_physical().min().alias(f"first {name}") for name in times),
            *(pl.col(name).to_physical().max().alias(f"last {name}") for name in times),
        ).collect(engine="streaming")
        tally.read = tally.rows = int(seen["len"].item())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise KitError(
            f"{tally.name} cannot be read as parquet ({first}).",
            "It is cut short or damaged: fetch or write it again.",
        ) from error
    for name in times:
        _require_calendar(name, schema[name], seen[f"first {name}"].item(), seen[f"last {name}"].item(), tally.name)
    return Piece(tally.name, placed)


def _require_calendar(column: str, dtype: pl.DataType, first: int | None, last: int | None, name: str) -> None:
    """KitError for times that no calendar knows, which end readers in a panic wherever they are printed."""
    if not isinstance(dtype, pl.Datetime) or first is None or last is None:
        return
    second = {"ms": 10**3, "us": 10**6, "ns": 10**9}[dtype.time_unit]
    for stamp in (first, last):
        if not -YEAR_1 < stamp / second < YEAR_9999:
            raise KitError(
                f"Column {column!r} of {name} ({dtype}) holds the number {stamp}, a time beyond the years 1 to 9999.",
                "The file is damaged or was written with a wrong unit: write it again.",
            )


def _plain(column: str, dtype: pl.DataType, name: str) -> pl.Expr:
    """The column; text that was written as bytes is text."""
    if dtype.is_nested() or dtype in (pl.Object, pl.Unknown):
        raise KitError(
            f"Column {column!r} of {name} is of type {dtype}.",
            "Name a column of plain values, or write the file with one row per value.",
        )
    return pl.col(column).cast(pl.String) if dtype == pl.Binary else pl.col(column)
