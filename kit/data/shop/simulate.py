"""Day by day through the shop: who comes, what for, and whether it ends in an order. At most one session per client and day.

A present client may come for five reasons, whose hazards compete each day: browsing, continuing the last session, buying
the complement of the last order, restocking, and (once) the first visit. The state that a prediction may know and the
hidden flags lie side by side in `Clients`, so a copy of it at the cut is the truth that the ceiling starts from.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.data.shop.behaviour import Behaviour, Floats, Ints
from kit.data.shop.clients import NEVER, Clients, category_of_department, crowd_category
from kit.data.shop.nearness import draw_near
from kit.data.shop.presets import CUT_DAY, DAYS, INTERESTS
from kit.data.shop.world import World, epoch_of


class Reason(IntEnum):
    """Why a session took place."""

    BROWSE = 0
    FOLLOW = 1
    OPEN = 2
    COMPLEMENT = 3
    RESTOCK = 4
    FIRST = 5


@dataclass
class Sessions:
    """One row per session, in the order of days."""

    client: Ints
    """Position in the shard."""
    day: Ints
    reason: Ints
    category: Ints
    sku: Ints
    """The product that the session is mainly about."""
    ordered: NDArray[np.bool_]
    carted: NDArray[np.bool_]
    """Something went into the cart (always true where ordered)."""


def restock_hazard(age: Floats, period: Floats, shape: float) -> Floats:
    """Weibull hazard per day of buying again `age` days after the last time."""
    scale = np.maximum(period, 1.0)
    hazard: Floats = np.minimum(shape / scale * (np.maximum(age, 0.0) / scale) ** (shape - 1.0), 3.0)
    return hazard


def order_chance(clients: Clients, world: World, rows: Ints, day: int, reason: Ints, category: Ints) -> Floats:
    """Chance that a session ends in an order."""
    b = world.behaviour
    factor = np.array([b.order_base, b.order_follow, b.order_open, b.order_complement, b.order_restock, 0.0])[reason]
    lift = b.sale(np.array([day]))[0]
    scale = clients.order[rows] * world.readiness[category] * lift * factor
    first = np.minimum(clients.first_order[rows] * np.sqrt(lift), 0.95)
    return np.asarray(np.where(reason == Reason.FIRST, first, -np.expm1(-scale)))


def cart_chance(cart: Any, order: Any) -> Any:  # noqa: ANN401
    """Chance that a session without an order fills the cart; arrays that broadcast against each other."""
    return np.minimum(cart + 1.6 * order, 0.5)


def _hazards(clients: Clients, here: Ints, day: int, b: Behaviour) -> Floats:
    """(len(here), 5) hazards of browsing, following up, (unused), complement, restock."""
    hazards = np.zeros((len(here), 5))
    hazards[:, Reason.BROWSE] = clients.rate[here] * b.traffic(np.array([day]))[0]
    hazards[:, Reason.FOLLOW] = b.follow_rate * clients.follow_on[here]
    hazards[:, Reason.COMPLEMENT] = b.complement_rate * clients.wanted_on[here]
    stocked = np.flatnonzero((clients.restock[here] >= 0) & (clients.restock_day[here] >= 0))
    rows = here[stocked]
    age = (day - clients.restock_day[rows]).astype(float)
    hazards[stocked, Reason.RESTOCK] = restock_hazard(age, clients.restock_period[rows], b.restock_shape)
    return hazards


def _browse_category(clients: Clients, world: World, rows: Ints, rng: np.random.Generator, b: Behaviour) -> Ints:
    """Category of a browsing session: a step on the path, the crowd's taste, or the client's own interests."""
    slot = (rng.random(len(rows))[:, None] > np.cumsum(clients.weight[rows], axis=1)[:, :-1]).sum(axis=1)
    category: Ints = clients.interest[rows, slot]
    crowd = rng.random(len(rows)) < b.crowd
    category[crowd] = crowd_category(rng, world, int(crowd.sum()))
    last = clients.last[rows]
    step = (rng.random(len(rows)) < b.path) & (last >= 0)
    category[step] = world.successor[last[step], (rng.random(int(step.sum())) < 0.3).astype(int)]
    return category


def _drift(clients: Clients, world: World, rng: np.random.Generator, b: Behaviour) -> None:
    """Interests move whether or not the client is there: weights are jolted, now and then a slot is replaced."""
    n = len(clients)
    jolted = rng.integers(n, size=rng.binomial(n, b.drift))
    weight = clients.weight[jolted] * np.exp(0.35 * rng.standard_normal((len(jolted), INTERESTS)))
    clients.weight[jolted] = weight / weight.sum(axis=1, keepdims=True)
    switched = rng.integers(n, size=rng.binomial(n, b.switch))
    slot = rng.integers(INTERESTS, size=len(switched))
    if world.places.dimensions:
        there = clients.position[switched]
        turned = draw_near(rng, world.places, world.popularity, there, b.latent, each=1)
        clients.interest[switched, slot] = turned[:, 0]
        return
    near = world.department[clients.interest[switched, (slot + 1) % INTERESTS]]
    fresh = category_of_department(rng, world, near)
    far = rng.random(len(switched)) < 0.5
    fresh[far] = crowd_category(rng, world, int(far.sum()))
    clients.interest[switched, slot] = fresh


def _leave(clients: Clients, rows: Ints, day: int, rng: np.random.Generator, b: Behaviour) -> None:
    """Move clients out; some come back after a while."""
    back = day + 1 + rng.geometric(b.comeback, size=len(rows))
    clients.here[rows] = np.where(back < DAYS, back, NEVER)


def _remember(clients: Clients, world: World, s: Sessions, rng: np.random.Generator, b: Behaviour) -> None:
    """What a session leaves behind in the client's state."""
    rows, day, n = s.client, s.day, len(s.client)
    clients.last[rows], clients.last_day[rows] = s.category, day
    open_cart = s.carted & ~s.ordered
    clients.follow[rows] = np.where(s.ordered, -1, s.category)
    clients.follow_sku[rows], clients.follow_open[rows] = s.sku, open_cart
    clients.follow_on[rows] = ~s.ordered & (rng.random(n) < np.where(open_cart, b.follow_open, b.follow))
    used = rows[s.reason == Reason.COMPLEMENT]
    clients.wanted[used], clients.wanted_on[used] = -1, False
    bought = rows[s.ordered]
    clients.wanted[bought] = world.complement[s.category[s.ordered]]
    clients.wanted_day[bought] = day[s.ordered]
    clients.wanted_on[bought] = rng.random(len(bought)) < b.complement
    stock = rows[(s.ordered & (s.category == clients.restock[rows])) | (s.reason == Reason.RESTOCK)]
    clients.restock_day[stock] = day[0] if n else 0


