"""Warming up or cooling down: each window against the one before it."""

from __future__ import annotations

import polars as pl

from kit.features.counts import counted
from kit.features.registry import FeatureSettings, family
from kit.features.shared import KIND_NAMES, active_days
from kit.history import History

SHORTEST = 7
"""Windows below a week compare different weekdays and are left out."""


@family("trend", "This window minus the one before it, and their smoothed log ratio, per type.", absent=0.0)
def trend(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns <type>_<days>d_diff and <type>_<days>d_ratio = log((now + 1) / (before + 1)); also for `any`."""
    columns = []
    for code, name in KIND_NAMES.items():
        here, day = pl.col("kind") == code, pl.col("day")
        for days in (days for days in settings.windows if days >= SHORTEST):
            now = counted(here & (day < days))
            before = counted(here & (day >= days) & (day < 2 * days))
            columns.append((now - before).alias(f"{name}_{days}d_diff"))
            columns.append(((now + 1) / (before + 1)).log().alias(f"{name}_{days}d_ratio"))
    return active_days(history).lazy().group_by("client_id").agg(columns)
