"""How often: events per type in windows before the cut and over all time."""

from __future__ import annotations

import polars as pl

from kit.features.registry import FeatureSettings, family
from kit.features.shared import KIND_NAMES, active_days
from kit.history import History


@family("counts", "Events per type in windows before the cut and over all time.", absent=0.0)
def counts(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns <type>_<days>d and <type>_all, also for `any` type; 0 where nothing happened."""
    columns = []
    for code, name in KIND_NAMES.items():
        here = pl.col("kind") == code
        for days in settings.windows:
            columns.append(counted(here & (pl.col("day") < days)).alias(f"{name}_{days}d"))
        columns.append(counted(here).alias(f"{name}_all"))
    return active_days(history).lazy().group_by("client_id").agg(columns)


def counted(mask: pl.Expr) -> pl.Expr:
    """Events of the rows of `active_days` that satisfy `mask`; signed, so that differences may be taken."""
    return pl.when(mask).then(pl.col("n")).otherwise(0).cast(pl.Int64).sum()
