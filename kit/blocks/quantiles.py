"""Features of several cuts on one scale: quantile-uniform in [-1, 1], missing values stay missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from warnings import catch_warnings, filterwarnings

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import QuantileTransformer

SCALER_ROWS: Final = 50_000
"""Rows of features that their quantiles are taken from."""
ROWS_AT_ONCE: Final = 20_000
"""Rows that are scaled at a time."""
QUANTILES: Final = 256


def fit_quantiles(raw: Sequence[NDArray[np.float32]], seed: int) -> QuantileTransformer:
    """Quantiles of SCALER_ROWS rows drawn from all cuts: those that scikit-learn would draw from the cuts' rows together.

    Args:
        raw: per cut (n, F) float32; what is not finite is missing.
        seed: of the draw.
    """
    starts = np.cumsum([0, *map(len, raw)])
    rows = np.arange(starts[-1])
    if len(rows) > SCALER_ROWS:
        np.random.RandomState(seed).shuffle(rows)
        rows = rows[:SCALER_ROWS]
    cut = np.searchsorted(starts, rows, side="right") - 1
    stacked = np.empty((len(rows), raw[0].shape[1]), dtype=np.float32)
    for k, part in enumerate(raw):
        stacked[cut == k] = part[rows[cut == k] - starts[k]]
    stacked[~np.isfinite(stacked)] = np.nan
    scaler = QuantileTransformer(n_quantiles=min(QUANTILES, len(stacked)), subsample=None, random_state=seed)
    with catch_warnings():  # a column that is missing for everybody stays missing
        filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return scaler.fit(stacked)


def quantiles_of(quantiles: NDArray[np.floating]) -> QuantileTransformer:
    """The transformer that was fitted to these `quantiles_`, (numbers, F)."""
    scaler = QuantileTransformer(n_quantiles=len(quantiles), subsample=None)
    scaler.quantiles_, scaler.n_quantiles_, scaler.n_features_in_ = quantiles, *quantiles.shape
    scaler.references_ = np.linspace(0, 1, len(quantiles), endpoint=True)
    return scaler


def to_quantiles(scaler: QuantileTransformer, raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, F) to [-1, 1], in place; what is not finite becomes NaN, which stays NaN."""
    for first in range(0, len(raw), ROWS_AT_ONCE):
        part = raw[first : first + ROWS_AT_ONCE]
        clean = np.where(np.isfinite(part), part, np.nan).astype(np.float32)
        part[:] = 2 * scaler.transform(clean) - 1
    return raw
