"""What a visit is worth: urls carry no product, but everybody's cart adds and purchases shortly after a visit tell.

For a sample of all clients each visit is linked to the same client's next buy or cart add within LINK_MINUTES. A url then has
an intent (how often a touch follows), an expected category, price and place in code space, all shrunk by its number of
visits. Summed over a client's visits this speaks for the many clients who only ever look.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from kit.challenge import PRICE_BUCKETS, EventType
from kit.features.embedding import DIMS, SPACE, item_vectors
from kit.features.matrix import as_frame, client_matrix, decayed_weight, item_positions, positions
from kit.features.price_affinity import bands, centres
from kit.features.registry import FeatureSettings, family
from kit.features.shared import catalogue, table
from kit.history import History

LINK_MINUTES = 20
SAMPLE_VISITS = 12_000_000
"""Visits of about this many rows are linked; more clients are thinned out by id."""
URLS = 100_000
"""At most so many urls (most linked first) are learned; the others say nothing."""
PRIOR_VISITS = 10.0
"""A url's rates are drawn to 0 as if by so many visits without a touch after them."""
HALF_LIFE = 45.0


@dataclass(frozen=True)
class UrlMeaning:
    """What touches follow a visit.

    Attributes:
        urls: sorted ids (u,).
        intent: expected touches per visit, float64 (u,).
        links: (url row, item or -1, category or null, price or null) of every link: `events` as a frame.
        per_visit: float64 (u,), 1 / (visits + PRIOR_VISITS): turns sums over links into rates.
    """

    urls: NDArray[np.int64]
    intent: NDArray[np.float64]
    links: pl.DataFrame
    per_visit: NDArray[np.float64]

    def rates(self, index: NDArray[np.int64], width: int) -> sparse.csr_matrix:
        """Expected touches per visit by column, sparse (u, width); `index` (links,) is each link's column, -1 = none."""
        kept = index >= 0
        rows = self.links["row"].to_numpy()[kept]
        counted = sparse.csr_matrix((np.ones(len(rows)), (rows, index[kept])), shape=(len(self.urls), width))
        return sparse.diags_array(self.per_visit).tocsr() @ counted


