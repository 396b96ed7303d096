"""What heads take their labels from: a rewound cut and the window after it, read once however many heads ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import EventType
from kit.history import History, Window
from kit.tokens import Tokens

Int64s = NDArray[np.int64]


class Labels(Protocol):
    """A head's labels of all clients at one cut."""

    def of(self, rows: Int64s) -> Any:  # noqa: ANN401
        """Those of the clients `rows`, as tensors: a tensor, or a mapping or dataclass of them."""


@dataclass(frozen=True)
class Positives:
    """What clients did in the windows after a cut: one entry per client and product, sorted by client row.

    Attributes:
        row: client row, int64 (m,), ascending.
        product: catalogue row, int64 (m,), > 0.
    """

    row: Int64s
    product: Int64s


class Ahead:
    """One rewound cut.

    Args:
        past: everything before it.
        window: from there to the cut of the History in training.
        tokens: of the clients to learn from.
    """

    def __init__(self, past: History, window: Window, tokens: Tokens) -> None:
        self.past, self.window, self.tokens = past, window, tokens
        self.days = past.days
        self._positives: dict[EventType, Positives] = {}

    @property
    def near_stop(self) -> datetime:
        """End of the first window after the cut, as far as it is known."""
        return min(self.window.start + timedelta(days=self.days), self.window.stop)

    @property
    def far_stop(self) -> datetime:
        """End of the second window, as far as it is known."""
        return min(self.window.start + timedelta(days=2 * self.days), self.window.stop)

    @property
    def shares(self) -> tuple[float, float]:
        """Which share of the first and of the second window is known."""
        known = (self.window.stop - self.window.start) / timedelta(days=self.days)
        return min(known, 1.0), min(max(known - 1.0, 0.0), 1.0)

    def active(self, kind: EventType, start: datetime, stop: datetime) -> NDArray[np.bool_]:
        """Which clients have an event of this kind in [start, stop), bool (n,)."""
        inside = (pl.col("timestamp") >= start) & (pl.col("timestamp") < stop)
        found = self.window.events(kind).filter(inside).select(pl.col("client_id").unique()).collect()
        return np.isin(self.tokens.clients, found["client_id"].to_numpy())

    @cached_property
    def bought(self) -> NDArray[np.bool_]:
        """Which clients bought before the cut, bool (n,)."""
        found = self.past.events(EventType.BUY).select(pl.col("client_id").unique()).collect()
        return np.isin(self.tokens.clients, found["client_id"].to_numpy())

    def positives(self, kind: EventType) -> Positives:
        """Which products clients bought (or put into the cart …) in both windows."""
        if kind not in self._positives:
            pairs = (
                self.window.events(kind)
                .filter(pl.col("timestamp") < self.far_stop)
                .select("client_id", "sku")
                .unique()
                .sort("client_id", "sku")
                .collect()
            )
            product = self.tokens.vocabulary.catalogue.rows(pairs["sku"].to_numpy()).astype(np.int64)
            row = np.searchsorted(self.tokens.clients, pairs["client_id"].to_numpy())
            self._positives[kind] = Positives(row[product > 0], product[product > 0])
        return self._positives[kind]


def labels_of(labels: Mapping[str, Labels], rows: Int64s) -> dict[str, Any]:
    """Every head's labels of some clients."""
    return {name: own.of(rows) for name, own in labels.items()}
