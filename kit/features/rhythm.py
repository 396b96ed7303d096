"""The shape of activity over time: a kernel density of each type's events on a logarithmic axis of ages.

Idea: the 11-point kernel density of event times in BEHAV-E (RecSys Challenge 2025); here on log age, so that the last days
are resolved finely and the far past coarsely, and as a mass rather than a density, so that volume stays visible.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from kit.features.registry import FeatureSettings, family
from kit.features.shared import ANY, KIND_NAMES, active_days
from kit.history import History

POINTS = 11
HORIZON = 180.0
"""Age in days of the last grid point; older events count there."""


@family("rhythm", "Kernel-smoothed number of events per type at 11 ages on a log axis from 0 to 180 days.", absent=0.0)
def rhythm(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns <type>_<point>, log(1 + kernel mass); point 0 is the cut, POINTS - 1 is HORIZON days before it."""
    place = ((pl.col("day") + 0.5).log1p() / np.log1p(HORIZON) * (POINTS - 1)).clip(0, POINTS - 1)
    days = active_days(history).lazy().filter(pl.col("kind") != ANY).with_columns(place=place)
    columns = []
    for code, name in KIND_NAMES.items():
        if code == ANY:
            continue
        here = pl.col("kind") == code
        for point in range(POINTS):
            kernel = (-0.5 * ((pl.col("place") - point) / 0.75).pow(2)).exp()
            mass = pl.when(here).then(kernel * pl.col("n")).otherwise(0.0)
            columns.append(mass.sum().log1p().alias(f"{name}_{point}"))
    return days.group_by("client_id").agg(columns)
