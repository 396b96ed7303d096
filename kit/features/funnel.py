"""How far down the funnel: visits to carts to purchases, what becomes of carted products, and how fast."""

from __future__ import annotations

import numpy as np
import polars as pl

from kit.challenge import DAY_US, EventType
from kit.features.counts import window_counts
from kit.features.matrix import as_frame
from kit.features.registry import FeatureSettings, family
from kit.features.shared import ANY, KIND_CODE, join_all, pairs
from kit.history import History

STEPS = (
    (EventType.CART, EventType.VISIT),
    (EventType.BUY, EventType.VISIT),
    (EventType.BUY, EventType.CART),
    (EventType.REMOVE, EventType.CART),
    (EventType.SEARCH, EventType.VISIT),
)
"""(step, what it is measured against)."""
RECENT = 28


@family("funnel", "Step ratios all-time and last 28 days, fate of carted products, minutes from cart to purchase.")
def funnel(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns <step>_per_<other>[_28d] = (n + 0.1) / (m + 1), so that few events say little; and over the products carted:

    carted_bought, carted_removed (shares), bought_uncarted (share of products bought that were never put into the cart),
    to_buy_logmean, to_buy_last (log(1 + minutes) from a product's first cart add to its first purchase; products bought before
    they were ever carted are left out),
    category_bought (share of carted categories bought from).
    """
    number = window_counts(history, (RECENT,))
    columns = {}
    for step, other in STEPS:
        for window, suffix in ((1, ""), (0, f"_{RECENT}d")):
            above, below = (number[:, KIND_CODE[kind], window] for kind in (step, other))
            columns[f"{step.short}_per_{other.short}{suffix}"] = (above + 0.1) / (below + 1)
    ratios = as_frame(history, np.column_stack(list(columns.values())), list(columns))
    ratios = ratios.filter(pl.Series(number[:, ANY, 1] > 0))
    return join_all([ratios, _products(history), _categories(history)])


def _products(history: History) -> pl.LazyFrame:
    carted, bought = pl.col("carts") > 0, pl.col("buys") > 0
    after = carted & (pl.col("first_buy") >= pl.col("first_cart"))
    wait = (pl.col("first_buy") - pl.col("first_cart")).dt.total_microseconds() / DAY_US * 1440.0
    marked = pairs(history).lazy().with_columns(wait=pl.when(after).then(wait.log1p()))
    latest = pl.col("wait").sort_by("first_buy", "sku").drop_nulls().last()
    return marked.group_by("client_id").agg(
        carted_bought=pl.when(carted).then(bought).mean(),
        carted_removed=pl.when(carted).then(pl.col("removes") > 0).mean(),
        bought_uncarted=pl.when(bought).then(~carted).mean(),
        to_buy_logmean=pl.col("wait").mean(),
        to_buy_last=latest,
    )


def _categories(history: History) -> pl.LazyFrame:
    known = pairs(history).lazy().filter(pl.col("category").is_not_null())
    folded = known.group_by("client_id", "category").agg(pl.col("carts", "buys").sum())
    bought = pl.when(pl.col("carts") > 0).then(pl.col("buys") > 0)
    return folded.group_by("client_id").agg(category_bought=bought.mean())