def simulate_day(
    clients: Clients, world: World, day: int, rng: np.random.Generator, behaviour: Behaviour | None = None
) -> Sessions:
    """One day: changes the state of `clients` and returns the day's sessions. Without a `behaviour` it is the world's."""
    b = behaviour or world.behaviour
    here = np.flatnonzero((clients.here <= day) & (clients.birth <= day))
    hazards = _hazards(clients, here, day, b)
    total = hazards.sum(axis=1)
    first = clients.birth[here] == day
    come = first | (rng.random(len(here)) < -np.expm1(-total))
    rows, hazards = here[come], hazards[come]
    pick = rng.random(len(rows)) * hazards.sum(axis=1)
    reason = (np.cumsum(hazards, axis=1)[:, :-1] <= pick[:, None]).sum(axis=1)
    reason[(reason == Reason.FOLLOW) & clients.follow_open[rows]] = Reason.OPEN
    reason[first[come]] = Reason.FIRST
    category = _browse_category(clients, world, rows, rng, b)
    for why, column in (
        (Reason.FOLLOW, clients.follow),
        (Reason.OPEN, clients.follow),
        (Reason.COMPLEMENT, clients.wanted),
        (Reason.RESTOCK, clients.restock),
    ):
        category = np.where(reason == why, column[rows], category)
    chance = order_chance(clients, world, rows, day, reason, category)
    ordered = rng.random(len(rows)) < chance
    carted = ordered | (rng.random(len(rows)) < cart_chance(clients.cart[rows], chance))
    sku = world.shelf(int(epoch_of(day))).draw(rng, category, clients.taste(rows))
    sku = np.where(reason == Reason.OPEN, clients.follow_sku[rows], sku)
    same = (reason == Reason.RESTOCK) & (rng.random(len(rows)) < b.restock_same)
    sku = np.where(same, clients.restock_sku[rows], sku)
    sessions = Sessions(rows, np.full(len(rows), day), reason, category, sku, ordered, carted)
    _remember(clients, world, sessions, rng, b)
    gone = rng.random(len(rows)) < np.where(first[come], clients.first_leave[rows], 0.0)
    quiet = here[(rng.random(len(here)) < b.leave) & ~clients.bot[here].astype(bool)]
    _leave(clients, np.union1d(rows[gone], quiet), day, rng, b)
    _drift(clients, world, rng, b)
    return sessions


def simulate(clients: Clients, world: World, rng: np.random.Generator, cut: int = CUT_DAY) -> tuple[Sessions, Clients]:
    """All days. Returns the sessions and a copy of the relevant clients as they stood at the start of day `cut`."""
    days, at_cut = [], clients
    for day in range(DAYS):
        if day == cut:
            at_cut = clients.take(clients.relevant)
        days.append(simulate_day(clients, world, day, rng))
    columns = {name: np.concatenate([getattr(d, name) for d in days]) for name in Sessions.__dataclass_fields__}
    return Sessions(**columns), at_cut
