"""How long ago: days since the last and the first event of each type, and the span between them."""

from __future__ import annotations

import polars as pl

from kit.challenge import EventType
from kit.features.registry import FeatureSettings, family
from kit.features.shared import days_before_cut, join_all, table, timeline
from kit.history import History


@family("recency", "Days since the last and first event per type, span between them, distinct instants.")
def recency(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns <type>_last, <type>_first, <type>_span (days) and <type>_times (distinct timestamps); also for `any`.

    A client who never did something did not do it for as long as the log reaches: `last` and `first` are then the log's
    length (a bound from below), `span` and `times` are 0. Clients without any event have no row.
    """
    reach = days_before_cut(history, pl.lit(history.start()))
    frames = [_of(timeline(history).lazy(), "any")]
    frames += [_of(table(history, kind).lazy(), kind.short) for kind in EventType]
    never = [pl.col(f"^.*_{name}$").fill_null(reach) for name in ("last", "first")]
    return join_all(frames).with_columns(never).with_columns(pl.col("^.*_(span|times)$").fill_null(0))


def _of(events: pl.LazyFrame, name: str) -> pl.LazyFrame:
    last, first = pl.col("age").min(), pl.col("age").max()
    return events.group_by("client_id").agg(
        last.alias(f"{name}_last"),
        first.alias(f"{name}_first"),
        (first - last).alias(f"{name}_span"),
        (pl.col("gap").is_null() | (pl.col("gap") > 0)).sum().alias(f"{name}_times"),
    )
