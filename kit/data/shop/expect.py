"""Expected orders after the cut: the first moments of the process in `simulate`, day by day, from what can be known.

Known are tastes, rates and restock rhythms at the cut; what is hidden enters through `belief`; what happens later
(interests that switch, weights that drift, clients who leave) is averaged over. Clients whose first visit lies after the
cut are followed from that visit on, and only the average over all of them is ever used: nothing tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kit.challenge import TARGET_DAYS
from kit.data.shop.behaviour import Behaviour, Floats
from kit.data.shop.belief import Belief
from kit.data.shop.clients import Clients
from kit.data.shop.nearness import attention
from kit.data.shop.presets import DAYS, INTERESTS
from kit.data.shop.simulate import cart_chance, restock_hazard
from kit.data.shop.truth import TrueCatalogue

Matrix = NDArray[np.float32]
OLDEST: Final = 90
"""Days since a restock are counted up to this."""
STEP: Final = (0.7, 0.3)
"""Chances of a category's two successors."""


@dataclass
class Day:
    """Expected orders of one day, given that the client is present, and how likely that is."""

    day: int
    orders: Matrix
    """(n, categories)."""
    restocks: Floats
    """(n,): the part of the orders that restocks."""
    entries: Floats
    """(n,): the part of the orders that end a first visit."""
    chained: Floats
    """(n,): the part that only follows from another order since the window began: it cannot be the first of the window."""
    here: Floats
    """(n,): chance of presence if present when the window begins (before that: at the cut)."""
    back: Floats
    """(n,): chance of presence if away then; 0 for clients not seen before."""


