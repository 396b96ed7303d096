"""The shop itself: categories and what they lead to, products with prices, styles and codes, shelves over time, pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kit.challenge import PRICE_BUCKETS
from kit.data.shop.behaviour import BEHAVIOUR, Behaviour, Floats, Ints
from kit.data.shop.codes import LATENT, Quantiser
from kit.data.shop.nearness import Places, draw_places
from kit.data.shop.presets import CELLS, DAYS, EPOCH_DAYS, FRESH_DAYS, PRICE_BINS, STYLES, Preset

HOME_URLS: Final = 6
CATEGORY_URLS: Final = 3
HALF_LIFE: Final = 21.0


@dataclass(frozen=True)
class Shelf:
    """What can be chosen in one epoch: products sorted by (category, cell), with cumulated attraction."""

    mass: NDArray[np.float32]
    """(categories, CELLS): attraction per cell."""
    skus: NDArray[np.int32]
    """Available products in sorted order."""
    cumulated: Floats
    """(len(skus) + 1,): running sum of attraction."""
    first: Ints
    """(categories * CELLS + 1,): where each cell starts in `skus`."""

    def draw(self, rng: np.random.Generator, category: Ints, taste: NDArray[np.float32]) -> Ints:
        """One product per row, from that row's category, with cells weighted by taste (rows, CELLS)."""
        if len(category) == 0:
            return np.zeros(0, dtype=np.int64)
        weights = np.cumsum(self.mass[category] * taste, axis=1)
        pick = rng.random(len(category), dtype=np.float32)[:, None] * weights[:, -1:]
        cell = np.minimum((weights <= pick).sum(axis=1), CELLS - 1)
        empty = self.mass[category, cell] == 0  # rounding put the pick on a border: take the fullest cell
        cell[empty] = (self.mass[category[empty]] * taste[empty]).argmax(axis=1)
        slot = category * CELLS + cell
        low, high = self.cumulated[self.first[slot]], self.cumulated[self.first[slot + 1]]
        at = np.searchsorted(self.cumulated, low + rng.random(len(slot)) * (high - low), side="right") - 1
        return np.asarray(self.skus[np.clip(at, self.first[slot], self.first[slot + 1] - 1)], dtype=np.int64)


@dataclass
class World:
    """Everything that does not depend on a client. Indices inside, ids (without meaning) in the files."""

    preset: Preset
    department: Ints
    """(categories,) department of each category."""
    popularity: Floats
    """(categories,) share of the crowd's attention."""
    readiness: Floats
    """(categories,) factor on the chance that a session ends in an order."""
    successor: Ints
    """(categories, 2): what is browsed next, with chances .7 and .3."""
    complement: Ints
    """(categories,): what an order makes wanted soon after."""
    period: Floats
    """(categories,): typical days between restocks; 0 = nobody restocks it."""
    category: Ints
    """(skus,) category of each product."""
    price: Ints
    style: Ints
    launch: Ints
    """(skus,) day on which the product appears; 0 = always there."""
    appeal: Floats
    """(skus,) attraction apart from novelty."""
    latent: NDArray[np.float32]
    """(skus, LATENT): what the codes are made from."""
    quantiser: Quantiser
    sku_ids: Ints
    category_ids: Ints
    client_ids: NDArray[np.int32]
    url_ids: NDArray[np.int32]
    pages: Ints
    """(skus + 1,): the pages of product s are [pages[s], pages[s + 1])."""
    places: Places
    """Where categories and styles lie, if tastes are positions."""
    behaviour: Behaviour = BEHAVIOUR
    shelves: dict[int, Shelf] = field(default_factory=dict)

    @property
    def cell(self) -> Ints:
        """(skus,) cell of each product when it is no longer fresh."""
        return cell_of(self.price, self.style)

    @property
    def tail_start(self) -> int:
        """First page of the long tail."""
        return int(self.pages[-1])

    def attraction(self, epoch: int) -> tuple[Floats, NDArray[np.bool_]]:
        """(skus,) attraction in an epoch (0 = not yet there) and whether the product counts as fresh."""
        return attraction(self.launch, self.appeal, epoch, self.behaviour.novelty)

    def shelf(self, epoch: int) -> Shelf:
        """The shelf of an epoch; built once."""
        if epoch not in self.shelves:
            weight, fresh = self.attraction(epoch)
            there = np.flatnonzero(weight > 0)
            slot = (self.category * CELLS + self.cell + fresh)[there]
            order = np.argsort(slot, kind="stable")
            slots = len(self.popularity) * CELLS
            mass = np.bincount(slot, weights=weight[there], minlength=slots)
            first = np.searchsorted(slot[order], np.arange(slots + 1))
            cumulated = np.concatenate([[0.0], np.cumsum(weight[there][order])])
            self.shelves[epoch] = Shelf(
                mass.reshape(-1, CELLS).astype(np.float32), there[order].astype(np.int32), cumulated, first
            )
        return self.shelves[epoch]


