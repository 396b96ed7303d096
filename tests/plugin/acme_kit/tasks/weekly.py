"""Task `weekly`: who buys within a week, however long the folder's windows are?"""

from __future__ import annotations

import polars as pl

from kit.tasks.base import Task, TaskWindow, register

LEAST = 1


class Weekly(Task):
    """One label: 1 for clients with a purchase in the first seven days."""

    name = "weekly"
    question = "Does a client buy something within seven days?"
    days = 7
    words = ("bought nothing", "bought")

    def labels(self, window: TaskWindow) -> pl.LazyFrame:
        """Its buyers."""
        return window.purchases().group_by("client_id").len().filter(pl.col("len") >= LEAST).select("client_id")


register(Weekly())
