"""Where the client came from: type, week and intensity of the first events."""

from __future__ import annotations

import polars as pl

from kit.challenge import DAY_US
from kit.features.registry import FeatureSettings, family
from kit.features.shared import KIND_CODE, days_before_cut, timeline
from kit.history import History


@family("cohort", "First event's type, first week since the log began, first day's size, newcomers of 7/14/28 days.")
def cohort(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns first_<type>, last_<type> (0/1, ties in time by the order of types), first_week, first_day_events, new_<d>d …"""
    kind, age = pl.col("kind"), pl.col("age")
    week = 7 * DAY_US
    since_start = (pl.col("timestamp") - pl.lit(history.start())).dt.total_microseconds()
    columns = [(kind.first() == code).alias(f"first_{name.short}") for name, code in KIND_CODE.items()]
    columns += [(kind.last() == code).alias(f"last_{name.short}") for name, code in KIND_CODE.items()]
    columns += [(age.max() <= days).alias(f"new_{days}d") for days in (7, 14, 28)]
    return (
        timeline(history)
        .lazy()
        .group_by("client_id")
        .agg(
            *columns,
            first_week=since_start.first() // week,
            first_day_events=(age >= age.max() - 1).sum(),
            first_day_share=(age >= age.max() - 1).mean(),
            first_week_share=(age >= age.max() - 7).mean(),
            reach=age.max() / days_before_cut(history, pl.lit(history.start())),
        )
    )
