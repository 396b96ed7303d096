"""Which prices attract: decayed interest smoothed over the 100 price buckets, in a few overlapping bands."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import PRICE_BUCKETS
from kit.features.matrix import as_frame, client_matrix, decayed_weight, exact_product
from kit.features.registry import FeatureSettings, family
from kit.features.shared import touches
from kit.history import History

BANDS = 16
HALF_LIFE = 45.0
WIDTH = 4.5
"""Standard deviation of the kernel in buckets: neighbouring prices are nearly the same price."""


@family("price_affinity", "Decayed interest in 16 overlapping price bands: amount, and share of the client's own.")
def price_affinity(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns at_<centre> (log(1 + interest)), share_<centre>; 0 without priced events."""
    interest = exact_product(price_interest(history), bands())
    total = interest.sum(axis=1, keepdims=True)
    shares = interest / (total + 0.5)
    names = [f"{what}_{centre:.0f}" for what in ("at", "share") for centre in centres()]
    return as_frame(history, np.hstack([np.log1p(interest), shares]), names)


def price_interest(history: History, half_life: float = HALF_LIFE) -> NDArray[np.float64]:
    """Decayed weights of buys, carts and removals per client and price bucket, (clients, PRICE_BUCKETS)."""

    def fold() -> NDArray[np.float64]:
        frame = touches(history)
        index = frame["price"].fill_null(-1).clip(-1, PRICE_BUCKETS - 1).to_numpy()
        weight = frame["weight"].to_numpy() * decayed_weight(frame["age"], half_life)
        dense: NDArray[np.float64] = client_matrix(history, frame, index, weight, PRICE_BUCKETS).toarray()
        return dense

    return history.here(f"price_affinity.{half_life:g}", fold)


def centres() -> NDArray[np.float64]:
    """Bucket at the middle of each band, (BANDS,)."""
    return np.linspace(2.0, PRICE_BUCKETS - 3.0, BANDS)


def closeness(prices: NDArray[np.floating]) -> NDArray[np.float64]:
    """Gaussian closeness of every bucket to given prices, (PRICE_BUCKETS, len(prices)); 1 at the price itself."""
    steps = np.arange(PRICE_BUCKETS)[:, None] - prices[None, :]
    near: NDArray[np.float64] = np.exp(-0.5 * (steps / WIDTH) ** 2)
    return near


def bands() -> NDArray[np.float64]:
    """How much each bucket belongs to each band, (PRICE_BUCKETS, BANDS), rows sum to 1."""
    near = closeness(centres())
    belongs: NDArray[np.float64] = near / near.sum(axis=1, keepdims=True)
    return belongs
