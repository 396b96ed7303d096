"""From mapped source rows to the files of the challenge layout."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from kit.challenge import FIRST_SEEN, SKU_EVENTS, TIMESTAMP_FORMAT, EventType
from kit.data.convert.codes import hashed_codes, print_codes, text_codes
from kit.data.convert.ids import IdSpace, own_text
from kit.data.convert.mapping import Keep, Mapping, Table
from kit.data.convert.products import attribute_values, price_buckets
from kit.data.convert.read import Sources
from kit.data.convert.rules import passes
from kit.data.convert.times import time_of
from kit.data.scan import TIME
from kit.data.split import ROW_GROUP
from kit.errors import KitError
from kit.progress import say

RAW_TYPES = {
    "client_id": pl.Int64(),
    "timestamp": pl.String(),
    "sku": pl.Int64(),
    "url": pl.Int64(),
    "query": pl.String(),
}
"""Types of the raw event files: timestamps and codes are text there."""


@dataclass(frozen=True)
class Rows:
    """The kept rows of one event table: client and item as the shop's own text, time as Datetime("us")."""

    kind: EventType
    table: Table
    frame: pl.LazyFrame


def event_rows(mapping: Mapping, sources: Sources) -> list[Rows]:
    """The kept rows of every mapped table, proven to be readable; rows without client, item or time are left out."""
    found: list[Rows] = []
    for kind, table in mapping.events():
        source = sources[str(table.file)]
        schema = source.collect_schema()
        client, item, time = str(table.client), str(table.item), table.time
        assert time is not None  # the schema demands it
        kept = source.filter(passes(table.keep))
        raw = pl.col(time.column)
        stated = (raw != "") if schema[time.column] == pl.String else raw.is_not_null()
        typed = kept.select(
            client=own_text(client, schema[client]),
            time=time_of(time, schema[time.column]),
            item=own_text(item, schema[item]),
            stated=stated.fill_null(False),
            raw=raw.cast(pl.String),
        )
        whole = pl.all_horizontal(pl.col("client", "time", "item").is_not_null())
        unread = pl.col("stated") & pl.col("time").is_null()
        report = typed.select(
            rows=pl.len(),
            whole=whole.sum(),
            unread=unread.sum(),
            example=pl.when(unread).then("raw").drop_nulls().first(),
        ).collect(engine="streaming")
        _account(kind, table, sources, report.row(0, named=True))
        found.append(Rows(kind, table, typed.filter(whole).select("client", "time", "item")))
    return found


def _account(kind: EventType, table: Table, sources: Sources, seen: dict[str, object]) -> None:
    """Say what was kept; KitError for unreadable times and for a table that got no row."""
    label = sources.label(str(table.file))
    if seen["unread"]:
        assert table.time is not None
        raise KitError(
            f"[tables.{kind.value}] time: {seen['unread']} values in column {table.time.column!r} of {label} cannot be read, "
            f"such as {seen['example']!r}.",
            _time_remedy(str(seen["example"])),
        )
    if not seen["rows"] and not table.optional:
        looks = "; ".join(_values(rule, sources[str(table.file)]) for rule in table.keep) or "the file has no rows"
        raise KitError(
            f"No row of {label} is a {kind.value} by the rules of [tables.{kind.value}]: {looks}.",
            "Mend `keep`, or leave the table out (or say optional = true) if the shop has no such events.",
        )
    dropped = int(str(seen["rows"])) - int(str(seen["whole"]))
    note = f", {dropped:,} more without client, item or time left out" if dropped else ""
    say(f"  {kind.value}: {seen['whole']:,} events{note}")


def _time_remedy(example: str) -> str:
    if re.search(r"\dT\d.*([+-]\d\d:?\d\d|Z)$", example):
        return 'Give `format = "%Y-%m-%dT%H:%M:%S%z"`, with %.f after %S where there are fractions.'
    return "Give `format` or `unit` as the file has them, or leave such rows out with `keep` (matches = '…')."


def _values(rule: Keep, frame: pl.LazyFrame) -> str:
    """What a rule asks of a column and what the column holds, for the message."""
    asked = rule.model_dump(exclude_unset=True, exclude={"column"})
    held = frame.select(pl.col(rule.column).cast(pl.String)).group_by(rule.column).len()
    common = held.sort(["len", rule.column], descending=[True, False]).head(6).collect(engine="streaming")
    return f"column {rule.column!r} must have {asked}, it holds {common[rule.column].to_list()}"