def cell_of(price: Ints, style: Ints) -> Ints:
    """Cell (price bin, style, not fresh) of products by price bucket and style; a fresh one lies in the next cell."""
    cell: Ints = (price * PRICE_BINS // PRICE_BUCKETS * STYLES + style) * 2
    return cell


def attraction(
    launch: Ints, appeal: Floats, epoch: int, novelty: float = BEHAVIOUR.novelty
) -> tuple[Floats, NDArray[np.bool_]]:
    """Attraction of products in an epoch (0 = not yet there) and whether they count as fresh."""
    age = epoch * EPOCH_DAYS - launch
    new = launch > 0
    boost = 1.0 + novelty * new * 0.5 ** (np.maximum(age, 0) / HALF_LIFE)
    return np.where(age >= 0, appeal * boost, 0.0), new & (age >= 0) & (age < FRESH_DAYS)


def epoch_of(day: Ints | int) -> Ints | int:
    """Epoch of a day."""
    return day // EPOCH_DAYS


def _normal(rng: np.random.Generator, rows: int) -> NDArray[np.float32]:
    return rng.standard_normal((rows, LATENT), dtype=np.float32)


def build_world(preset: Preset, rng: np.random.Generator, behaviour: Behaviour = BEHAVIOUR) -> World:
    """Draw a catalogue of the preset's size."""
    categories, skus = preset.categories, preset.skus
    department = rng.integers(preset.departments, size=categories)
    rank = (rng.permutation(categories) + 3.0).astype(np.float64)
    popularity: Floats = rank**-0.8 / (rank**-0.8).sum()
    depth = np.maximum(5, rng.multinomial(skus, popularity**0.6 / (popularity**0.6).sum()))
    category = np.repeat(np.arange(categories), depth)[rng.permutation(depth.sum())][:skus]
    category[: 2 * categories] = np.repeat(np.arange(categories), 2)  # none is ever empty: these are there from day 0
    launch = np.where(
        rng.random(skus) < behaviour.launched, rng.integers(1, DAYS // EPOCH_DAYS + 1, skus) * EPOCH_DAYS, 0
    )
    launch[: 2 * categories] = 0
    level = rng.standard_normal(categories)[category] * 0.8 + rng.standard_normal(skus)
    price = np.argsort(np.argsort(level)) * PRICE_BUCKETS // skus
    style = rng.integers(STYLES, size=skus)
    latent = _latent(rng, department[category], category, style)
    appeal = np.exp(1.6 * rng.standard_normal(skus))
    appeal *= popularity[category] / np.bincount(category, appeal, categories)[category]
    per_sku = 1 + rng.integers(0, 4, skus)
    pages = HOME_URLS + CATEGORY_URLS * categories + np.concatenate([[0], np.cumsum(per_sku)])
    restocked = rng.random(categories) < 0.3
    return World(
        preset=preset,
        department=department,
        popularity=popularity,
        readiness=np.exp(0.6 * rng.standard_normal(categories)),
        successor=np.stack([_derangement(rng, categories), _derangement(rng, categories)], axis=1),
        complement=_derangement(rng, categories),
        period=np.where(restocked, rng.uniform(9, 35, categories), 0.0),
        category=category,
        price=price,
        style=style,
        launch=launch,
        appeal=appeal,
        latent=latent,
        quantiser=Quantiser(rng),
        sku_ids=rng.permutation(skus * 2)[:skus],
        category_ids=rng.permutation(categories * 2)[:categories],
        client_ids=rng.permutation(np.int32(preset.clients * 1.15))[: preset.clients].astype(np.int32),
        url_ids=rng.permutation(np.int32(pages[-1] + preset.tail_urls)).astype(np.int32),
        pages=pages,
        places=draw_places(rng, behaviour, department, category, style, latent),
        behaviour=behaviour,
    )


def _latent(rng: np.random.Generator, *factors: Ints) -> NDArray[np.float32]:
    """(skus, LATENT) vectors: each pair of coordinates mixes what department, category, style and the product itself say.

    The mixing weights differ from pair to pair, so that some codes hardly tell more than the category, others the style.
    """
    weight = np.sqrt(rng.dirichlet([0.5] * (len(factors) + 1), size=LATENT // 2)).repeat(2, axis=0).astype(np.float32)
    latent = weight[:, -1] * _normal(rng, len(factors[0]))
    for part, factor in enumerate(factors):
        latent += weight[:, part] * _normal(rng, int(factor.max()) + 1)[factor]
    return latent


def _derangement(rng: np.random.Generator, size: int) -> Ints:
    """A random map of 0..size-1 onto itself without fixed points: one big cycle."""
    ring = rng.permutation(size)
    target = np.empty(size, dtype=np.int64)
    target[ring] = np.roll(ring, -1)
    return target