@family(
    "browsing",
    "What everybody's visits to the client's urls lead to: intent, expected prices and code vector.",
    facts=(SPACE,),
)
def browsing(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns intent (decayed sum), intent_mean, intent_max, known (share of visits to urls that say anything),
    price_<centre> (log(1 + expected touches) per price band), code_<k> (expected code vector). 0 without visits.
    """
    meaning = url_meaning(history)
    visits = table(history, EventType.VISIT)
    index = visit_positions(history)
    kept = client_matrix(history, visits, index, np.ones(len(visits)), len(meaning.urls))
    decayed = visit_matrix(history)
    number = np.maximum(np.asarray(kept.sum(axis=1)).ravel(), 1)
    every = np.maximum(np.bincount(_rows(history, visits), minlength=len(history.clients)), 1)
    intent = decayed @ meaning.intent
    highest = np.zeros(len(history.clients))
    known = index >= 0
    np.maximum.at(highest, _rows(history, visits)[known], meaning.intent[index[known]])
    prices, vectors = _price_rates(history), _vector_rates(history)
    scalars = [np.log1p(intent), kept @ meaning.intent / number, highest, number / every]
    mean_vector = (decayed @ vectors) / (intent + 0.2)[:, None]
    values = np.hstack([np.column_stack(scalars), np.log1p(decayed @ prices), mean_vector])
    names = ["intent", "intent_mean", "intent_max", "known"]
    names += [f"price_{centre:.0f}" for centre in centres()] + [f"code_{k}" for k in range(DIMS)]
    return as_frame(history, values, names)


def _rows(history: History, frame: pl.DataFrame) -> NDArray[np.int64]:
    return np.searchsorted(history.clients, frame["client_id"].to_numpy()).astype(np.int64)


def visit_positions(history: History) -> NDArray[np.int64]:
    """Row of each visit's url in `url_meaning`, -1 for urls not learned, in the order of the visits' table."""

    def look_up() -> NDArray[np.int64]:
        return positions(table(history, EventType.VISIT)["url"], url_meaning(history).urls)

    return history.here("browsing.positions", look_up)


def visit_matrix(history: History) -> sparse.csr_matrix:
    """Decayed visits per client and learned url, sparse (clients, urls)."""

    def fold() -> sparse.csr_matrix:
        meaning, visits = url_meaning(history), table(history, EventType.VISIT)
        weight = decayed_weight(visits["age"], HALF_LIFE)
        return client_matrix(history, visits, visit_positions(history), weight, len(meaning.urls))

    return history.here("browsing.visits", fold)


def _price_rates(history: History) -> NDArray[np.float64]:
    def measure() -> NDArray[np.float64]:
        meaning = url_meaning(history)
        price = meaning.links["price"].fill_null(-1).clip(-1, PRICE_BUCKETS - 1).to_numpy()
        return np.asarray(meaning.rates(price, PRICE_BUCKETS) @ bands())

    return history.once("browsing.prices", measure)


def _vector_rates(history: History) -> NDArray[np.float64]:
    def measure() -> NDArray[np.float64]:
        meaning = url_meaning(history)
        links = meaning.links.filter(pl.col("item").is_not_null())
        rows, items = links["row"].to_numpy(), item_positions(links)
        vectors = item_vectors(history)[items].astype(np.float64)
        chooser = sparse.csr_matrix((np.ones(len(rows)), (rows, np.arange(len(rows)))), (len(meaning.urls), len(rows)))
        return np.asarray(chooser @ vectors) * meaning.per_visit[:, None]

    return history.once("browsing.vectors", measure)


def url_meaning(history: History) -> UrlMeaning:
    """Learned once per cut from a sample of everybody's visits."""
    return history.once("browsing.urls", lambda: _learn(history))


def _learn(history: History) -> UrlMeaning:
    rows = history.everyone(EventType.VISIT).select(pl.len()).collect(engine="streaming").item()
    thin = -(-rows // SAMPLE_VISITS) if rows else 1
    sampled = (pl.col("client_id") % 1_000_003 * 7_919) % thin == 0
    touched = pl.concat([history.everyone(kind).filter(sampled) for kind in (EventType.BUY, EventType.CART)]).collect(
        engine="streaming"
    )
    touched = touched.sort("timestamp", "client_id", "sku").rename({"timestamp": "at"})
    visited = history.everyone(EventType.VISIT).filter(sampled).collect(engine="streaming")
    followed = visited.join(touched.select("client_id").unique(), on="client_id", how="semi")
    followed = followed.sort("timestamp", "client_id", "url")
    links = followed.join_asof(
        touched,
        left_on="timestamp",
        right_on="at",
        by="client_id",
        strategy="forward",
        tolerance=f"{LINK_MINUTES}m",
        check_sortedness=False,
    ).filter(pl.col("sku").is_not_null())
    urls = (
        links.group_by("url")
        .agg(links=pl.len())
        .sort(["links", "url"], descending=[True, False])
        .head(URLS)
        .sort("url")
    )
    totals = visited.select("url").join(urls, on="url", how="semi").group_by("url").agg(visits=pl.len())
    urls = urls.join(totals, on="url", how="left").sort("url")
    items = catalogue(history).select("sku", "category", "price", item=pl.int_range(pl.len(), dtype=pl.UInt32))
    known = (
        links.join(urls.select("url", row=pl.int_range(pl.len())), on="url", how="inner")
        .join(items, on="sku", how="left")
        .select("row", "sku", "category", "price", "item")
        .sort("row", "sku")
    )
    per_visit = 1.0 / (urls["visits"].to_numpy().astype(np.float64) + PRIOR_VISITS)
    intent = urls["links"].to_numpy() * per_visit
    return UrlMeaning(urls["url"].to_numpy(), intent, known, per_visit)
