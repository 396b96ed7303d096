"""Affinity to what is popular: decayed interest in the top categories, skus and urls."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import EventType
from kit.features.matrix import as_frame, client_matrix, decayed_weight, positions
from kit.features.registry import Fact, FeatureSettings, family
from kit.features.shared import catalogue, sku_facts, table, touches, url_counts
from kit.history import History

HALF_LIFE = 30.0


LISTS = Fact(
    "lists",
    key=lambda settings: f"top.{settings.top}",
    learn=lambda history, settings: popular(history, settings.top),
    pack=lambda lists: lists,
    unpack=dict,
)
"""Which ids have a column."""


@family(
    "top", "Decayed interest in the settings.top most popular categories, skus and urls of everybody.", facts=(LISTS,)
)
def top(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns category_<id>, sku_<id>, url_<id>: log(1 + decayed weight); fewer where the shop has fewer."""
    around, visits = touches(history), table(history, EventType.VISIT)
    lists = popular(history, settings.top)
    blocks, names = [], []
    for thing, frame in (("category", around), ("sku", around), ("url", visits)):
        wanted = lists[thing]
        weight = decayed_weight(frame["age"], HALF_LIFE)
        if thing != "url":
            weight = weight * frame["weight"].to_numpy()
        order = np.sort(wanted)
        dense = client_matrix(history, frame, positions(frame[thing], order), weight, len(wanted)).toarray()
        blocks.append(np.log1p(dense[:, np.searchsorted(order, wanted)]))
        names += [f"{thing}_{value}" for value in wanted]
    return as_frame(history, np.hstack(blocks), names)


def popular(history: History, top: int) -> dict[str, NDArray[np.int64]]:
    """The `top` most popular category, sku and url ids, most popular first (ties by id).

    Popularity of skus and categories is everybody's buys, thrice, plus cart adds; that of urls is visits.
    """

    def rank() -> dict[str, NDArray[np.int64]]:
        skus = sku_facts(history).select("sku", n=3 * pl.col("buys").cast(pl.Int64) + pl.col("carts"))
        products = catalogue(history).select("sku", "category")
        categories = skus.join(products, on="sku").group_by("category").agg(pl.col("n").sum()).drop_nulls()
        urls = url_counts(history).rename({"visits": "n"})
        return {
            name: frame.filter(pl.col("n") > 0)
            .sort(["n", name], descending=[True, False])[name]
            .head(top)
            .to_numpy()
            .astype(np.int64)
            for name, frame in (("category", categories), ("sku", skus), ("url", urls))
        }

    return history.once(f"top.{top}", rank)
