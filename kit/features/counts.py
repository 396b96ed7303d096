"""How often: events per type in windows before the cut and over all time, and exponentially decayed counts."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from kit.challenge import EventType
from kit.features.registry import FeatureSettings, family
from kit.history import History


@family("counts", "Events per type in windows before the cut and over all time.", absent=0.0)
def counts(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns <type>_<days>d and <type>_all; 0 where nothing happened."""
    frames = []
    for kind in EventType:
        since = [
            (pl.col("timestamp") >= history.cut - timedelta(days=days)).sum().alias(f"{kind.short}_{days}d")
            for days in settings.windows
        ]
        frames.append(history.events(kind).group_by("client_id").agg(*since, pl.len().alias(f"{kind.short}_all")))
    return join_all(frames).with_columns(pl.exclude("client_id").fill_null(0))


def join_all(frames: list[pl.LazyFrame]) -> pl.LazyFrame:
    """Full join of frames keyed by client_id."""
    joined = frames[0]
    for frame in frames[1:]:
        joined = joined.join(frame, on="client_id", how="full", coalesce=True)
    return joined
