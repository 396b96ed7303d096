"""The shape of activity over time: a kernel density of each type's events on a logarithmic axis of ages.

Idea: the 11-point kernel density of event times in BEHAV-E (RecSys Challenge 2025); here on log age, so that the last days
are resolved finely and the far past coarsely, and as a mass rather than a density, so that volume stays visible.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from kit.features.matrix import as_frame, over_days, reach_days
from kit.features.registry import FeatureSettings, family
from kit.features.shared import ANY, KIND_NAMES
from kit.history import History

POINTS = 11
WIDTH = 0.75
"""Standard deviation of the kernel in steps between points."""
HORIZON = 180.0
"""Age in days of the last grid point; older events count there."""


@family("rhythm", "Kernel-smoothed number of events per type at 11 ages on a log axis from 0 to 180 days.", absent=0.0)
def rhythm(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns <type>_<point>, log(1 + kernel mass); point 0 is the cut, POINTS - 1 is HORIZON days before it."""
    day = np.arange(reach_days(history)) + 0.5
    place = (np.log1p(day) / np.log1p(HORIZON) * (POINTS - 1)).clip(0, POINTS - 1)
    kernel = np.exp(-0.5 * ((place[:, None] - np.arange(POINTS)[None, :]) / WIDTH) ** 2)
    mass = np.log1p(over_days(history, kernel))[:, :ANY]
    names = [f"{KIND_NAMES[code]}_{point}" for code in range(ANY) for point in range(POINTS)]
    return as_frame(history, mass.reshape(len(mass), -1), names)