class ExpectedFuture:
    """State of a group of clients after the cut, in expectation. Iterating yields one `Day` after another.

    Args:
        shop: the catalogue.
        clients: as they stood at the cut.
        belief: what is believed about them then.
        days: length of each target window: the cut lies two of them before the end.
        interests: instead of the clients' own, what `interests_of` returns.
    """

    def __init__(
        self,
        shop: TrueCatalogue,
        clients: Clients,
        belief: Belief,
        b: Behaviour | None = None,
        days: int = TARGET_DAYS,
        interests: tuple[Matrix, Matrix] | None = None,
    ) -> None:
        self.shop, self.clients, self.b = shop, clients, b or shop.behaviour
        self.cut, self.window = DAYS - 2 * days, DAYS - days
        self.known = clients.last_day >= 0
        n, k = len(clients), len(shop.popularity)
        rows = np.arange(n)
        self.came_from = np.argsort(shop.successor, axis=0)  # successors are one-to-one, so this inverts both maps
        self.wanted_by = np.argsort(shop.complement)
        self.last, self.plain, self.open, self.want = (np.zeros((n, k), np.float32) for _ in range(4))
        seen = rows[self.known]
        self.last[seen, clients.last[seen]] = 1.0
        for slot, ends_open in ((self.plain, False), (self.open, True)):
            follow = rows[self.known & (clients.follow >= 0) & (clients.follow_open == ends_open)]
            slot[follow, clients.follow[follow]] = belief.follow[follow]
        wants = rows[self.known & (clients.wanted >= 0)]
        self.want[wants, clients.wanted[wants]] = belief.wanted[wants]
        self.interest, self.stray = interests_of(shop, clients) if interests is None else interests
        self.age = np.zeros((n, OLDEST + 1), np.float32)
        stocked = rows[(clients.restock >= 0) & (clients.restock_day >= 0)]
        self.age[stocked, np.minimum(self.cut - clients.restock_day[stocked], OLDEST)] = 1.0
        self.renewed = np.zeros_like(self.want)
        self.here = np.where(self.known, 1.0, 0.0)
        self.back = np.zeros(n)
        self.present = np.where(self.known, belief.present, 1.0)
        """Chance of presence when the window begins; 1 for clients who first come later."""

    def __iter__(self) -> Iterator[Day]:
        for day in range(self.cut, DAYS):
            if day == self.window:
                self._begin_window()
            born = ~self.known & (self.clients.birth == day)
            self.here = np.where(born, 1.0, self.here)
            yield self._step(day, born)
            leave = np.where(born, 1 - (1 - self.b.leave) * (1 - self.clients.first_leave), self.b.leave)
            self.here = self._presence(self.here, leave, ~self.known & (self.clients.birth > day))
            self.back = self._presence(self.back, leave, ~self.known)

    def _begin_window(self) -> None:
        """From here on presence is told apart by who is present now, and orders by whether they can be the first."""
        begun = self.known | (self.clients.birth < self.window)
        now = np.where(self.known, self.present * self.here + (1 - self.present) * self.back, self.here)
        self.present = np.where(begun, now, 1.0)
        self.here, self.back = np.where(begun, 1.0, 0.0), np.zeros(len(begun))
        self.known = begun
        self.renewed[:] = 0

    def _presence(self, here: Floats, leave: Floats, unborn: NDArray[np.bool_]) -> Floats:
        return np.where(unborn, 0.0, here * (1 - leave) + (1 - here) * self.b.comeback)

    def _browse(self, day: int) -> Matrix:
        """(n, categories) category of a browsing session."""
        b = self.b
        kept = np.float32(np.exp(-(day - self.cut) * b.switch / INTERESTS))
        crowd = self.shop.popularity.astype(np.float32)
        free = (1 - b.crowd) * (kept * self.interest + (1 - kept) * self.stray) + b.crowd * crowd
        path = STEP[0] * self.last[:, self.came_from[:, 0]] + STEP[1] * self.last[:, self.came_from[:, 1]]
        known = self.last.sum(axis=1, keepdims=True)
        return np.asarray(b.path * path + (1 - b.path * known) * free, dtype=np.float32)

    def _restock(self, day: int) -> tuple[Floats, Floats]:
        """(n,) chance that the restock fires today, and its hazard; ages move on by a day."""
        ages = np.arange(OLDEST + 1, dtype=float)
        has = np.flatnonzero(self.age.any(axis=1))
        fires, hazard = np.zeros(len(self.age)), np.zeros(len(self.age))
        rate = restock_hazard(ages[None, :], self.clients.restock_period[has, None], self.b.restock_shape)
        fired = self.age[has] * -np.expm1(-rate)
        fires[has], hazard[has] = fired.sum(axis=1), (self.age[has] * rate).sum(axis=1)
        stay = self.age[has] - fired
        moved = np.zeros_like(stay)
        moved[:, 1:] = stay[:, :-1]
        moved[:, -1] += stay[:, -1]
        moved[:, 1] += fires[has]
        self.age[has] = moved
        return fires, hazard

    def _step(self, day: int, born: NDArray[np.bool_]) -> Day:
        """Expected orders of the day for present clients; moves all state but presence on by a day."""
        b, n = self.b, len(self.clients)
        fires, restock_rate = self._restock(day)
        begun = self.known | (self.clients.birth < day)
        steady = np.where(begun, self.clients.rate * b.traffic(np.array([day]))[0], 0.0)
        other = steady + restock_rate
        pending = (self.plain.sum(axis=1) + self.open.sum(axis=1)).astype(float)
        wanting = self.want.sum(axis=1).astype(float)
        alone, beside = _share(other, 0.0), _share(other, b.follow_rate)
        browse = steady * ((1 - pending) * alone + pending * beside) * np.exp(-0.5 * b.complement_rate * wanting)
        followed = np.float32(b.follow_rate) * _share(other, b.follow_rate).astype(np.float32)
        wanted = np.float32(b.complement_rate) * _share(other, b.complement_rate).astype(np.float32)
        mix = self._browse(day)
        first = np.where(born, 1.0, 0.0).astype(np.float32)
        into = {
            "order_base": browse[:, None].astype(np.float32) * mix,
            "order_follow": followed[:, None] * self.plain,
            "order_open": followed[:, None] * self.open,
            "order_complement": wanted[:, None] * self.want,
        }
        lift = b.sale(np.array([day]))[0]
        scale = (self.clients.order * lift)[:, None].astype(np.float32) * self.shop.readiness.astype(np.float32)
        orders, carts, cart = np.zeros_like(mix), np.zeros_like(mix), self.clients.cart[:, None].astype(np.float32)
        for name, sessions in into.items():
            chance = -np.expm1(-scale * getattr(b, name))
            orders += sessions * chance
            carts += sessions * (1 - chance) * cart_chance(cart, chance)
        enters = np.minimum(self.clients.first_order * np.sqrt(lift), 0.95)
        orders += (first * enters)[:, None].astype(np.float32) * mix
        carts += (first * (1 - enters) * cart_chance(self.clients.cart, enters))[:, None].astype(np.float32) * mix
        sessions = sum(into.values(), first[:, None] * mix)
        rows, stock = np.arange(n), np.maximum(self.clients.restock, 0)
        restocks = fires * -np.expm1(-scale[rows, stock] * b.order_restock)
        sessions[rows, stock] += fires.astype(np.float32)
        orders[rows, stock] += restocks.astype(np.float32)
        renewed = wanted[:, None] * self.renewed
        chained = (renewed * -np.expm1(-scale * b.order_complement)).sum(axis=1).astype(float)
        quiet = np.exp(-(other + b.follow_rate)).astype(np.float32)[:, None]
        no_order = np.maximum(1 - orders.sum(axis=1, keepdims=True), 0)
        self.renewed = (self.renewed - renewed) * no_order + np.float32(b.complement) * orders[:, self.wanted_by]
        self._remember(sessions, orders, carts, into["order_complement"], quiet)
        return Day(day, orders, restocks, first * enters, chained, self.here.copy(), self.back.copy())

    def _remember(self, sessions: Matrix, orders: Matrix, carts: Matrix, fired: Matrix, quiet: Matrix) -> None:
        """The mean of what `simulate` does to a client's state; `quiet` (n, 1): no session though one was pending."""
        b = self.b
        none = np.maximum(1 - sessions.sum(axis=1, keepdims=True), 0)
        no_order = np.maximum(1 - orders.sum(axis=1, keepdims=True), 0)
        self.last = self.last * none + sessions
        self.open = self.open * quiet + np.float32(b.follow_open) * carts
        self.plain = self.plain * quiet + np.float32(b.follow) * (sessions - orders - carts)
        self.want = (self.want - fired) * no_order + np.float32(b.complement) * orders[:, self.wanted_by]


