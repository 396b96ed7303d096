"""Products never sold yet: how much each client may want the kinds of product that wait in the catalogue for a first sale.

Which of them will sell is not known before the cut, and a sku of its own means nothing without events. So the unsold part of
the catalogue is condensed into KINDS prototypes by price, look and category popularity, and every client is scored on each by
category interest, price fit and agreement of codes: all that is ever known of a new product.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from kit.features.demand import ProductDemand, activity, category_shares, has_history, kind_interest
from kit.features.embedding import SPACE, item_vectors
from kit.features.matrix import Floats, as_frame, client_matrix, decayed_weight
from kit.features.registry import Fact, FeatureSettings, family
from kit.features.shared import catalogue, sku_facts, touches
from kit.history import History

KINDS = 40
SAMPLE = 20_000
"""Unsold products that the prototypes are fitted on, those of the most wanted categories first."""
HALF_LIFE = 30.0
PRICE_SCALE = 0.5
"""Length of the whole price axis beside unit code vectors when products are grouped."""


PROTOTYPES = Fact(
    "prototypes",
    key=lambda settings: "newcomers.prototypes",
    learn=lambda history, settings: prototypes_of(history),
    pack=lambda found: {"category": found.category, "price": found.price, "vector": found.vector},
    unpack=lambda arrays: ProductDemand(arrays["category"], arrays["price"], arrays["vector"]),
)
"""What kind_<k> stands for."""


@family(
    "newcomers",
    "Expected demand for prototypes of products never sold so far, by category, price and codes.",
    facts=(PROTOTYPES, SPACE),
)
def newcomers(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns kind_<k> (log of activity × interest in that kind) and unsold (decayed touches of products not sold yet)."""
    prototypes = prototypes_of(history)
    names = [f"kind_{k}" for k in range(len(prototypes.category))]
    score = np.empty((len(history.clients), 0))
    if names:
        amount = activity(history)[:, None]
        score = np.log(amount * kind_interest(history, prototypes, "newcomers"))
        score[~has_history(history)] = np.nan
    return as_frame(history, np.hstack([score, _unsold_touches(history)]), [*names, "unsold"])


def _unsold_touches(history: History) -> Floats:
    frame = touches(history).lazy()
    sold = sku_facts(history).lazy().filter(pl.col("buys") > 0).select("sku")
    waiting = frame.join(sold, on="sku", how="anti", maintain_order="left").collect(engine="in-memory")
    weight = waiting["weight"].to_numpy() * decayed_weight(waiting["age"], HALF_LIFE)
    dense: Floats = client_matrix(history, waiting, np.zeros(len(waiting), dtype=np.int64), weight, 1).toarray()
    return np.log1p(dense)


def prototypes_of(history: History) -> ProductDemand:
    """`_prototypes`, once per cut."""
    return history.once("newcomers.prototypes", lambda: _prototypes(history))


def _prototypes(history: History) -> ProductDemand:
    """The unsold products nearest to the centres of KINDS groups of them, ordered by group."""
    sold = sku_facts(history).filter(pl.col("buys") > 0).select("sku")
    items = catalogue(history).with_columns(item=pl.int_range(pl.len()))
    waiting = items.join(sold, on="sku", how="anti", maintain_order="left").filter(
        pl.col("category").is_not_null() & pl.col("price").is_not_null()
    )
    shares = category_shares(history, waiting["category"].to_numpy())
    chosen = np.sort(np.lexsort((waiting["sku"].to_numpy(), -shares))[:SAMPLE])
    if len(chosen) == 0:
        return ProductDemand(np.empty(0, np.int64), np.empty(0, np.int64), item_vectors(history)[:0])
    index = waiting["item"].to_numpy()[chosen]
    category, price = (waiting[name].to_numpy()[chosen] for name in ("category", "price"))
    vector = item_vectors(history)[index]
    places = np.hstack([vector, (price * (PRICE_SCALE / 100.0))[:, None].astype(np.float32)])
    kept = _medoids(places, shares[chosen])
    return ProductDemand(category[kept], price[kept], vector[kept])


def _medoids(places: NDArray[np.float32], weight: Floats) -> NDArray[np.int64]:
    """Rows nearest to the centres of at most KINDS groups, sorted."""
    groups = min(KINDS, len(places))
    with threadpool_limits(limits=1):
        model = MiniBatchKMeans(groups, random_state=0, n_init=1, batch_size=4096, max_iter=50)
        distance = model.fit_transform(places, sample_weight=weight)
    rows: NDArray[np.int64] = np.unique(np.argmin(distance, axis=0))
    return rows
