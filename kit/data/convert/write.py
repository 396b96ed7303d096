"""From mapped source rows to the files of the challenge layout."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import polars as pl

from kit.challenge import FIRST_SEEN, SKU_EVENTS, TIMESTAMP_FORMAT, EventType
from kit.data.convert.attributes import Values, attribute_rows, picked, require_common
from kit.data.convert.codes import print_codes, text_codes
from kit.data.convert.events import EventRows, event_rows
from kit.data.convert.ids import IdSpace, whole_numbers
from kit.data.convert.mapping import Mapping
from kit.data.convert.normal import whole
from kit.data.convert.products import write_products
from kit.data.convert.read import Sources
from kit.data.scan import TIME
from kit.data.split import ROW_GROUP
from kit.errors import KitError
from kit.progress import say

REPORT = "convert.json"
"""In the folder: what became of every row, file by file and table by table."""
RAW_TYPES = {
    "client_id": pl.Int64(),
    "timestamp": pl.String(),
    "sku": pl.Int64(),
    "url": pl.Int64(),
    "query": pl.String(),
}
"""Types of the raw event files: timestamps and codes are text there."""


def write_tables(mapping: Mapping, sources: Sources, out: Path, work: Path) -> None:
    """Write the five event files, product_properties.parquet, the id maps and convert.json into `out`, by way of `work`.

    Raises:
        KitError: a value that is not as the mapping says, a table without events, rows that do not add up.
    """
    tables, accounts = event_rows(mapping, sources, work)
    for zone in sorted({rows.table.time.zone for rows in tables if rows.table.time and rows.table.time.zone}):
        say(f"  times are read as UTC and become the wall clock of {zone}; if they are local already, leave `zone` out")
    say_clocks(tables)
    values = attribute_rows(mapping, sources, work)
    for each in values:
        say(each.account.line())
    tables, picks, named, pointed = spelled_alike(tables, values)
    items = (
        pl.concat([frame.select(own=pl.first()) for frame in named]).unique().collect(engine="streaming").sort("own")
    )
    bought = pl.concat([rows.frame.select(own="item") for rows in tables if rows.kind in SKU_EVENTS]).unique()
    require_common(
        values, picks, bought.collect(engine="streaming").sort("own"), {account.source for account in accounts}
    )
    clients = IdSpace("client_id", [rows.frame.select("client") for rows in tables])
    skus = IdSpace("sku", named)
    urls = IdSpace("url", [rows.frame.select("item") for rows in tables if rows.kind is EventType.VISIT] or [_no_ids()])
    queries = [rows.frame.select("item") for rows in tables if rows.kind is EventType.SEARCH]
    coded = code_texts(picks.get("name"), queries)
    kept = {table.table: table.kept for account in accounts for table in account.total().tables}
    for kind in EventType:
        rows_of = next((rows for rows in tables if rows.kind is kind), None)
        spaces = (clients, urls if kind is EventType.VISIT else skus)
        write_events(kind, rows_of, spaces, coded, out / f"{kind.value}.parquet", kept.get(kind.value, 0))
    items = items.join(first_seen(mapping, tables, pointed), on="own", how="left")
    # An item of the log in no event that was kept: known at its end, no earlier.
    items = items.with_columns(pl.col(FIRST_SEEN).fill_null(pl.col(FIRST_SEEN).max()))
    categories = write_products(items, picks, skus, coded, out / "product_properties.parquet")
    for space in (clients, skus, urls, *([categories] if categories else [])):
        space.write(out / "ids")
    report = {
        "sources": [account.as_json() for account in accounts],
        "products": [asdict(each.account) for each in values],
    }
    (out / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def say_clocks(tables: list[EventRows]) -> None:
    """A warning where tables tell their times by different clocks: their order among each other is then made up."""
    clocks: dict[str, list[str]] = {}
    for rows in tables:
        if rows.kept:
            clocks.setdefault(rows.clock, []).append(rows.kind.value)
    if len(clocks) > 1:
        told = "; ".join(f"{', '.join(kinds)} {clock}" for clock, kinds in clocks.items())
        say(
            f"  warning: the tables tell their times by different clocks ({told}): unless these are one, events are in a wrong "
            "order; `zone` turns UTC into the shop's wall clock, table by table"
        )


def spelled_alike(
    tables: list[EventRows], values: list[Values]
) -> tuple[list[EventRows], dict[str, pl.DataFrame], list[pl.LazyFrame], bool]:
    """Every space of ids spelled in one way: clients over all tables, items over events and catalogue, urls, categories.

    Returns:
        The tables; per attribute one `own` and `value` per item; the one-column frames that together name every item; whether
        skus such as 17850.0 are whole numbers.
    """
    items = [rows.frame.select("item") for rows in tables if rows.kind in SKU_EVENTS]
    clients = whole_numbers("client_id", [rows.frame.select("client") for rows in tables])
    skus = whole_numbers("sku", [*items, *(each.frame.select("own") for each in values)])
    visits = [rows.frame.select("item") for rows in tables if rows.kind is EventType.VISIT]
    urls = bool(visits) and whole_numbers("url", visits)
    client, item, own = pl.col("client"), pl.col("item"), pl.col("own")
    alike: list[EventRows] = []
    for rows in tables:
        turned = {EventType.VISIT: urls, EventType.SEARCH: False}.get(rows.kind, skus)
        changes = {"client": whole(client)} if clients else {}
        changes |= {"item": whole(item)} if turned else {}
        alike.append(replace(rows, frame=rows.frame.with_columns(**changes)) if changes else rows)
    picks: dict[str, pl.DataFrame] = {}
    for each in values:
        value = pl.col("value")
        if each.what == "category" and whole_numbers("category", [each.frame.select("value")]):
            value = whole(value)
        picks[each.what] = picked(each, whole(own) if skus else own, value)
    named = [rows.frame.select("item") for rows in alike if rows.kind in SKU_EVENTS]
    return alike, picks, [*named, *(found.lazy().select("own") for found in picks.values())], skus


def write_events(
    kind: EventType, rows: EventRows | None, spaces: tuple[IdSpace, IdSpace], coded: pl.DataFrame, path: Path, kept: int
) -> None:
    """One event file, rows in the order of the source. Times are text as in the challenge, or datetimes if finer.

    Args:
        kind: which.
        rows: its rows; None for a shop without such events.
        spaces: of clients and of items.
        coded: codes of queries.
        path: to write.
        kept: how many rows the account says there are.

    Raises:
        KitError: that many were not written.
    """
    clients, items = spaces
    if rows is None:
        columns = ("client_id", "timestamp", kind.value_column)
        pl.DataFrame(schema={name: RAW_TYPES[name] for name in columns}).write_parquet(path)
        return
    frame = clients.attach(rows.frame, "client")
    if kind is EventType.SEARCH:
        looked = coded.lazy().select(item="text", codes="codes")
        frame = frame.join(looked, on="item", how="left", maintain_order="left").with_columns(item="codes")
    else:
        frame = items.attach(frame, "item")
    time = pl.col("time")
    finer = rows.frame.select((time.dt.microsecond() != 0).any()).collect(engine="streaming").item()
    stamp = time if finer else time.dt.strftime(TIMESTAMP_FORMAT)
    named_frame = frame.select(client_id="client", timestamp=stamp, **{kind.value_column: pl.col("item")})
    named_frame.sink_parquet(path, row_group_size=ROW_GROUP, maintain_order=True, engine="streaming")
    written = pl.scan_parquet(path).select(pl.len()).collect().item()
    if not written == rows.kept == kept:
        raise KitError(
            f"{path.name} should have {kept:,} rows, but {rows.kept:,} were kept and {written:,} written.",
            "The folder was not made. This is a fault of the kit: please report it with the mapping.",
        )


def first_seen(mapping: Mapping, tables: list[EventRows], pointed: bool) -> pl.DataFrame:
    """When each item was first named, where nothing but the log names it: columns `own` and `first_seen` (Datetime("us")).

    The log knows the future: an item that it first names after a cut was not known at that cut, least of all that it would be
    sold. Where the shop has a catalogue, a file of properties that is no event table, all items count as known: no rows.
    `pointed`: 17850.0 is the sku 17850.
    """
    log = {str(table.file) for _, table in mapping.events()}
    if any(str(attribute.file) not in log for _, attribute in mapping.attributes()):
        return pl.DataFrame(schema={"own": pl.String, FIRST_SEEN: TIME})
    items = {str(rows.table.item) for rows in tables if rows.kind in SKU_EVENTS}
    own = [rows for rows in tables if rows.kind is not EventType.SEARCH and str(rows.table.item) in items]
    named = [rows.frame.select(own=whole(pl.col("item")) if pointed else "item", time="time") for rows in own]
    return pl.concat(named).group_by("own").agg(pl.col("time").min().alias(FIRST_SEEN)).collect(engine="streaming")


def code_texts(names: pl.DataFrame | None, queries: list[pl.LazyFrame]) -> pl.DataFrame:
    """Codes of all distinct names and queries together: columns `text` and `codes` (as text)."""
    texts = [] if names is None else [names.lazy().select(text="value")]
    texts += [frame.select(text="item") for frame in queries]
    if not texts:
        return pl.DataFrame(schema={"text": pl.String, "codes": pl.String})
    distinct = pl.concat(texts).unique().collect(engine="streaming")["text"].sort()
    say(f"  coding {len(distinct):,} texts")
    return pl.DataFrame({"text": distinct, "codes": print_codes(text_codes(distinct.to_list()))})


def _no_ids() -> pl.LazyFrame:
    return pl.LazyFrame(schema={"item": pl.String})
