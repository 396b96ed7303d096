"""Target lists and their popularities, made from the train-target window where a folder brings none.

Official folders ship propensity_{category,sku,new_sku,price}.npy and popularity_propensity_*.npy; any other shop needs
lists of its own. Popularity is the number of purchase rows, int64, aligned with the list: the evaluator's novelty term
divides it by the sum of its ten largest entries, so only the proportions matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import PRICE_BUCKETS, TARGET_LIST, Task

Ids = NDArray[np.int64]
MIN_LABELS = 2
"""The diversity term divides by log2 of the number of labels: a list of one has no score."""


@dataclass(frozen=True)
class TargetLists:
    """Per propensity task its targets and their purchase counts, and in words why a list is short or absent."""

    lists: dict[Task, tuple[Ids, Ids]] = field(default_factory=dict)
    notes: dict[Task, str] = field(default_factory=dict)


def purchase_counts(window: pl.DataFrame, column: str) -> pl.DataFrame:
    """Purchases per value of `column`, most first, ties by value: columns `column` i64 and `count` i64."""
    counts = window.group_by(column).agg(count=pl.len().cast(pl.Int64))
    return counts.sort(["count", column], descending=[True, False])


def popularity_of(window: pl.DataFrame, column: str, targets: Ids) -> Ids:
    """Purchases in `window` of each of `targets`, int64 (len(targets),); 0 where nothing was bought."""
    wanted = pl.DataFrame({column: targets}, schema={column: pl.Int64})
    joined = wanted.join(purchase_counts(window, column), on=column, how="left", maintain_order="left")
    return joined["count"].fill_null(0).to_numpy().astype(np.int64)


def make_lists(window: pl.DataFrame, bought_before: pl.Series, categories: int) -> TargetLists:
    """The four lists of the propensity tasks.

    Args:
        window: purchases of the train-target window with sku, category and price.
        bought_before: skus with a purchase before the cut; the others are new.
        categories: distinct categories among all products; below two the category task is not defined.
    """
    made = TargetLists()
    for task in (Task.CATEGORY, Task.SKU, Task.NEW_SKU):
        if task is Task.CATEGORY and categories < MIN_LABELS:
            made.notes[task] = "not defined here, because all products share one category"
            continue
        column = str(task.label_column)
        rows = window.filter(~pl.col("sku").is_in(bought_before.implode())) if task is Task.NEW_SKU else window
        column = "sku" if task is Task.NEW_SKU else column
        top = purchase_counts(rows, column).head(TARGET_LIST)
        if top.height < MIN_LABELS:
            made.notes[task] = f"not defined here, because {top.height} were bought in the train-target window"
            continue
        if top.height < TARGET_LIST:
            made.notes[task] = f"{top.height} targets, because no more were bought in the train-target window"
        made.lists[task] = (top[column].to_numpy(), top["count"].to_numpy())
    if window["price"].n_unique() < MIN_LABELS:
        made.notes[Task.PRICE] = "not defined here, because all purchases share one price bucket"
        return made
    buckets = np.arange(PRICE_BUCKETS, dtype=np.int64)
    made.lists[Task.PRICE] = (buckets, popularity_of(window, "price", buckets))
    return made
