"""Labels of heads that learn from what clients chose. Registers nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kit.challenge import EventType
from kit.models.heads.ahead import Ahead, Int64s, Positives
from kit.tokens import Catalogue


@dataclass(frozen=True)
class Picks:
    """What the R clients of a batch chose who chose anything, one entry per client and product.

    Attributes:
        at: where the R clients stand in the batch, int64 (R,).
        row: which of the R, int64 (m,).
        product: catalogue row (m,).
        category, price: its category and price bucket, from 1 (m,).
        weight: float32 (m,), summing to 1 over a client.
    """

    at: Tensor
    row: Tensor
    product: Tensor
    category: Tensor
    price: Tensor
    weight: Tensor

    def aspect(self, name: str) -> Tensor:
        """product, category or price."""
        values: Tensor = getattr(self, name)
        return values


@dataclass(frozen=True)
class ChosenLabels:
    """What all clients chose after a cut.

    Attributes:
        positives: by action.
        catalogue: of the products.
        clients: how many there are.
    """

    positives: Mapping[str, Positives]
    catalogue: Catalogue
    clients: int

    @classmethod
    def of_actions(cls, ahead: Ahead, events: Mapping[str, EventType]) -> ChosenLabels:
        """Of several actions, each by the type of its events."""
        found = {action: ahead.positives(kind) for action, kind in events.items()}
        return cls(found, ahead.tokens.vocabulary.catalogue, len(ahead.tokens.clients))

    def of(self, rows: Int64s) -> dict[str, Picks]:
        """Of some clients, by action."""
        position = np.full(self.clients, -1)
        position[rows] = np.arange(len(rows))
        return {action: self._picks(found, position) for action, found in self.positives.items()}

    def _picks(self, positives: Positives, position: Int64s) -> Picks:
        inside = position[positives.row] >= 0
        at, product = position[positives.row[inside]], positives.product[inside]
        some, index, counts = np.unique(at, return_inverse=True, return_counts=True)
        parts = (
            some,
            index,
            product,
            self.catalogue.category[product].astype(np.int64),
            self.catalogue.price[product].astype(np.int64),
            (1.0 / counts[index]).astype(np.float32),
        )
        return Picks(*(torch.from_numpy(part) for part in parts))
