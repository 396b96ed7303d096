"""How often: events per type in windows before the cut and over all time."""

from __future__ import annotations

import numpy as np
import polars as pl

from kit.features.matrix import Floats, as_frame, over_days, reach_days
from kit.features.registry import FeatureSettings, family
from kit.features.shared import KIND_NAMES
from kit.history import History


@family("counts", "Events per type in windows before the cut and over all time.", absent=0.0)
def counts(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns <type>_<days>d and <type>_all, also for `any` type; 0 where nothing happened."""
    number = window_counts(history, settings.windows)
    names = [f"{name}_{window}" for name in KIND_NAMES.values() for window in (*_words(settings), "all")]
    return as_frame(history, number.reshape(len(number), -1), names)


def window_counts(history: History, windows: tuple[int, ...]) -> Floats:
    """Events per client, kind and window of so many days, the last one being all time: (clients, kinds, windows + 1)."""
    day = np.arange(reach_days(history))[:, None]
    inside = day < np.array([*windows, np.inf])[None, :]
    return over_days(history, inside.astype(np.float64))


def _words(settings: FeatureSettings) -> list[str]:
    return [f"{days}d" for days in settings.windows]
