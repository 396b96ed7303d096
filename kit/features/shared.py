"""Intermediates that several families need, made once per view (`history.here`) or once per cut (`history.once`).

Tables of a view are held in memory, sorted by client_id, timestamp, …: Polars' in-memory group_by then sums every client's
rows in that order in one thread, so results are bit-identical between runs, thread counts and chunk sizes (the streaming
engine's are not: it splits groups where its batches end).
"""

from __future__ import annotations

import math

import polars as pl

from kit.challenge import DAY_US, SKU_EVENTS, EventType
from kit.history import History

KIND_CODE = {kind: code for code, kind in enumerate(EventType)}
"""Small integers for event types in stacked tables."""
ANY = len(EventType)
"""Kind of rows that stand for events of all types together (`active_days`)."""
KIND_NAMES = {**{code: kind.short for kind, code in KIND_CODE.items()}, ANY: "any"}
"""Kind code → the word in column names."""
RARE_URL = 3
"""Urls with fewer visits of anybody are treated as visited once."""
SKU_WEIGHT = {EventType.BUY: 3.0, EventType.CART: 1.0, EventType.REMOVE: 0.25}
"""How much interest one sku event shows: buying most, removing still some (the client did look at it)."""


def table(history: History, kind: EventType) -> pl.DataFrame:
    """The view's events of one type in memory, sorted by client_id and timestamp, ties in file order.

    Beside the columns of `History.events`: age (f64, days before the cut, > 0) and day (i32): 0 = the last 24 hours before
    the cut, 1 = the 24 hours before those, …, so that `day < d` is the window of d days; gap (f64, days since the same
    client's event before of this type; null at the first).
    """

    def load() -> pl.DataFrame:
        us = (pl.lit(history.cut) - pl.col("timestamp")).dt.total_microseconds()
        frame = history.events(kind).collect(engine="in-memory")
        if not frame["client_id"].is_sorted():  # Source promises it; everything here rests on it
            raise ValueError(f"prepared {kind.value} is not sorted by client")
        return frame.with_columns(
            pl.col("client_id").set_sorted(),
            age=us / DAY_US,
            day=((us - 1) // DAY_US).cast(pl.Int32),
            gap=gap_days(),
        )

    return history.here(f"shared.table.{kind.value}", load)


def touches(history: History) -> pl.DataFrame:
    """Buys, cart adds and removals of the view in one table sorted by client_id, timestamp, kind, ties in file order.

    Columns: client_id, timestamp, sku, category, price, age, day, kind (u8, KIND_CODE), weight (f64, SKU_WEIGHT) and
    item (u32): the row of `catalogue`, null for a sku without properties; gap is here since any of the three.
    """

    def stack() -> pl.DataFrame:
        parts = [
            table(history, kind).with_columns(
                kind=pl.lit(KIND_CODE[kind], dtype=pl.UInt8), weight=pl.lit(SKU_WEIGHT[kind], dtype=pl.Float64)
            )
            for kind in SKU_EVENTS
        ]
        items = catalogue(history).select("sku", item=pl.int_range(pl.len(), dtype=pl.UInt32))
        stacked = (
            pl.concat(parts).sort("client_id", "timestamp", "kind", maintain_order=True).with_columns(gap=gap_days())
        )
        joined = stacked.join(items, on="sku", how="left", maintain_order="left")
        return joined.with_columns(pl.col("client_id").set_sorted())

    return history.here("shared.touches", stack)


def timeline(history: History) -> pl.DataFrame:
    """Events of all five types of the view, sorted by client_id, timestamp, kind.

    Columns: client_id, timestamp, age, day, kind (u8), gap (f64, days since the client's event before; null at the first).
    """

    def stack() -> pl.DataFrame:
        parts = [
            table(history, kind).select(
                "client_id", "timestamp", "age", "day", kind=pl.lit(KIND_CODE[kind], dtype=pl.UInt8)
            )
            for kind in EventType
        ]
        stacked = pl.concat(parts).sort("client_id", "timestamp", "kind")
        return stacked.with_columns(pl.col("client_id").set_sorted(), gap=gap_days())

    return history.here("shared.timeline", stack)


def gap_days(time: str = "timestamp") -> pl.Expr:
    """Days since the same client's row before (rows sorted by client_id, time); null at a client's first row."""
    same = pl.col("client_id") == pl.col("client_id").shift(1)
    return pl.when(same).then(pl.col(time).diff().dt.total_microseconds() / DAY_US)


def active_days(history: History) -> pl.DataFrame:
    """One row per client, kind and day with events, sorted by client_id, kind, day descending (time ascending).

    Columns: client_id, kind (u8; ANY = all types together), day (i32), n (u32).
    """

    def compress() -> pl.DataFrame:
        events = timeline(history).lazy()
        each = events.group_by("client_id", "kind", "day").agg(n=pl.len())
        every = events.group_by("client_id", "day").agg(n=pl.len()).with_columns(kind=pl.lit(ANY, dtype=pl.UInt8))
        stacked = pl.concat([each, every.select("client_id", "kind", "day", "n")])
        ordered = stacked.sort("client_id", "kind", "day", descending=[False, False, True])
        return ordered.collect(engine="in-memory").with_columns(pl.col("client_id").set_sorted())

    return history.here("shared.active_days", compress)


def pairs(history: History) -> pl.DataFrame:
    """One row per client and sku touched, sorted by client_id, sku.

    Columns: client_id, sku, category, price, item, buys, carts, removes (u32), and the instants first_cart, last_cart,
    first_buy, last_buy, last_remove (null where there is none).
    """

    def fold() -> pl.DataFrame:
        time = {kind: _when(kind) for kind in SKU_EVENTS}
        folded = (
            touches(history)
            .lazy()
            .group_by("client_id", "sku")
            .agg(
                pl.col("category", "price", "item").first(),
                buys=_is(EventType.BUY).sum(),
                carts=_is(EventType.CART).sum(),
                removes=_is(EventType.REMOVE).sum(),
                first_cart=time[EventType.CART].min(),
                last_cart=time[EventType.CART].max(),
                first_buy=time[EventType.BUY].min(),
                last_buy=time[EventType.BUY].max(),
                last_remove=time[EventType.REMOVE].max(),
            )
            .sort("client_id", "sku")
        )
        return folded.collect(engine="in-memory").with_columns(pl.col("client_id").set_sorted())

    return history.here("shared.pairs", fold)


def _is(kind: EventType) -> pl.Expr:
    return pl.col("kind") == KIND_CODE[kind]


def _when(kind: EventType) -> pl.Expr:
    return pl.when(_is(kind)).then(pl.col("timestamp"))


def days_before_cut(history: History, time: str | pl.Expr) -> pl.Expr:
    """Days from an instant to the cut (f64)."""
    expr = pl.col(time) if isinstance(time, str) else time
    return (pl.lit(history.cut) - expr).dt.total_microseconds() / DAY_US


def join_all(frames: list[pl.LazyFrame]) -> pl.LazyFrame:
    """Full join of frames keyed by client_id."""
    joined = frames[0]
    for frame in frames[1:]:
        joined = joined.join(frame, on="client_id", how="full", coalesce=True)
    return joined


def decay(half_life: float, age: str = "age") -> pl.Expr:
    """2^(-age / half_life), age and half-life in days."""
    rate = -math.log(2.0) / half_life
    return (pl.col(age) * rate).exp()


def catalogue(history: History) -> pl.DataFrame:
    """The products, one row per sku, sorted by sku: sku, category, price, name. The row number is `item` elsewhere."""

    def load() -> pl.DataFrame:
        return history.products().collect(engine="in-memory").sort("sku")

    return history.always("shared.catalogue", load)


def sku_facts(history: History) -> pl.DataFrame:
    """What everybody did with each sku before the cut, sorted by sku.

    Columns: sku, buys, carts, removes (u32), recent (u32, buys and cart adds in the last 28 days), first (us datetime of the
    first event of anybody).
    """

    def count() -> pl.DataFrame:
        day28 = pl.col("timestamp") >= pl.lit(history.cut) - pl.duration(days=28)
        names = {EventType.BUY: "buys", EventType.CART: "carts", EventType.REMOVE: "removes"}
        parts = []
        for kind, name in names.items():
            counted = (
                history.everyone(kind)
                .group_by("sku")
                .agg(
                    pl.len().cast(pl.UInt32).alias(name),
                    first=pl.col("timestamp").min(),
                    recent=(day28.sum() if kind is not EventType.REMOVE else pl.lit(0)).cast(pl.UInt32),
                )
            )
            parts.append(counted.collect(engine="streaming"))  # integers: any order of summing gives the same
        together = (
            pl.concat(parts, how="diagonal")
            .group_by("sku")
            .agg(pl.col("buys", "carts", "removes", "recent").sum(), pl.col("first").min())
        )
        return together.sort("sku")

    return history.once("shared.sku_facts", count)


def url_counts(history: History) -> pl.DataFrame:
    """Urls that everybody together visited at least RARE_URL times: url, visits (u32), sorted by url.

    Nearly all urls of a shop are rarer; leaving them out keeps the table small.
    """

    def count() -> pl.DataFrame:
        visits = history.everyone(EventType.VISIT).group_by("url").agg(visits=pl.len().cast(pl.UInt32))
        return visits.filter(pl.col("visits") >= RARE_URL).collect(engine="streaming").sort("url")

    return history.once("shared.url_counts", count)
