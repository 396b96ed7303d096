"""Expected demand: how much a client wants a category, a price, a look. Shared by the families about targets.

Interest in categories is a Dirichlet-multinomial posterior: the client's own evidence (products touched; categories that
visits and searches point to) drawn to the shop's shares as if by PRIOR touches. Multiplied by how active the client has been
lately it becomes an expected amount, which can be compared between clients: what an AUROC per target asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from kit.challenge import PRICE_BUCKETS, EventType
from kit.features.browsing import url_meaning, visit_matrix
from kit.features.embedding import DIMS, category_vectors, item_vectors
from kit.features.matrix import (
    Floats,
    Vectors,
    client_blocks,
    client_matrix,
    decayed_weight,
    exact_product,
    on_grid,
    positions,
    unit,
)
from kit.features.price_affinity import closeness, price_interest
from kit.features.shared import catalogue, sku_facts, table, touches
from kit.features.taste import mean_vector, query_vectors
from kit.history import History

HALF_LIFE = 30.0
QUERY_HALF_LIFE = 14.0
PRIOR = 3.0
VISIT_WEIGHT, SEARCH_WEIGHT = 0.02, 0.1
"""A visit or search without known meaning, as part of a touch of a product, when activity is measured."""
QUERY_EVIDENCE = 0.3
"""A search as part of a touch, when its category is guessed from its codes."""
GUESSED = 256
"""A search's category is guessed among the wanted ones and the largest of the rest, so many in all."""
BACKGROUND = 0.05
"""Activity of a client without events: keeps their scores finite and in the order of the priors."""
LOOK = 1.5
"""Weight of the agreement of codes in a product's log score."""
SHARPNESS = (2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
"""Candidate factors on the cosine of a softmax over categories; the catalogue's own products choose."""


@dataclass(frozen=True)
class Products:
    """Products to score, known by their properties alone, n of them.

    Attributes:
        category: ids, -1 = unknown, int64 (n,).
        price: buckets, -1 = unknown, int64 (n,).
        vector: unit vectors on the grid, float32 (n, DIMS).
    """

    category: NDArray[np.int64]
    price: NDArray[np.int64]
    vector: Vectors


def products_of(history: History, skus: NDArray[np.int64]) -> Products:
    """Properties of skus; unknown ones have none."""
    frame = catalogue(history)
    index = positions(pl.Series(skus, dtype=pl.Int64), frame["sku"].to_numpy())
    known = index >= 0
    category, price = (frame[name].fill_null(-1).to_numpy() for name in ("category", "price"))
    vector = np.zeros((len(skus), DIMS), dtype=np.float32)
    vector[known] = item_vectors(history)[index[known]]
    if len(frame) == 0:
        return Products(np.full(len(skus), -1), np.full(len(skus), -1), vector)
    return Products(np.where(known, category[index], -1), np.where(known, price[index], -1), vector)


def activity(history: History) -> Floats:
    """Decayed amount of everything a client did, in touches of products, (clients,)."""

    def measure() -> Floats:
        total = _amount(history, touches(history), touches(history)["weight"].to_numpy())
        for kind, weight in ((EventType.VISIT, VISIT_WEIGHT), (EventType.SEARCH, SEARCH_WEIGHT)):
            frame = table(history, kind)
            total = total + _amount(history, frame, np.full(len(frame), weight))
        return total

    return history.here("demand.activity", measure)


def _amount(history: History, frame: pl.DataFrame, weight: Floats) -> Floats:
    decayed = weight * decayed_weight(frame["age"], HALF_LIFE)
    column = client_matrix(history, frame, np.zeros(len(frame), dtype=np.int64), decayed, 1)
    return np.asarray(column.sum(axis=1)).ravel()


def category_shares(history: History, categories: NDArray[np.int64]) -> Floats:
    """Share of each category in everybody's buys (thrice) and cart adds before the cut, sums to at most 1."""

    def count() -> pl.DataFrame:
        wanted = sku_facts(history).select("sku", n=3 * pl.col("buys").cast(pl.Int64) + pl.col("carts"))
        joined = wanted.join(catalogue(history).select("sku", "category"), on="sku")
        return joined.group_by("category").agg(pl.col("n").sum()).drop_nulls().sort("category")

    counts = history.once("demand.categories", count)
    index = positions(pl.Series(categories, dtype=pl.Int64), counts["category"].to_numpy())
    number = np.append(counts["n"].to_numpy().astype(np.float64), 0.0)
    shares: Floats = (number[index] + 0.5) / (number.sum() + 0.5 * len(categories) + 0.5)
    return shares


def category_evidence(history: History, categories: NDArray[np.int64], key: str) -> dict[str, Floats]:
    """What speaks for each category, by source: `own` touches, `visits`, `queries`, each (clients, len(categories)), and
    `total`, the evidence of every source for any category (clients, 1).

    Args:
        history: the view.
        categories: ids in any order, unique.
        key: names this list in the memo.
    """

    def gather() -> dict[str, Floats]:
        frame = touches(history)
        order = np.argsort(categories, kind="stable")
        back = np.argsort(order, kind="stable")
        weight = frame["weight"].to_numpy() * decayed_weight(frame["age"], HALF_LIFE)
        index = positions(frame["category"], categories[order])
        own = client_matrix(history, frame, index, weight, len(categories)).toarray()[:, back]
        rates = history.once(f"demand.urls.{key}", lambda: _url_rates(history, categories))
        visits = np.asarray(visit_matrix(history) @ rates)
        queries, asked = _query_evidence(history, categories, key)
        total = (
            _amount(history, frame, frame["weight"].to_numpy()) + visit_matrix(history) @ url_meaning(history).intent
        )
        return {"own": own, "visits": visits, "queries": queries, "total": (total + asked)[:, None]}

    return history.here(f"demand.evidence.{key}", gather)


def category_interest(history: History, categories: NDArray[np.int64], key: str) -> Floats:
    """Posterior share of each category in a client's interest, (clients, len(categories))."""
    evidence = category_evidence(history, categories, key)
    prior = category_shares(history, categories)[None, :]
    amount = evidence["own"] + evidence["visits"] + evidence["queries"]
    interest: Floats = (amount + PRIOR * prior) / (evidence["total"] + PRIOR)
    return interest


def _url_rates(history: History, categories: NDArray[np.int64]) -> Floats:
    meaning = url_meaning(history)
    order = np.argsort(categories, kind="stable")
    index = positions(meaning.links["category"], categories[order])
    rates = np.empty((len(meaning.urls), len(categories)))
    rates[:, order] = meaning.rates(index, len(categories))
    return rates


def _query_evidence(history: History, categories: NDArray[np.int64], key: str) -> tuple[Floats, Floats]:
    """Guessed categories of searches, decayed (clients, len(categories)), and their amount (clients,)."""
    vectors, sharpness = history.once(f"demand.guess.{key}", lambda: _guesser(history, categories))
    frame, queries = table(history, EventType.SEARCH), query_vectors(history)
    weight = QUERY_EVIDENCE * decayed_weight(frame["age"], QUERY_HALF_LIFE)
    sums = np.zeros((len(history.clients), len(categories)))
    starts = np.append(np.searchsorted(frame["client_id"].to_numpy(), history.clients), len(frame))
    for clients, events in client_blocks(history, frame):
        chance = _softmax(queries[events] @ vectors.T, sharpness)[:, : len(categories)]
        first = starts[clients.start]
        number = events.stop - events.start
        shape = (clients.stop - clients.start, number)
        bounds = starts[clients.start : clients.stop + 1] - first
        sums[clients] = sparse.csr_matrix((weight[events], np.arange(number), bounds), shape=shape) @ chance
    asked = client_matrix(history, frame, np.zeros(len(frame), dtype=np.int64), weight, 1)
    return sums, np.asarray(asked.sum(axis=1)).ravel()


def _guesser(history: History, categories: NDArray[np.int64]) -> tuple[Vectors, float]:
    """Vectors of the wanted categories followed by the largest others, and the sharpness that best tells them apart."""
    products = catalogue(history)
    sizes = products.group_by("category").len().drop_nulls().sort(["len", "category"], descending=[True, False])
    others = sizes.filter(~pl.col("category").is_in(categories.tolist()))["category"]
    rest = others.head(max(0, GUESSED - len(categories))).to_numpy().astype(np.int64)
    every = np.concatenate([categories, rest])
    vectors = category_vectors(history, every)
    order = np.argsort(every, kind="stable")
    index = positions(products["category"], every[order])
    sample = np.flatnonzero(index >= 0)[:: max(1, len(products) // 5_000)]
    if len(sample) == 0:
        return vectors, SHARPNESS[0]
    truth = order[index[sample]]
    cosines = item_vectors(history)[sample] @ vectors.T
    fits = [np.log(_softmax(cosines, s)[np.arange(len(sample)), truth]).sum() for s in SHARPNESS]
    return vectors, SHARPNESS[int(np.argmax(fits))]


def _softmax(cosines: NDArray[np.float32], sharpness: float) -> NDArray[np.float32]:
    raised = np.exp(np.float32(sharpness) * (cosines - np.float32(1.0)))
    scaled: NDArray[np.float32] = raised / raised.sum(axis=1, keepdims=True)
    return scaled


def price_match(history: History, prices: NDArray[np.int64]) -> Floats:
    """How well a product's price fits the client's, (clients, len(prices)), about 1 = as well as anybody's; 1 if unknown."""
    interest = price_interest(history)
    near = closeness(prices.astype(np.float64))
    usual = near.sum(axis=0, keepdims=True) / PRICE_BUCKETS
    fit: Floats = (
        (exact_product(interest, near) + PRIOR * usual) / (interest.sum(axis=1, keepdims=True) + PRIOR) / usual
    )
    fit[:, prices < 0] = 1.0
    return fit


def look_match(history: History, vectors: Vectors) -> Floats:
    """Cosines of products (n, DIMS) with the client's mean product and mean query, times their focus: (clients, n) in ±2."""
    total = np.zeros((len(history.clients), len(vectors)))
    for thing, half_life in (("item", 30.0), ("query", 14.0)):
        mean, length = mean_vector(history, thing, half_life)
        # Long means are of many like-minded events; a short one points nowhere in particular.
        cosine = (on_grid(unit(mean)) @ vectors.T).astype(np.float64)
        total += cosine * length[:, None]
    return total


def kind_interest(history: History, products: Products, key: str) -> Floats:
    """How much a client wants products of this category, price and look, (clients, n), whether ever sold or not."""
    categories = np.unique(products.category[products.category >= 0])
    fit = price_match(history, products.price) * np.exp(LOOK * look_match(history, products.vector))
    if len(categories) == 0:
        return fit
    interest = category_interest(history, categories, key)
    # A product without category is as good as one of an average category.
    padded = np.hstack([interest, np.full((len(interest), 1), 1.0 / max(len(categories), 1))])
    place = np.where(products.category >= 0, np.searchsorted(categories, products.category), len(categories))
    wanted: Floats = fit * padded[:, place]
    return wanted
