"""How often, lately: exponentially decayed counts, the smooth cousin of windows."""

from __future__ import annotations

import polars as pl

from kit.challenge import EventType
from kit.features.registry import FeatureSettings, family
from kit.features.shared import decay, join_all, table
from kit.history import History


@family("decayed", "Exponentially decayed counts per type: sum of 2^(-age / half-life).", absent=0.0)
def decayed(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns <type>_h<half-life in days>; 0 where nothing happened."""
    frames = []
    for kind in EventType:
        sums = [decay(half).sum().alias(f"{kind.short}_h{half:g}") for half in settings.half_lives]
        frames.append(table(history, kind).lazy().group_by("client_id").agg(sums))
    return join_all(frames).with_columns(pl.exclude("client_id").fill_null(0.0))
