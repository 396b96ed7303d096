"""Tasks of one's own, written as a user would: one label, a list of targets, and other events than purchases."""

from __future__ import annotations

import polars as pl

from kit.challenge import EventType
from kit.data.targets import Bought, TargetList, most_bought
from kit.tasks.base import Task, TaskWindow
from kit.tasks.metric import PROPENSITY


class Dear(Task):
    """One label, and half of a window of 14 days."""

    name = "dear"
    question = "Who buys something in the dearest fifth of prices within a week?"
    days = 7

    def labels(self, window: TaskWindow) -> pl.LazyFrame:
        """Its buyers."""
        return window.purchases().filter(pl.col("price") >= 80).select("client_id")


class Cheap(Task):
    """Targets of its own: products of the lower half of prices."""

    name = "cheap"
    question = "Which of 20 cheap products does a client buy?"
    column = "sku"
    metric = PROPENSITY

    def labels(self, window: TaskWindow) -> pl.LazyFrame:
        """Clients and products."""
        return window.purchases().select("client_id", "sku")

    def targets(self, bought: Bought) -> TargetList:
        """The cheap products bought most."""
        return most_bought(bought.window.filter(pl.col("price") < 50), "sku", 20)


class Carted(Task):
    """Another table than the purchases."""

    name = "carted"
    question = "Who fills a cart?"
    events = (EventType.CART,)
    verb = "carted"

    def labels(self, window: TaskWindow) -> pl.LazyFrame:
        """Everybody with a cart addition."""
        return window.events(EventType.CART).select("client_id")


class Long(Dear):
    """Looks further ahead than a window of 14 days."""

    name = "long"
    days = 21
