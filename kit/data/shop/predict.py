"""From expected orders to the six tasks: the chance that each client buys each target in the validation window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kit.challenge import PRICE_BUCKETS, TaskName
from kit.data.shop.behaviour import Floats, Ints
from kit.data.shop.belief import Belief, believe
from kit.data.shop.clients import Clients, taste
from kit.data.shop.expect import Day, ExpectedFuture, Matrix
from kit.data.shop.posterior import Pool, Tastes, came_once, guesses, nothing_seen
from kit.data.shop.presets import CELLS, DAYS, INTERESTS
from kit.data.shop.truth import TrueCatalogue, Truth
from kit.data.shop.world import attraction, epoch_of
from kit.progress import track

PAIRS_AT_ONCE: Final = 250_000
"""Clients are handled in chunks of this many (client, category) pairs: what fits a processor's cache."""


@dataclass(frozen=True)
class Targets:
    """Positions of the targets of the propensity tasks in the catalogue; -1 for an id that the shop does not have."""

    category: Ints
    sku: Ints
    new_sku: Ints
    price: Ints

    @classmethod
    def of(cls, shop: TrueCatalogue, lists: dict[str, Ints]) -> Targets:
        """From the ids of the split's lists; a missing list is empty."""
        none = np.zeros(0, dtype=np.int64)
        return cls(
            _positions(shop.category_ids, lists.get(TaskName.CATEGORY, none)),
            _positions(shop.sku_ids, lists.get(TaskName.SKU, none)),
            _positions(shop.sku_ids, lists.get(TaskName.NEW_SKU, none)),
            lists.get(TaskName.PRICE, none),
        )


def _positions(ids: Ints, wanted: Ints) -> Ints:
    order = np.argsort(ids)
    at = order[np.minimum(np.searchsorted(ids[order], wanted), len(ids) - 1)]
    return np.where(ids[at] == wanted, at, -1)


