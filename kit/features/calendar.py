"""When in the week: hour buckets, weekdays and their entropies, for all events and for those around the cart."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.features.matrix import Floats, as_frame, client_rows
from kit.features.registry import FeatureSettings, family
from kit.features.shared import timeline, touches
from kit.history import History

HOURS = 3
"""Width of an hour bucket."""
BUCKETS = 24 // HOURS


@family(
    "calendar", "Hour-of-week profile: shares of 3-hour buckets and weekdays, entropies, weekend and month-end shares."
)
def calendar(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Shares of the client's events: hour_<first hour>, weekday_<1 = Monday>, weekend, month_start, month_end (first and
    last seven days), and the entropies of hours and weekdays; missing without events.

    `cart_` columns look at cart adds, removals and buys only.
    """
    every, names = _profile(history, timeline(history))
    around, _ = _profile(history, touches(history))
    late = [k for k, name in enumerate(names) if name in COARSE]
    return as_frame(history, np.hstack([every, around[:, late]]), [*names, *(f"cart_{names[k]}" for k in late)])


COARSE = ("weekend", "month_start", "month_end", "hour_entropy", "weekday_entropy")
"""The few measures that sparse events around the cart can bear."""


def _profile(history: History, events: pl.DataFrame) -> tuple[Floats, list[str]]:
    time, rows, size = events["timestamp"].dt, client_rows(history, events), len(history.clients)
    number = np.bincount(rows, minlength=size).astype(np.float64)
    number[number == 0] = np.nan
    cells = BUCKETS * 7
    cell = (time.weekday().to_numpy().astype(np.int64) - 1) * BUCKETS + time.hour().to_numpy() // HOURS
    week = np.bincount(rows * cells + cell, minlength=size * cells).reshape(size, 7, BUCKETS) / number[:, None, None]
    hours, weekdays = week.sum(axis=1), week.sum(axis=2)
    starts = time.day().to_numpy() <= 7
    ends = events.select((pl.col("timestamp") + pl.duration(days=7)).dt.day())["timestamp"].to_numpy() <= 7
    month = [np.bincount(rows[mask], minlength=size) / number for mask in (starts, ends)]
    scalars = [weekdays[:, 5] + weekdays[:, 6], *month, _entropy(hours), _entropy(weekdays)]
    names = [f"hour_{HOURS * k}" for k in range(BUCKETS)] + [f"weekday_{d}" for d in range(1, 8)]
    return np.column_stack([hours, weekdays, *scalars]), [*names, *COARSE]


def _entropy(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy in nats of each row; NaN rows stay NaN."""
    terms = -shares * np.log(np.where(shares > 0, shares, 1.0))
    return np.asarray(terms.sum(axis=1))
