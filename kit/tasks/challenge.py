"""The six tasks of the challenge, in the order of its leaderboard: what `kit score`, the sum and the board are about."""

from __future__ import annotations

from typing import Final

import polars as pl

from kit.challenge import TaskName
from kit.data.targets import Bought, TargetList, category_list, new_sku_list, price_list, sku_list
from kit.tasks.base import Task, TaskWindow, register
from kit.tasks.metric import PROPENSITY


class _NoPurchase(Task):
    """One label: 1 for a client who buys nothing in the window."""

    absent = True
    label = "no purchase"

    def labels(self, window: TaskWindow) -> pl.LazyFrame:
        """The buyers."""
        return window.purchases().select("client_id")


class Churn(_NoPurchase):
    """Who stays away?"""

    name = TaskName.CHURN.value
    question = "Does a client who bought before buy nothing?"
    active_only = True
    words = ("bought again", "did not buy")


class Conversion(_NoPurchase):
    """Who of all clients buys nothing?"""

    name = TaskName.CONVERSION.value
    question = "Does a client buy nothing?"
    words = ("bought", "did not buy")


class _Propensity(Task):
    """One label per target: what a client buys of a list."""

    metric = PROPENSITY

    def labels(self, window: TaskWindow) -> pl.LazyFrame:
        """Clients and what they bought."""
        return window.purchases().select("client_id", str(self.column))


class Category(_Propensity):
    """Which categories?"""

    name = TaskName.CATEGORY.value
    question = "Which of 100 categories does a client buy from?"
    column = "category"
    shown = "which"
    words = ("none of them", "another category")

    def targets(self, bought: Bought) -> TargetList:
        """The categories bought most."""
        return category_list(bought)


class Sku(_Propensity):
    """Which products?"""

    name = TaskName.SKU.value
    question = "Which of 100 products does a client buy?"
    column = "sku"
    words = ("none of them", "bought a listed product")

    def targets(self, bought: Bought) -> TargetList:
        """The products bought most."""
        return sku_list(bought)


class NewSku(_Propensity):
    """Which products that nobody bought before?"""

    name = TaskName.NEW_SKU.value
    question = "Which of 100 products that were never sold before does a client buy?"
    column = "sku"
    words = ("none of them", "bought a new product")

    def targets(self, bought: Bought) -> TargetList:
        """The new products bought most."""
        return new_sku_list(bought)


class Price(_Propensity):
    """In which price buckets?"""

    name = TaskName.PRICE.value
    question = "In which of 100 price buckets does a client buy?"
    column = "price"
    shown = "how much"
    words = ("did not buy", "bought")

    def targets(self, bought: Bought) -> TargetList:
        """All price buckets."""
        return price_list(bought)


CHURN: Final = register(Churn())
CATEGORY: Final = register(Category())
SKU: Final = register(Sku())
CONVERSION: Final = register(Conversion())
NEW_SKU: Final = register(NewSku())
PRICE: Final = register(Price())
CHALLENGE: Final[tuple[Task, ...]] = (CHURN, CATEGORY, SKU, CONVERSION, NEW_SKU, PRICE)
"""The six, in the order of the leaderboard."""
