"""Target lists and their popularities, made from the train-target window where a folder brings none.

Official folders ship propensity_{category,sku,new_sku,price}.npy and popularity_propensity_*.npy; any other shop needs
lists of its own. Popularity is the number of purchase rows, int64, aligned with the list: the evaluator's novelty term
divides it by the sum of its ten largest entries, so only the proportions matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import PRICE_BUCKETS, TARGET_LIST, TaskName

Ids = NDArray[np.int64]
MIN_LABELS = 2
"""The diversity term divides by log2 of the number of labels: a list of one has no score."""


@dataclass(frozen=True)
class Bought:
    """What a target list is made from.

    Attributes:
        window: purchases of the train-target window with client_id, timestamp, sku, category and price.
        before: skus with a purchase before the cut; the others are new.
        categories: distinct categories among all products; below two they tell nothing apart.
    """

    window: pl.DataFrame
    before: pl.Series
    categories: int

    @cached_property
    def new(self) -> pl.DataFrame:
        """The window's purchases of skus that nobody bought before the cut."""
        return self.window.filter(~pl.col("sku").is_in(self.before.implode()))


@dataclass(frozen=True)
class TargetList:
    """A task's targets (L,) and how popular each is, and in words why the list is short or empty (then there is no task).

    Attributes:
        ids: int64 (L,), in label order.
        popularity: int64 (L,) purchases.
        note: empty if there is nothing to say.
    """

    ids: Ids
    popularity: Ids
    note: str = ""

    @classmethod
    def none(cls, why: str) -> TargetList:
        """No list: `why` completes `not defined here, because`."""
        nothing = np.empty(0, dtype=np.int64)
        return cls(nothing, nothing, f"not defined here, because {why}")


@dataclass(frozen=True)
class ListRule:
    """How a task's list is made, and the column of the windows that its targets are values of."""

    make: Callable[[Bought], TargetList]
    column: str


def purchase_counts(window: pl.DataFrame, column: str) -> pl.DataFrame:
    """Purchases per value of `column`, most first, ties by value: columns `column` i64 and `count` i64."""
    counts = window.group_by(column).agg(count=pl.len().cast(pl.Int64))
    return counts.sort(["count", column], descending=[True, False])


def popularity_of(window: pl.DataFrame, column: str, targets: Ids) -> Ids:
    """Purchases in `window` of each of `targets`, int64 (len(targets),); 0 where nothing was bought."""
    wanted = pl.DataFrame({column: targets}, schema={column: pl.Int64})
    joined = wanted.join(purchase_counts(window, column), on=column, how="left", maintain_order="left")
    return joined["count"].fill_null(0).to_numpy().astype(np.int64)


def most_bought(window: pl.DataFrame, column: str, size: int = TARGET_LIST) -> TargetList:
    """The `size` values of a column that were bought most."""
    top = purchase_counts(window, column).head(size)
    if top.height < MIN_LABELS:
        return TargetList.none(f"{top.height} were bought in the train-target window")
    short = f"{top.height} targets, because no more were bought in the train-target window" if top.height < size else ""
    return TargetList(top[column].to_numpy(), top["count"].to_numpy(), short)


def category_list(bought: Bought) -> TargetList:
    """The challenge's 100 categories."""
    if bought.categories < MIN_LABELS:
        return TargetList.none("all products share one category")
    return most_bought(bought.window, "category")


def sku_list(bought: Bought) -> TargetList:
    """The challenge's 100 products."""
    return most_bought(bought.window, "sku")


def new_sku_list(bought: Bought) -> TargetList:
    """The challenge's 100 products without a purchase before the cut."""
    return most_bought(bought.new, "sku")


def price_list(bought: Bought) -> TargetList:
    """All price buckets."""
    if bought.window["price"].n_unique() < MIN_LABELS:
        return TargetList.none("all purchases share one price bucket")
    buckets = np.arange(PRICE_BUCKETS, dtype=np.int64)
    return TargetList(buckets, popularity_of(bought.window, "price", buckets))


CHALLENGE_LISTS: Final[Mapping[str, ListRule]] = {
    TaskName.CATEGORY: ListRule(category_list, "category"),
    TaskName.SKU: ListRule(sku_list, "sku"),
    TaskName.NEW_SKU: ListRule(new_sku_list, "sku"),
    TaskName.PRICE: ListRule(price_list, "price"),
}
"""Lists of the challenge's propensity tasks, by the name of their files."""
