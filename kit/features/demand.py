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
from kit.features.shared import ANY, active_days, catalogue, sku_facts, table, touches
from kit.features.taste import mean_vector, query_vectors
from kit.history import History

HALF_LIFE = 45.0
DONE_HALF_LIFE, THERE_HALF_LIFE = 30.0, 7.0
QUERY_HALF_LIFE = 14.0
PRIOR = 3.0
VISIT_WEIGHT, SEARCH_WEIGHT = 0.02, 0.1
"""A visit or search without known meaning, as part of a touch of a product, when activity is measured."""
QUERY_EVIDENCE = 0.3
"""A search as part of a touch, when its category is guessed from its codes."""
GUESSED = 128
"""A search's category is guessed among so many of the most wanted ones."""
BACKGROUND = 0.05
"""Activity that everybody has: keeps scores finite."""
LOOK, PRICE = 0.75, 0.5
"""Weights of the agreement of codes and of the price fit in a product's log score: both also speak through its category."""
SPREAD = 0.15
"""Weight of evidence for a category among the takers of another."""
MANY_CATEGORIES = 60
"""Clients who took more categories are left out when categories are related to each other."""
SHARPNESS = (2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
"""Candidate factors on the cosine of a softmax over categories; the catalogue's own products choose."""


@dataclass(frozen=True)
class ProductDemand:
    """Products to score, known by their properties alone, n of them.

    Attributes:
        category: ids, -1 = unknown, int64 (n,).
        price: buckets, -1 = unknown, int64 (n,).
        vector: unit vectors on the grid, float32 (n, DIMS).
    """

    category: NDArray[np.int64]
    price: NDArray[np.int64]
    vector: Vectors


def products_of(history: History, skus: NDArray[np.int64]) -> ProductDemand:
    """Properties of skus; unknown ones have none."""
    frame = catalogue(history)
    index = positions(pl.Series(skus, dtype=pl.Int64), frame["sku"].to_numpy())
    known = index >= 0
    category, price = (frame[name].fill_null(-1).to_numpy() for name in ("category", "price"))
    vector = np.zeros((len(skus), DIMS), dtype=np.float32)
    vector[known] = item_vectors(history)[index[known]]
    if len(frame) == 0:
        return ProductDemand(np.full(len(skus), -1), np.full(len(skus), -1), vector)
    return ProductDemand(np.where(known, category[index], -1), np.where(known, price[index], -1), vector)


def activity(history: History) -> Floats:
    """How much a client may be expected to do next, (clients,): the geometric mean of what they did (decayed, in touches of
    products) and of how lately they were there (decayed active days): a large account that fell silent counts as little
    as a fresh face who only looked."""

    def measure() -> Floats:
        done = evidence_amount(history)
        for kind, weight in ((EventType.VISIT, VISIT_WEIGHT), (EventType.SEARCH, SEARCH_WEIGHT)):
            frame = table(history, kind)
            done = done + _amount(history, frame, np.full(len(frame), weight), DONE_HALF_LIFE)
        days = active_days(history).filter(pl.col("kind") == ANY).with_columns(age=pl.col("day") + 0.5)
        there = _amount(history, days, np.ones(len(days)), THERE_HALF_LIFE)
        lively: Floats = np.sqrt((done + BACKGROUND) * (there + BACKGROUND))
        return lively

    return history.here("demand.activity", measure)


def evidence_amount(history: History, half_life: float = HALF_LIFE) -> Floats:
    """Decayed weight of a client's touches of products, (clients,)."""
    frame = touches(history)
    return _amount(history, frame, frame["weight"].to_numpy(), half_life)


def _amount(history: History, frame: pl.DataFrame, weight: Floats, half_life: float) -> Floats:
    decayed = weight * decayed_weight(frame["age"], half_life)
    column = client_matrix(history, frame, np.zeros(len(frame), dtype=np.int64), decayed, 1)
    return np.asarray(column.sum(axis=1)).ravel()


def has_history(history: History) -> NDArray[np.bool_]:
    """Whether a client has any event before the cut, (clients,). The others have no demand to speak of: missing, not low,
    as clients are often called relevant for what they did later."""
    return np.isin(history.clients, active_days(history)["client_id"].to_numpy())


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


def category_interest(history: History, categories: NDArray[np.int64], key: str) -> Floats:
    """Posterior share of each category in a client's interest, (clients, len(categories)).

    Args:
        history: the view.
        categories: sorted unique ids.
        key: names this list in the memo.
    """

    def weigh() -> Floats:
        spread = history.once(f"demand.spread.{key}", lambda: category_spread(history, categories))
        frame = touches(history)
        weight = frame["weight"].to_numpy() * decayed_weight(frame["age"], HALF_LIFE)
        known = all_categories(history)
        own = client_matrix(history, frame, positions(frame["category"], known), weight, len(known)) @ spread
        rates = history.once(f"demand.urls.{key}", lambda: _url_rates(history, spread))
        evidence = own + visit_matrix(history) @ rates + _query_evidence(history, spread)
        questions = _guessed(history).sum(axis=1)
        amount = evidence_amount(history) + visit_matrix(history) @ url_meaning(history).intent + questions
        prior = category_shares(history, categories)[None, :]
        interest: Floats = (evidence + PRIOR * prior) / (amount[:, None] + PRIOR)
        return interest

    return history.here(f"demand.interest.{key}", weigh)


def all_categories(history: History) -> NDArray[np.int64]:
    """Categories of the catalogue, sorted."""

    def collect() -> NDArray[np.int64]:
        ids: NDArray[np.int64] = catalogue(history)["category"].drop_nulls().unique().sort().to_numpy().astype(np.int64)
        return ids

    return history.once("demand.all_categories", collect)


def category_spread(history: History, categories: NDArray[np.int64]) -> Floats:
    """How far evidence for one category speaks for another, (all_categories, len(categories)): 1 for itself, and SPREAD
    times the share of its takers who took the other one too (everybody's buys and cart adds, drawn to 0)."""
    known = all_categories(history)
    direct: Floats = (known[:, None] == categories[None, :]).astype(np.float64)
    taken = pl.concat([history.everyone(kind).select("client_id", "sku") for kind in (EventType.BUY, EventType.CART)])
    products = catalogue(history).lazy().select("sku", "category").drop_nulls()
    pairs = taken.join(products, on="sku").select("client_id", "category").unique().collect(engine="streaming")
    # One category says nothing of others; bots with very many would connect everything.
    several = pairs.filter(pl.len().over("client_id").is_between(2, MANY_CATEGORIES)).sort("client_id", "category")
    if several.is_empty():
        return direct
    rows = several["client_id"].rle_id().to_numpy()
    ones = (np.ones(len(several)), (rows, positions(several["category"], known)))
    takers = sparse.csr_matrix(ones, shape=(int(rows[-1]) + 1, len(known)))
    wanted = positions(pl.Series(categories, dtype=pl.Int64), known)
    both = np.zeros((len(known), len(categories)))
    both[:, wanted >= 0] = (takers.T @ takers[:, wanted[wanted >= 0]]).toarray()
    number = np.asarray(takers.sum(axis=0)).reshape(-1, 1)
    spread: Floats = np.where(direct > 0, 1.0, SPREAD * both / (number + 10.0))
    return spread


def _url_rates(history: History, spread: Floats) -> Floats:
    """Evidence for each wanted category per visit of each learned url, (urls, wanted)."""
    meaning, known = url_meaning(history), all_categories(history)
    rates: Floats = meaning.rates(positions(meaning.links["category"], known), len(known)) @ spread
    return rates


def _query_evidence(history: History, spread: Floats) -> Floats:
    """Guessed categories of searches, decayed and spread, (clients, wanted)."""
    guesses, known = _guesser(history)[0], all_categories(history)
    if len(guesses) == 0:
        return np.zeros((len(history.clients), spread.shape[1]))
    return exact_product(_guessed(history), spread[np.searchsorted(known, guesses)])


def _guessed(history: History) -> Floats:
    """Decayed chances of a client's searches to mean each of the guessed categories, (clients, guesses)."""

    def add_up() -> Floats:
        guesses, vectors, sharpness = _guesser(history)
        frame, queries = table(history, EventType.SEARCH), query_vectors(history)
        weight = QUERY_EVIDENCE * decayed_weight(frame["age"], QUERY_HALF_LIFE)
        starts = np.append(np.searchsorted(frame["client_id"].to_numpy(), history.clients), len(frame))
        sums = np.zeros((len(history.clients), len(guesses)))
        for clients, events in client_blocks(history, frame):
            chance = _softmax(queries[events] @ vectors.T, sharpness)
            number = events.stop - events.start
            bounds = starts[clients.start : clients.stop + 1] - events.start
            shape = (clients.stop - clients.start, number)
            sums[clients] = sparse.csr_matrix((weight[events], np.arange(number), bounds), shape=shape) @ chance
        return sums

    return history.here("demand.guessed", add_up)


def _guesser(history: History) -> tuple[NDArray[np.int64], Vectors, float]:
    """The categories that a search is guessed among (the most wanted ones, sorted), their vectors, and the sharpness that
    best tells the catalogue's own products apart."""

    def choose() -> tuple[NDArray[np.int64], Vectors, float]:
        known = all_categories(history)
        order = np.lexsort((known, -category_shares(history, known)))
        guesses = np.sort(known[order[:GUESSED]])
        vectors = category_vectors(history, guesses)
        index = positions(catalogue(history)["category"], guesses)
        sample = np.flatnonzero(index >= 0)[:: max(1, len(index) // 5_000)]
        if len(sample) == 0:
            return guesses, vectors, SHARPNESS[0]
        cosines = item_vectors(history)[sample] @ vectors.T
        fits = [np.log(_softmax(cosines, s)[np.arange(len(sample)), index[sample]]).sum() for s in SHARPNESS]
        return guesses, vectors, SHARPNESS[int(np.argmax(fits))]

    return history.once("demand.guesser", choose)


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


def kind_interest(history: History, products: ProductDemand, key: str) -> Floats:
    """How much a client wants products of this category, price and look, (clients, n), whether ever sold or not."""
    categories = np.unique(products.category[products.category >= 0])
    fit: Floats = price_match(history, products.price) ** PRICE * np.exp(LOOK * look_match(history, products.vector))
    if len(categories) == 0:
        return fit
    interest = category_interest(history, categories, key)
    # A product without category is as good as one of an average category.
    padded = np.hstack([interest, np.full((len(interest), 1), 1.0 / max(len(categories), 1))])
    place = np.where(products.category >= 0, np.searchsorted(categories, products.category), len(categories))
    wanted: Floats = fit * padded[:, place]
    return wanted