def write_tables(mapping: Mapping, sources: Sources, out: Path) -> None:
    """Write the five event files, product_properties.parquet and the id maps into `out`."""
    tables = event_rows(mapping, sources)
    for zone in sorted({rows.table.time.zone for rows in tables if rows.table.time and rows.table.time.zone}):
        say(f"  times are read as UTC and become the wall clock of {zone}; if they are local already, leave `zone` out")
    values = attribute_values(mapping, sources)
    named = [rows.frame.select("item") for rows in tables if rows.kind in SKU_EVENTS]
    named += [value.lazy().select("own") for value in values.values()]
    clients = IdSpace("client_id", [rows.frame.select("client") for rows in tables])
    skus = IdSpace("sku", named)
    urls = IdSpace("url", [rows.frame.select("item") for rows in tables if rows.kind is EventType.VISIT] or [_no_ids()])
    items = (
        pl.concat([frame.select(own=pl.first()) for frame in named]).unique().collect(engine="streaming").sort("own")
    )
    queries = [rows.frame.select("item") for rows in tables if rows.kind is EventType.SEARCH]
    coded = code_texts(values.get("name"), queries)
    for kind in EventType:
        path = out / f"{kind.value}.parquet"
        rows_of = next((rows for rows in tables if rows.kind is kind), None)
        if rows_of is None:
            columns = ("client_id", "timestamp", kind.value_column)
            pl.DataFrame(schema={name: RAW_TYPES[name] for name in columns}).write_parquet(path)
            continue
        frame = clients.attach(rows_of.frame, "client")
        match kind:
            case EventType.SEARCH:
                looked = coded.lazy().select(item="text", codes="codes")
                frame = frame.join(looked, on="item", how="left", maintain_order="left").with_columns(item="codes")
            case EventType.VISIT:
                frame = urls.attach(frame, "item")
            case _:
                frame = skus.attach(frame, "item")
        stamp = pl.col("time").dt.strftime(TIMESTAMP_FORMAT)
        named_frame = frame.select(client_id="client", timestamp=stamp, **{kind.value_column: pl.col("item")})
        named_frame.sink_parquet(path, row_group_size=ROW_GROUP, maintain_order=True, engine="streaming")
    items = items.join(first_seen(mapping, tables), on="own", how="left")
    # An item of the log in no event that was kept: known at its end, no earlier.
    items = items.with_columns(pl.col(FIRST_SEEN).fill_null(pl.col(FIRST_SEEN).max()))
    categories = write_products(items, values, skus, coded, out / "product_properties.parquet")
    for space in (clients, skus, urls, *([categories] if categories else [])):
        space.write(out / "ids")


def first_seen(mapping: Mapping, tables: list[Rows]) -> pl.DataFrame:
    """When each item was first named, where nothing but the log names it: columns `own` and `first_seen` (Datetime("us")).

    The log knows the future: an item that it first names after a cut was not known at that cut, least of all that it would be
    sold. Where the shop has a catalogue, a file of properties that is no event table, all items count as known: no rows.
    """
    log = {str(table.file) for _, table in mapping.events()}
    if any(str(attribute.file) not in log for _, attribute in mapping.attributes()):
        return pl.DataFrame(schema={"own": pl.String, FIRST_SEEN: TIME})
    items = {str(rows.table.item) for rows in tables if rows.kind in SKU_EVENTS}
    own = [rows for rows in tables if rows.kind is not EventType.SEARCH and str(rows.table.item) in items]
    named = [rows.frame.select(own="item", time="time") for rows in own]
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


def write_products(
    items: pl.DataFrame, values: dict[str, pl.DataFrame], skus: IdSpace, coded: pl.DataFrame, path: Path
) -> IdSpace | None:
    """product_properties.parquet by sku, for every item named in an event or an attribute; returns the category ids.

    Args:
        items: `own`, the shop's own ids, and `first_seen`.
        values: attribute → `own` and `value`.
        skus: the ids that the kit gives.
        coded: codes of names.
        path: to write.
    """
    frame = items
    for what in ("price", "name", "category"):
        if what in values:
            frame = frame.join(values[what].rename({"value": what}), on="own", how="left")
        else:
            frame = frame.with_columns(pl.lit(None, dtype=pl.Float64 if what == "price" else pl.String).alias(what))
    space = None
    category = pl.lit(0, dtype=pl.Int64)
    if "category" in values:
        space = IdSpace("category", [values["category"].lazy().select("value")], always_rank=True)
        frame = space.attach(frame.lazy(), "category").collect()
        category = pl.col("category").fill_null(0)
    frame = skus.attach(frame.with_columns(category=category).lazy(), "own").collect().sort("own")
    price = price_buckets(frame["price"].fill_null(float("nan")).to_numpy(), frame["category"].to_numpy())
    unnamed = hashed_codes(frame["category"].to_numpy(), price, frame["own"].to_numpy())
    codes = frame.join(coded, left_on="name", right_on="text", how="left", maintain_order="left")["codes"]
    pl.DataFrame(
        {
            "sku": frame["own"],
            "category": frame["category"],
            "price": price,
            "name": pl.select(pl.coalesce(codes, print_codes(unnamed))).to_series(),
            FIRST_SEEN: frame[FIRST_SEEN],
        }
    ).write_parquet(path, row_group_size=ROW_GROUP)
    for what, missing in (("price", frame["price"].null_count()), ("name", codes.null_count())):
        if missing:
            say(f"  {missing:,} of {frame.height:,} products have no {what}: {_STAND_IN[what]}")
    return space


_STAND_IN = {
    "price": "they get the median bucket of their category, else of all (0 if no product has one)",
    "name": "their codes come from a hash of category, price bucket and sku",
}


def _no_ids() -> pl.LazyFrame:
    return pl.LazyFrame(schema={"item": pl.String})
