"""Tastes as positions: clients, categories and styles in one space, of which the products' codes tell.

A client's attention to a category is its popularity times exp(sharpness · nearness), so whoever likes one category likes those
beside it, and who resembles whom says what a client will like that it has never seen. Departments are neighbourhoods: a category
is a coarse view of a place. Where behaviour has no sharpness the space has no dimensions, and nothing is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kit.data.shop.behaviour import Behaviour, Floats, Ints
from kit.data.shop.presets import INTERESTS, STYLES

DIMENSIONS: Final = 8
ROWS_AT_ONCE: Final = 4_096
"""Clients whose attention to all categories is held at a time."""
HOME: Final = 0.6
"""How much of a category's place is its department's, and of a product's code coordinates its category's place: the rest is
its own."""


@dataclass(frozen=True)
class Places:
    """Unit-variance positions, float32: categories (C, K) and styles (STYLES, K); K is 0 where tastes are no positions."""

    category: NDArray[np.float32]
    style: NDArray[np.float32]

    @property
    def dimensions(self) -> int:
        """K."""
        return int(self.category.shape[1])


def draw_places(
    rng: np.random.Generator,
    behaviour: Behaviour,
    department: Ints,
    category: Ints,
    style: Ints,
    latent: NDArray[np.float32],
) -> Places:
    """Places of categories and styles. The first coordinates of the products' `latent` (skus, LATENT), which their codes are made
    from, are changed to tell of them."""
    if not behaviour.latent:
        return Places(np.zeros((len(department), 0), np.float32), np.zeros((STYLES, 0), np.float32))
    around = rng.standard_normal((int(department.max()) + 1, DIMENSIONS), dtype=np.float32)[department]
    own = rng.standard_normal((len(department), DIMENSIONS), dtype=np.float32)
    places = Places(
        np.float32(np.sqrt(HOME)) * around + np.float32(np.sqrt(1 - HOME)) * own,
        rng.standard_normal((STYLES, DIMENSIONS), dtype=np.float32),
    )
    product = (places.category[category] + places.style[style]) / np.float32(np.sqrt(2))
    told = slice(0, DIMENSIONS)
    latent[:, told] = np.float32(np.sqrt(HOME)) * product + np.float32(np.sqrt(1 - HOME)) * latent[:, told]
    return places


def positions(rng: np.random.Generator, places: Places, clients: int) -> NDArray[np.float32]:
    """(clients, K) where clients stand."""
    if not places.dimensions:
        return np.zeros((clients, 0), np.float32)
    return rng.standard_normal((clients, places.dimensions), dtype=np.float32)


def attention(
    places: Places, popularity: Floats, position: NDArray[np.float32], sharpness: float
) -> NDArray[np.float32]:
    """(n, C) chances that a client at `position` (n, K) turns to each category; rows sum to 1."""
    near = position @ places.category.T * np.float32(sharpness / np.sqrt(places.dimensions))
    weight = np.exp(near - near.max(axis=1, keepdims=True)) * popularity.astype(np.float32)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True), dtype=np.float32)


def draw_near(
    rng: np.random.Generator,
    places: Places,
    popularity: Floats,
    position: NDArray[np.float32],
    sharpness: float,
    each: int = INTERESTS,
) -> Ints:
    """(n, each) categories by `attention`."""
    found = np.empty((len(position), each), dtype=np.int64)
    for first in range(0, len(position), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        sums = np.cumsum(attention(places, popularity, position[rows], sharpness), axis=1, dtype=np.float64)
        pick = rng.random((len(sums), each)) * sums[:, -1:]
        found[rows] = (sums[:, :, None] <= pick[:, None, :]).sum(axis=1)
    return np.minimum(found, len(popularity) - 1)


def liking(places: Places, position: NDArray[np.float32], style: Ints, factor: float) -> Floats:
    """(n, STYLES) how much likelier clients choose from each style: `factor` for the one that suits where tastes are no
    positions, else a power of `factor` that follows nearness."""
    if not places.dimensions:
        return np.where(np.arange(STYLES) == style[:, None], factor, 1.0)
    near = position.astype(np.float64) @ places.style.astype(np.float64).T / np.sqrt(places.dimensions)
    return np.asarray(factor**near)