def predict(truth: Truth, targets: Targets, seen: Matrix | None = None) -> dict[str, Matrix]:
    """(n, labels) probabilities per task, rows as in `truth.clients`; churn and conversion: of no purchase.

    Clients without a session before the cut all get the mean of their group's, those with one what it shows (`posterior`).

    Args:
        truth: the shop, and its clients at the cut.
        targets: what is asked for.
        seen: (n, CELLS) how many products of each cell the clients met in their last session; none by default.
    """
    clients, shop = truth.clients, truth.catalogue
    shelves = {
        int(e): _Tables.of(shop, int(e)) for e in np.unique(np.asarray(epoch_of(np.arange(DAYS - truth.days, DAYS))))
    }
    size = max(1, PAIRS_AT_ONCE // len(shop.popularity))
    chunks = [
        _predict(shop, clients.take(np.arange(start, min(start + size, len(clients)))), targets, shelves, truth.days)
        for start in track(range(0, len(clients), size), "expected orders", -(-len(clients) // size))
    ]
    whole = {task.value: np.concatenate([chunk[task] for chunk in chunks]) for task in TaskName}
    once = np.flatnonzero(came_once(clients))
    if len(once):
        tastes = _tastes(truth, clients.take(once), nothing_seen(clients)[once] if seen is None else seen[once])
        parts = [np.arange(len(once))[start : start + size] for start in range(0, len(once), size)]
        for part in track(parts, "those who came once", len(parts)):
            some = _guess(truth, clients.take(once[part]), targets, shelves, tastes.take(part))
            for task, values in some.items():
                whole[task][once[part]] = values
    unseen = clients.last_day < 0
    for chances in whole.values():
        if unseen.any():
            chances[unseen] = chances[unseen].mean(axis=0)
    return whole


@dataclass(frozen=True)
class _Tables:
    """The shelf of one epoch in the form that expectations need."""

    weight: Floats
    """(skus,) attraction."""
    cell: Ints
    """(skus,) cell."""
    mass: Matrix
    """(categories, CELLS) attraction, and below the same of its squares."""
    squares: Matrix
    prices: list[tuple[Ints, Matrix]]
    """Per cell its price buckets (b,) and their attraction (categories, b)."""

    @classmethod
    def of(cls, shop: TrueCatalogue, epoch: int) -> _Tables:
        weight, fresh = attraction(shop.launch, shop.appeal, epoch, shop.behaviour.novelty)
        cell, k = shop.cell + fresh, len(shop.popularity)
        slot = shop.category * CELLS + cell
        mass, squares = (
            np.bincount(slot, values, k * CELLS).reshape(k, CELLS).astype(np.float32) for values in (weight, weight**2)
        )
        prices = []
        for one in range(CELLS):
            inside = np.flatnonzero((cell == one) & (weight > 0))
            buckets, at = np.unique(shop.price[inside], return_inverse=True)
            width = max(1, len(buckets))
            table = np.bincount(shop.category[inside] * width + at, weight[inside], k * width).reshape(k, width)
            prices.append((buckets, table[:, : len(buckets)].astype(np.float32)))
        return cls(weight, cell, mass, squares, prices)


def _predict(
    shop: TrueCatalogue,
    clients: Clients,
    targets: Targets,
    shelves: dict[int, _Tables],
    days: int,
    belief: Belief | None = None,
    tastes: Tastes | None = None,
) -> dict[str, Matrix]:
    """Probabilities of a chunk of clients in the second window of `days`, present and away ones mixed by the posterior.

    `belief` and `tastes` are known already for those whose own traits are not to be read.
    """
    if belief is None:
        belief = believe(clients, DAYS - 2 * days, shop.behaviour)
    interests = None if tastes is None else (tastes.own, tastes.stray)
    future = ExpectedFuture(shop, clients, belief, days=days, interests=interests)
    meetings = _Meetings(shop, clients, targets, shelves, None if tastes is None else tastes.cells)
    for day in future:
        if day.day >= future.window:
            meetings.add(day)
    present = future.present.astype(np.float32)[:, None]
    mixed = {
        task: -present * np.expm1(-here) - (1 - present) * np.expm1(-back)
        for task, (here, back) in meetings.finish().items()
    }
    mixed[TaskName.CONVERSION] = 1 - mixed[TaskName.CONVERSION]
    return {
        task: values.astype(np.float32)
        for task, values in (mixed | {TaskName.CHURN: mixed[TaskName.CONVERSION]}).items()
    }


def _tastes(truth: Truth, clients: Clients, seen: Matrix) -> Tastes:
    """What the one session of these clients shows of their tastes, the shelves' attraction taken at the cut."""
    shop, cut = truth.catalogue, DAYS - 2 * truth.days
    kept = np.exp(-(cut - clients.birth) * shop.behaviour.switch / INTERESTS)
    mass = _Tables.of(shop, int(epoch_of(cut))).mass
    return Pool(truth).tastes(clients.last, seen, mass, kept)


def _guess(
    truth: Truth, clients: Clients, targets: Targets, shelves: dict[int, _Tables], tastes: Tastes
) -> dict[str, Matrix]:
    """Probabilities of clients who came once, averaged over how often they may come."""
    shop, logs, found = truth.catalogue, [], []
    for some, share in guesses(clients, truth.preset.density):
        belief = believe(some, DAYS - 2 * truth.days, shop.behaviour)
        logs.append(belief.silence + np.log(share))
        found.append(_predict(shop, some, targets, shelves, truth.days, belief, tastes))
    weight = np.exp(np.stack(logs) - np.max(logs, axis=0))
    weight /= weight.sum(axis=0)
    return {
        task: np.asarray(sum(w[:, None] * one[task] for w, one in zip(weight, found, strict=True)), dtype=np.float32)
        for task in found[0]
    }


class _Meetings:
    """Adds up how often clients are expected to meet each target; the orders of one epoch share a shelf."""

    def __init__(
        self,
        shop: TrueCatalogue,
        clients: Clients,
        targets: Targets,
        shelves: dict[int, _Tables],
        cells: Matrix | None = None,
    ) -> None:
        self.shop, self.clients, self.targets, self.shelves = shop, clients, targets, shelves
        self.orders: dict[int, Matrix] = {}
        self.restocks: dict[int, Floats] = {}
        self.back: dict[int, Floats] = {}
        """Per epoch, orders expected of clients that are away at first: (n,) totals; their mix is that of `orders`."""
        self.chained: dict[int, Floats] = {}
        self.once = np.zeros((2, len(clients)))
        """Orders that come at most once in a window, of present clients: restocks, and those that end a first visit."""
        self.taste = taste(clients.price, clients.liking, clients.fresh, clients.spread) if cells is None else cells
        self.bundled = np.argsort(shop.complement)

    def add(self, day: Day) -> None:
        """One day's expected orders."""
        epoch = int(epoch_of(day.day))
        orders = day.orders * day.here[:, None].astype(np.float32)
        nothing = np.zeros(len(self.clients))
        self.orders[epoch] = self.orders.get(epoch, np.float32(0)) + orders
        self.restocks[epoch] = self.restocks.get(epoch, nothing) + day.restocks * day.here
        self.once += np.stack([day.restocks, day.entries]) * day.here
        self.chained[epoch] = self.chained.get(epoch, nothing) + day.chained * day.here
        self.back[epoch] = self.back.get(epoch, nothing) + day.orders.sum(axis=1) * day.back

    def finish(self) -> dict[str, tuple[Matrix, Matrix]]:
        """Per task the expected meetings if present and if away at first (purchases; conversion: possible first orders)."""
        totals: dict[str, list[Matrix]] = {}
        for epoch, orders in self.orders.items():
            sums = orders.sum(axis=1)
            share = (self.back[epoch] / np.maximum(sums, 1e-12)).astype(np.float32)[:, None]
            for task, met in self._meet(epoch, orders, sums).items():
                pair = totals.setdefault(task, [np.zeros_like(met), np.zeros_like(met)])
                pair[0] += met
                pair[1] += share * met
        self._sharpen(totals)
        return {task: (pair[0], pair[1]) for task, pair in totals.items()}

    def _meet(self, epoch: int, orders: Matrix, sums: NDArray[np.float32]) -> dict[str, Matrix]:
        shelf, bundled = self.shelves[epoch], np.float32(self.shop.behaviour.bundle) * orders[:, self.bundled]
        demand = self.taste @ shelf.mass.T  # (n, categories)
        per_mass = (self._items(epoch, orders, demand) + bundled) / np.maximum(demand, np.float32(1e-12))
        again = (self.shop.behaviour.restock_same * self.restocks[epoch]).astype(np.float32)
        price = np.zeros((len(orders), PRICE_BUCKETS), np.float32)
        for one, (buckets, table) in enumerate(shelf.prices):
            price[:, buckets] += self.taste[:, one, None] * (per_mass @ table)
        rows = np.flatnonzero(self.clients.restock_sku >= 0)
        price[rows, self.shop.price[self.clients.restock_sku[rows]]] += again[rows]
        return {
            TaskName.CATEGORY: _columns(orders + bundled, self.targets.category),
            TaskName.SKU: self._products(self.targets.sku, shelf, per_mass, again),
            TaskName.NEW_SKU: self._products(self.targets.new_sku, shelf, per_mass, again),
            TaskName.PRICE: np.asarray(price[:, self.targets.price]),
            TaskName.CONVERSION: (sums - self.chained[epoch]).astype(np.float32)[:, None],
        }

    def _sharpen(self, totals: dict[str, list[Matrix]]) -> None:
        """Meetings are taken as Poisson, P = 1 - exp(-m), but what happens at most once with chance p has P = p.

        Adds to the meetings of present clients what makes up for that.
        """
        restock, entry = _deficit(self.once)
        again = _deficit(self.shop.behaviour.restock_same * self.once[0])[:, None]
        totals[TaskName.CONVERSION][0] += (restock + entry)[:, None]
        totals[TaskName.CATEGORY][0] += restock[:, None] * (self.clients.restock[:, None] == self.targets.category)
        for task, wanted in ((TaskName.SKU, self.targets.sku), (TaskName.NEW_SKU, self.targets.new_sku)):
            totals[task][0] += again * ((self.clients.restock_sku[:, None] == wanted) & (wanted >= 0))
        rows = np.flatnonzero(self.clients.restock_sku >= 0)
        bucket = self.shop.price[self.clients.restock_sku[rows]]
        totals[TaskName.PRICE][0][rows] += again[rows] * (bucket[:, None] == self.targets.price)

    def _items(self, epoch: int, orders: Matrix, demand: Matrix) -> Matrix:
        """(n, categories) distinct products of the main category drawn from the shelf; a basket holds none twice.

        Of B draws with chances q, q B / (1 + q (B - 1)) on average hit a product if B is geometric; here with the mean q
        of a category's products, weighted by q. Restocks of the same product are not drawn.
        """
        more = np.float32(self.shop.behaviour.basket - 1)
        alike = (self.taste**2 @ self.shelves[epoch].squares.T) / np.maximum(demand, np.float32(1e-12)) ** 2
        items = (1 + more) * orders / (1 + more * alike)
        has = np.flatnonzero(self.restocks[epoch])
        again = self.shop.behaviour.restock_same * self.restocks[epoch][has]
        items[has, self.clients.restock[has]] -= again.astype(np.float32)
        return np.asarray(np.maximum(items, 0))

    def _products(self, wanted: Ints, shelf: _Tables, per_mass: Matrix, again: NDArray[np.float32]) -> Matrix:
        """(n, len(wanted)) expected purchases of products; -1 marks unknown ones."""
        s = np.maximum(wanted, 0)
        met = per_mass[:, self.shop.category[s]] * self.taste[:, shelf.cell[s]] * shelf.weight[s].astype(np.float32)
        met += again[:, None] * (self.clients.restock_sku[:, None] == s)
        return np.asarray(met * (wanted >= 0), dtype=np.float32)


def _deficit(chance: Floats) -> NDArray[np.float32]:
    """m - p, where m is the Poisson mean at which 1 - exp(-m) = p."""
    safe = np.minimum(chance, 0.98)
    return np.asarray(-np.log1p(-safe) - safe, dtype=np.float32)


def _columns(values: Matrix, wanted: Ints) -> Matrix:
    return np.asarray(values[:, np.maximum(wanted, 0)] * (wanted >= 0), dtype=np.float32)
