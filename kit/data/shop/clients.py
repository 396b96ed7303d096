"""Clients of the synthetic shop: what each is like (traits) and where each stands (state, changed day by day)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kit.data.shop.behaviour import Floats, Ints
from kit.data.shop.nearness import draw_near, liking, positions
from kit.data.shop.presets import CELLS, DAYS, INTERESTS, PRICE_BINS, STYLES, Preset
from kit.data.shop.world import World

NEVER: Final = 30_000
"""A day that does not come."""
EXISTING: Final = 0.2
"""Share of relevant clients who were customers before day 0: they turn up within EXISTING_DAYS."""
EXISTING_DAYS: Final = 30
RATE: Final = 0.075
"""Median browsing sessions of relevant clients per present day, and the spread of their logarithm."""
RATE_SPREAD: Final = 1.25
ORDER: Final = 0.03
"""Median chance scale of an order where density is 1, and the spread of its logarithm."""
ORDER_SPREAD: Final = 0.9


@dataclass
class Clients:
    """Arrays over the clients of a shard, aligned by position. Categories and skus are indices; -1 = none."""

    id: Ints
    relevant: NDArray[np.bool_]
    rate: Floats
    """Browsing sessions per present day."""
    order: Floats
    """Chance scale of ending a session with an order."""
    first_order: Floats
    """Chance of an order on the first visit."""
    cart: Floats
    """Chance of putting something into the cart without ordering, beside what readiness to order adds."""
    first_leave: Floats
    """Chance of leaving for good right after the first visit."""
    interest: Ints
    """(n, INTERESTS) categories."""
    weight: Floats
    """(n, INTERESTS), rows sum to 1."""
    price: Floats
    """Price level sought, 0..1."""
    style: Ints
    """The style that suits, where tastes are no positions."""
    liking: Floats
    """(n, STYLES) how much likelier products of each style are chosen."""
    spread: Floats
    """Width of the range of prices that suit."""
    position: NDArray[np.float32]
    """(n, K) in the space of tastes; K is 0 where tastes are no positions."""
    fresh: Floats
    """Appetite for products launched lately (1 = neutral)."""
    hour: Floats
    """Favourite hour of the day."""
    size: Floats
    """Factor on pages per session."""
    search: Floats
    """Chance of a search in a session."""
    bot: Ints
    """Visits that a crawler adds over its life; 0 for people."""
    birth: Ints
    """Day of the first visit."""
    here: Ints
    """Present from this day on (state: moved into the future on leaving; NEVER = left for good)."""
    last: Ints
    """Category of the latest session."""
    last_day: Ints
    """Day of the latest session; -1 = none yet."""
    follow: Ints
    """Category that may be continued: the latest session ended without an order."""
    follow_sku: Ints
    follow_open: NDArray[np.bool_]
    """Whether a cart was left open there."""
    follow_on: NDArray[np.bool_]
    """Hidden: whether a continuation is really pending."""
    wanted: Ints
    """Complement that the latest order may have made wanted."""
    wanted_day: Ints
    wanted_on: NDArray[np.bool_]
    """Hidden: whether it really is."""
    restock: Ints
    """Category restocked by this client."""
    restock_sku: Ints
    restock_period: Floats
    restock_day: Ints
    """Day of the latest purchase in that category by the restock rhythm."""

    def __len__(self) -> int:
        return len(self.id)

    def take(self, rows: Ints | NDArray[np.bool_]) -> Clients:
        """A copy of some rows."""
        return Clients(**{f.name: getattr(self, f.name)[rows].copy() for f in fields(self)})

    def taste(self, rows: Ints) -> NDArray[np.float32]:
        """(len(rows), CELLS) weights of the cells of a shelf for these clients."""
        return taste(self.price[rows], self.liking[rows], self.fresh[rows], self.spread[rows])


def taste(price: Floats, liking: Floats, fresh: Floats, spread: Floats) -> NDArray[np.float32]:
    """(n, CELLS) weights over (price bin, style, freshness)."""
    middle = (np.arange(PRICE_BINS) + 0.5) / PRICE_BINS
    by_price = np.exp(-0.5 * ((middle - price[:, None]) / spread[:, None]) ** 2) + 0.03
    by_fresh = np.stack([np.ones(len(fresh)), fresh], axis=1)
    weights = by_price[:, :, None, None] * liking[:, None, :, None] * by_fresh[:, None, None, :]
    return weights.reshape(len(price), CELLS).astype(np.float32)


def category_of_department(rng: np.random.Generator, world: World, department: Ints) -> Ints:
    """A category of each given department, by popularity. Departments without categories fall to a neighbour."""
    order = np.argsort(world.department, kind="stable")
    running = np.concatenate([[0.0], np.cumsum(world.popularity[order])])
    first = np.searchsorted(world.department[order], np.arange(world.preset.departments + 1))
    low, high = running[first[department]], running[first[department + 1]]
    at = np.searchsorted(running, low + rng.random(department.shape) * (high - low), side="right") - 1
    return np.asarray(order[np.clip(at, 0, len(order) - 1)])


def crowd_category(rng: np.random.Generator, world: World, rows: int) -> Ints:
    """Categories by popularity."""
    return np.searchsorted(np.cumsum(world.popularity)[:-1], rng.random(rows), side="right")


def new_interests(rng: np.random.Generator, world: World, position: NDArray[np.float32]) -> Ints:
    """(n, INTERESTS) categories: those near the client's place (n, K), or out of two departments per client, the second one for
    the last slots."""
    if world.places.dimensions:
        return draw_near(rng, world.places, world.popularity, position, world.behaviour.latent)
    rows = len(position)
    home = world.department[crowd_category(rng, world, rows)]
    away = world.department[crowd_category(rng, world, rows)]
    slots = np.where(np.arange(INTERESTS) < INTERESTS - 1, home[:, None], away[:, None])
    return category_of_department(rng, world, slots)


def build_clients(world: World, preset: Preset, rows: Ints, rng: np.random.Generator) -> Clients:
    """The clients of a shard on day 0. `rows` are positions in the whole shop; the first `relevant` ones are asked for."""
    n, relevant, b = len(rows), rows < preset.relevant, world.behaviour
    weight = rng.gamma(0.8, size=(n, INTERESTS)) + 0.02
    position = positions(rng, world.places, n)
    interest = new_interests(rng, world, position)
    restockable = world.period[interest] > 0
    slot = restockable.argmax(axis=1)
    has = restockable.any(axis=1) & (rng.random(n) < np.where(relevant, 0.2, 0.02))
    restock = np.where(has, interest[np.arange(n), slot], -1)
    days = np.arange(DAYS)
    birth = rng.choice(DAYS, size=n, p=b.traffic(days) / b.traffic(days).sum())
    existing = relevant & (rng.random(n) < EXISTING)
    birth[existing] = rng.integers(EXISTING_DAYS, size=int(existing.sum()))
    bot = np.zeros(n, dtype=np.int64)
    bots = rows < preset.bots
    bot[bots] = preset.bot_visits // (1 + rows[bots])
    birth[bots] = rows[bots]
    price = rng.beta(1.3, 1.3, n)
    clients = Clients(
        id=world.client_ids[rows].astype(np.int64),
        relevant=relevant,
        rate=np.where(relevant, RATE, 0.03) * np.exp(rng.normal(0, np.where(relevant, RATE_SPREAD, 0.8))),
        order=np.where(relevant, ORDER, 0.01) * preset.density * np.exp(rng.normal(0, ORDER_SPREAD, n)),
        first_order=np.where(relevant, rng.beta(2.2, 2.2, n), preset.other_buy),
        cart=np.where(relevant, 0.06, 0.015),
        first_leave=np.where(relevant, b.first_leave, 0.8),
        interest=interest,
        weight=weight / weight.sum(axis=1, keepdims=True),
        price=price,
        style=(style := rng.integers(STYLES, size=n)),
        liking=liking(world.places, position, style, b.style),
        spread=np.full(n, b.price_spread),
        position=position,
        fresh=np.exp(0.9 * rng.standard_normal(n)),
        hour=np.where(rng.random(n) < 0.6, rng.normal(20, 1.8, n), rng.normal(12, 2.5, n)),
        size=b.pages * np.where(relevant, 1.0, 0.2) * np.exp(rng.normal(0, 0.8, n)),
        search=np.minimum(b.searching * rng.beta(0.4, 2.0, n) * np.where(relevant, 1.0, 0.7), 1.0),
        bot=bot,
        birth=birth,
        here=birth.copy(),
        last=np.full(n, -1),
        last_day=np.full(n, -1),
        follow=np.full(n, -1),
        follow_sku=np.full(n, -1),
        follow_open=np.zeros(n, dtype=bool),
        follow_on=np.zeros(n, dtype=bool),
        wanted=np.full(n, -1),
        wanted_day=np.full(n, -1),
        wanted_on=np.zeros(n, dtype=bool),
        restock=restock,
        restock_sku=np.full(n, -1),
        restock_period=np.where(has, world.period[restock] * np.exp(rng.normal(0, 0.15, n)), 0.0),
        restock_day=np.full(n, -1),
    )
    clients.rate[bots], clients.first_leave[bots], clients.order[bots] = 1.5, 0.0, 0.001
    owners = np.flatnonzero(has)
    clients.restock_sku[owners] = world.shelf(0).draw(rng, restock[owners], clients.taste(owners))
    return clients
