"""Propensity targets: how much each client may want each of the published categories and skus."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import TaskName
from kit.features.demand import (
    PRIOR,
    activity,
    category_interest,
    evidence_amount,
    has_history,
    kind_interest,
    products_of,
)
from kit.features.matrix import Floats, as_frame, client_matrix, decayed_weight, positions
from kit.features.registry import FeatureSettings, family
from kit.features.shared import catalogue, sku_facts, touches
from kit.history import History

HALF_LIFE = 45.0
OWN = 0.3
"""How much of the interest in a sku touched before carries over to the next purchase of that very sku."""


@family("targets", "Shrunk expected demand for each published target category and sku, from all a client's traces.")
def targets(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns category_<id> and sku_<id>: log of an expected amount. No columns where the folder has no target lists.

    category: activity × posterior share (own touches, visits' and searches' categories, shrunk).
    sku: activity × (category interest × the sku's share in its category × price fit × look + own touches), so that a sku
    never touched is ranked by what is known of its kind. Missing for clients without any event.
    """
    categories = np.unique(history.published_targets(TaskName.CATEGORY))
    skus = np.unique(history.published_targets(TaskName.SKU))
    amount = activity(history)[:, None]
    blocks, names = [], []
    if len(categories):
        blocks.append(np.log(amount * category_interest(history, categories, "targets")))
        names += [f"category_{value}" for value in categories]
    if len(skus):
        blocks.append(np.log(amount * sku_interest(history, skus)))
        names += [f"sku_{value}" for value in skus]
    values = np.hstack(blocks) if blocks else np.empty((len(history.clients), 0))
    values[~has_history(history)] = np.nan
    return as_frame(history, values, names)


def sku_interest(history: History, skus: NDArray[np.int64]) -> Floats:
    """What share of a client's interest each sku (sorted) may claim, (clients, len(skus)): that of its kind, and its own."""
    products = products_of(history, skus)
    kind = kind_interest(history, products, "targets.skus") * sku_shares(history, skus)
    frame = touches(history)
    weight = frame["weight"].to_numpy() * decayed_weight(frame["age"], HALF_LIFE)
    own = client_matrix(history, frame, positions(frame["sku"], skus), weight, len(skus)).toarray()
    interest: Floats = kind + OWN * own / (evidence_amount(history) + PRIOR)[:, None]
    return interest


def sku_shares(history: History, skus: NDArray[np.int64]) -> Floats:
    """Share of each sku in everybody's buys (thrice) and cart adds of its category, at most 1, (len(skus),)."""

    def measure() -> Floats:
        wanted = sku_facts(history).select("sku", n=3 * pl.col("buys").cast(pl.Int64) + pl.col("carts"))
        joined = wanted.join(catalogue(history).select("sku", "category"), on="sku", how="left")
        shares = joined.with_columns(share=pl.col("n") / (pl.col("n").sum().over("category") + 10)).sort("sku")
        index = positions(pl.Series(skus, dtype=pl.Int64), shares["sku"].to_numpy())
        found: Floats = np.append(shares["share"].to_numpy(), 0.0)[index] + 1e-3
        return found

    return history.once("targets.sku_shares", measure)
