"""Warming up or cooling down: each window against the one before it."""

from __future__ import annotations

import numpy as np
import polars as pl

from kit.features.counts import window_counts
from kit.features.matrix import as_frame
from kit.features.registry import FeatureSettings, family
from kit.features.shared import KIND_NAMES
from kit.history import History

SHORTEST = 7
"""Windows below a week compare different weekdays and are left out."""


@family("trend", "This window minus the one before it, and their smoothed log ratio, per type.", absent=0.0)
def trend(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns <type>_<days>d_diff and <type>_<days>d_ratio = log((now + 1) / (before + 1)); also for `any`."""
    windows = tuple(days for days in settings.windows if days >= SHORTEST)[::2]  # neighbours say the same twice
    number = window_counts(history, (*windows, *(2 * days for days in windows)))
    now, both = number[:, :, : len(windows)], number[:, :, len(windows) : 2 * len(windows)]
    before = both - now
    values = np.stack([now - before, np.log((now + 1) / (before + 1))], axis=-1)
    names = [f"{name}_{days}d_{what}" for name in KIND_NAMES.values() for days in windows for what in ("diff", "ratio")]
    return as_frame(history, values.reshape(len(values), -1), names)
