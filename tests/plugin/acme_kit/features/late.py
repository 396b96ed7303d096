"""Who shops late in the evening."""

from __future__ import annotations

import polars as pl
from pydantic import Field

from kit.challenge import EventType
from kit.features.registry import FeatureSettings, family
from kit.history import History
from kit.recipe import Strict


class LateSettings(Strict):
    """Settings of the late family."""

    hour: int = Field(22, ge=0, le=23, description="Of the day, from which on it is late.")


@family("late", "Share of visits and carts that are late in the evening.", settings=LateSettings)
def late(history: History, settings: FeatureSettings, own: LateSettings) -> pl.LazyFrame:
    """Columns visit and cart: shares in [0, 1], missing for clients without such events."""
    share = (pl.col("timestamp").dt.hour() >= own.hour).mean()
    frames = [
        history.events(kind).group_by("client_id").agg(share.alias(kind.short))
        for kind in (EventType.VISIT, EventType.CART)
    ]
    return frames[0].join(frames[1], on="client_id", how="full", coalesce=True)