def interests_of(shop: TrueCatalogue, clients: Clients) -> tuple[Matrix, Matrix]:
    """(n, categories) attention to own interests at the cut, and what slots that switch will turn to."""
    n = len(clients.interest)
    own = np.zeros((n, len(shop.popularity)), np.float32)
    np.add.at(own, (np.arange(n)[:, None], clients.interest), clients.weight.astype(np.float32))
    if shop.places.dimensions:
        return own, attention(shop.places, shop.popularity, clients.position, shop.behaviour.latent)
    of_department = np.zeros((int(shop.department.max()) + 1, len(shop.popularity)), np.float32)
    of_department[shop.department, np.arange(len(shop.popularity))] = shop.popularity
    of_department /= np.maximum(of_department.sum(axis=1, keepdims=True), 1e-12)
    near = np.zeros_like(own)
    for slot in range(INTERESTS):
        neighbour = shop.department[clients.interest[:, (slot + 1) % INTERESTS]]
        near += clients.weight[:, slot, None].astype(np.float32) * of_department[neighbour]
    return own, 0.5 * near + 0.5 * shop.popularity.astype(np.float32)


def _share(other: Floats, own: float) -> Floats:
    """(1 - exp(-h)) / h for h = other + own: hazards of at most one session a day to chances."""
    total = np.maximum(other + own, 1e-9)
    return np.asarray(-np.expm1(-total) / total)
