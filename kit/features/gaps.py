"""How regular: gaps between events and between active days, and how overdue the next one is."""

from __future__ import annotations

import polars as pl

from kit.features.registry import FeatureSettings, family
from kit.features.shared import KIND_CODE, KIND_NAMES, active_days, join_all, table, timeline
from kit.history import History

MINUTES = 1440.0
DAY_MEASURES = ("day_mean", "day_sd", "day_cv", "day_last", "overdue")


@family("gaps", "Gaps between events and active days per type: mean, spread, last, regularity, overdue ratio.")
def gaps(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Per type and for `any`, in days unless said otherwise; missing with fewer than two events (two active days).

    Events: <type>_mean, <type>_last, <type>_logmean and <type>_logsd (of log(1 + minutes)).
    Active days: <type>_day_mean, <type>_day_sd, <type>_day_cv (sd / mean: 0 is a clockwork),
    <type>_day_last (last gap / mean gap), <type>_overdue (days since the last active day / mean gap; above 1 = late).
    """
    frames = [_between_events(timeline(history).lazy(), "any")]
    for kind in KIND_CODE:
        frames.append(_between_events(table(history, kind).lazy(), kind.short))
    frames.append(_between_days(history))
    return join_all(frames)


def _between_events(events: pl.LazyFrame, name: str) -> pl.LazyFrame:
    gap = pl.col("gap")
    log = pl.col("log")
    known = events.filter(gap.is_not_null()).with_columns(log=(gap * MINUTES).log1p())
    return known.group_by("client_id").agg(
        gap.mean().alias(f"{name}_mean"),
        gap.last().alias(f"{name}_last"),
        log.mean().alias(f"{name}_logmean"),
        log.std(ddof=0).alias(f"{name}_logsd"),
    )


def _between_days(history: History) -> pl.LazyFrame:
    same = (pl.col("client_id") == pl.col("client_id").shift(1)) & (pl.col("kind") == pl.col("kind").shift(1))
    days = active_days(history).lazy().with_columns(gap=pl.when(same).then(pl.col("day").shift(1) - pl.col("day")))
    gap = pl.col("gap").cast(pl.Float64)
    mean = gap.mean()
    per_kind = days.group_by("client_id", "kind").agg(
        day_mean=mean,
        day_sd=gap.std(ddof=0),
        day_cv=gap.std(ddof=0) / mean,
        # Days are in order of time, so the last row of a group holds its last gap.
        day_last=gap.last() / mean,
        overdue=(pl.col("day").last() + 0.5) / mean,
    )
    frames = []
    for code, name in KIND_NAMES.items():
        of_kind = per_kind.filter((pl.col("kind") == code) & pl.col("day_mean").is_not_null()).drop("kind")
        frames.append(of_kind.rename({column: f"{name}_{column}" for column in DAY_MEASURES}))
    return join_all(frames)
