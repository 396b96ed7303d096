"""What is believed of clients who came once: the posterior of their tastes and rates, from what that one visit shows.

Of somebody who comes often history shows tastes and rates nearly; of somebody who came once it shows a category, a few products
and a silence. So their own traits are never read here. Tastes are those of a pool drawn as the shop draws its clients, weighted
by the chance of the visit's category and products (importance sampling); rates are a quadrature of their distribution, weighted
by the chance of the silence since (`believe`), as is readiness to order, of which a first visit says nothing.

Left out: what the visit's searches and its number of pages say. Still known: that a first order began a rhythm of restocking.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kit.data.shop.behaviour import Floats, Ints
from kit.data.shop.clients import ORDER, ORDER_SPREAD, RATE, RATE_SPREAD, Clients, new_interests, taste
from kit.data.shop.expect import interests_of
from kit.data.shop.nearness import liking, positions
from kit.data.shop.presets import CELLS, INTERESTS, STYLES
from kit.data.shop.truth import Truth

POOL: Final = 20_000
"""Hypothetical clients."""
AT_ONCE: Final = 500
"""Clients who are compared with the pool at a time."""
RATES: Final = 5
ORDERS: Final = 2
"""Rates and readinesses of the quadrature."""
Matrix = NDArray[np.float32]


def came_once(clients: Clients) -> NDArray[np.bool_]:
    """Who has come on one day before the cut, bots left out."""
    return np.asarray((clients.last_day >= 0) & (clients.last_day == clients.birth) & (clients.bot == 0))


@dataclass(frozen=True)
class Tastes:
    """Posterior means per client: attention to categories now and where interests switch to (n, categories), and of the cells of
    a shelf (n, CELLS)."""

    own: Matrix
    stray: Matrix
    cells: Matrix

    def take(self, rows: Ints) -> Tastes:
        """Some rows."""
        return Tastes(self.own[rows], self.stray[rows], self.cells[rows])


class Pool:
    """Hypothetical clients of a shop, drawn as its own are: their attention to categories and cells."""

    def __init__(self, truth: Truth, size: int = POOL) -> None:
        shop, rng = truth.catalogue, np.random.default_rng([truth.seed, 3])
        known = {name: getattr(shop, name) for name in ("department", "popularity", "places", "behaviour")}
        world: Any = SimpleNamespace(**known, preset=truth.preset)
        weight = rng.gamma(0.8, size=(size, INTERESTS)) + 0.02
        position = positions(rng, shop.places, size)
        drawn: Any = SimpleNamespace(
            interest=new_interests(rng, world, position),
            weight=weight / weight.sum(axis=1, keepdims=True),
            position=position,
        )
        self.own, self.stray = interests_of(shop, drawn)
        crowd = np.float32(shop.behaviour.crowd)
        self.chance = (1 - crowd) * self.own + crowd * shop.popularity.astype(np.float32)
        """(pool, categories) of a first visit's category."""
        likes = liking(shop.places, position, rng.integers(STYLES, size=size), shop.behaviour.style)
        spread = np.full(size, shop.behaviour.price_spread)
        cells = taste(rng.beta(1.3, 1.3, size), likes, np.exp(0.9 * rng.standard_normal(size)), spread)
        self.cells: Matrix = cells / cells.mean(axis=1, keepdims=True)

    def tastes(self, category: Ints, seen: NDArray[np.float32], mass: Matrix, kept: Floats) -> Tastes:
        """Posterior means of clients whose visit was about `category` (n,) and showed products of the cells `seen` (n, CELLS).

        Args:
            mass: (categories, CELLS) attraction of what was on the shelves.
            kept: (n,) chance that an interest has not been replaced between the visit and the cut.
        """
        logs = np.log(self.cells)
        parts = []
        for first in range(0, len(category), AT_ONCE):
            rows = slice(first, first + AT_ONCE)
            many = seen[rows].sum(axis=1, keepdims=True)
            demand = np.log(np.maximum(mass[category[rows]] @ self.cells.T, np.float32(1e-12)))
            log = np.log(self.chance[:, category[rows]]).T + seen[rows] @ logs.T - many * demand
            weight = np.exp(log - log.max(axis=1, keepdims=True))
            weight /= weight.sum(axis=1, keepdims=True)
            parts.append((weight @ self.own, weight @ self.stray, weight @ self.cells))
        own, stray, cells = (np.concatenate([part[i] for part in parts]) for i in range(3))
        still = kept[:, None].astype(np.float32)
        return Tastes(still * own + (1 - still) * stray, stray, cells)


def guesses(clients: Clients, density: float) -> Iterator[tuple[Clients, float]]:
    """The clients at each node of the quadrature, with its prior weight; traits that one visit does not show are blotted out."""
    for rate, often in _lognormal(RATE, RATE_SPREAD, RATES):
        for order, ready in _lognormal(ORDER * density, ORDER_SPREAD, ORDERS):
            yield _guess(clients, rate, order), often * ready


def _lognormal(median: float, spread: float, nodes: int) -> list[tuple[float, float]]:
    """Nodes and weights of a Gauss quadrature of a lognormal distribution."""
    at, weight = np.polynomial.hermite_e.hermegauss(nodes)
    return list(zip((median * np.exp(spread * at)).tolist(), (weight / weight.sum()).tolist(), strict=True))


def _guess(clients: Clients, rate: float, order: float) -> Clients:
    """The clients with traits blotted out that one visit does not show, at one rate of visits and one readiness to order."""
    n, rhythm = len(clients), clients.restock_day >= 0
    return replace(
        clients,
        rate=np.full(n, rate),
        order=np.full(n, order),
        interest=np.zeros((n, INTERESTS), dtype=np.int64),
        position=np.zeros_like(clients.position),
        restock=np.where(rhythm, clients.restock, -1),
        restock_sku=np.where(rhythm, clients.restock_sku, -1),
    )


def nothing_seen(clients: Clients) -> NDArray[np.float32]:
    """(n, CELLS) no products."""
    return np.zeros((len(clients), CELLS), np.float32)
