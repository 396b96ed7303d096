"""When in the week: hour buckets, weekdays and their entropies, for all events and for those around the cart."""

from __future__ import annotations

import polars as pl

from kit.features.registry import FeatureSettings, family
from kit.features.shared import join_all, timeline, touches
from kit.history import History

HOURS = 3
"""Width of an hour bucket."""


@family("calendar", "Hour-of-week profile: shares of 3-hour buckets and weekdays, entropies, weekend, payday shares.")
def calendar(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Shares of the client's events: hour_<first hour>, weekday_<1 = Monday>, weekend, month_start, month_end, and entropies.

    `cart_` columns look at cart adds, removals and buys only.
    """
    every = timeline(history).lazy().select("client_id", "timestamp")
    around = touches(history).lazy().select("client_id", "timestamp")
    return join_all([_profile(every, ""), _profile(around, "cart_", coarse=True)])


def _profile(events: pl.LazyFrame, prefix: str, *, coarse: bool = False) -> pl.LazyFrame:
    hour, weekday = pl.col("hour"), pl.col("weekday")
    month_day = pl.col("timestamp").dt.day()
    dated = events.with_columns(
        hour=pl.col("timestamp").dt.hour() // HOURS,
        weekday=pl.col("timestamp").dt.weekday(),
        month_start=month_day <= 7,
        month_end=(pl.col("timestamp") + pl.duration(days=7)).dt.day() <= 7,
    )
    buckets = [(hour == h).mean().alias(f"{prefix}hour_{h * HOURS}") for h in range(24 // HOURS)]
    days = [(weekday == d).mean().alias(f"{prefix}weekday_{d}") for d in range(1, 8)]
    whole = [
        (weekday >= 6).mean().alias(f"{prefix}weekend"),
        pl.col("month_start").mean().alias(f"{prefix}month_start"),
        pl.col("month_end").mean().alias(f"{prefix}month_end"),
        _entropy("hour", range(24 // HOURS)).alias(f"{prefix}hour_entropy"),
        _entropy("weekday", range(1, 8)).alias(f"{prefix}weekday_entropy"),
    ]
    return dated.group_by("client_id").agg(whole if coarse else [*buckets, *days, *whole])


def _entropy(column: str, values: range) -> pl.Expr:
    """Entropy in nats of a small integer column; terms are added in the order of `values`."""
    shares = [(pl.col(column) == value).mean() for value in values]
    terms = [pl.when(share > 0).then(-share * share.log()).otherwise(0.0) for share in shares]
    return pl.sum_horizontal(terms)
