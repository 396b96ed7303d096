"""Whether there is anything to go by: flags for clients without history, or without some type of event."""

from __future__ import annotations

import polars as pl

from kit.features.registry import FeatureSettings, family
from kit.features.shared import KIND_NAMES, active_days
from kit.history import History


@family("presence", "Flags: has the client any event, any of each type, more than one active day.", absent=0.0)
def presence(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns has_<type>, has_any (0 = no history at all), and several_days."""
    flags = [(pl.col("kind") == code).any().alias(f"has_{name}") for code, name in KIND_NAMES.items()]
    several = pl.col("day").min() != pl.col("day").max()
    return active_days(history).lazy().group_by("client_id").agg(*flags, several_days=several)
