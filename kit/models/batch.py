"""What the combined network reads: some clients at one cut, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from kit.models.events import Batch

T = TypeVar("T")


def to_device(value: T, device: torch.device) -> T:
    """Tensors on a device, through mappings and dataclasses; what is none of them stays."""
    made: Any = value
    if isinstance(value, Tensor):
        made = value.to(device)
    elif isinstance(value, Mapping):
        made = {name: to_device(inner, device) for name, inner in value.items()}
    elif is_dataclass(value) and not isinstance(value, type):
        made = replace(value, **{one.name: to_device(getattr(value, one.name), device) for one in fields(value)})
    return made  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Touched:
    """The latest product events of B clients, (B, T), padding 0.

    Attributes:
        product: catalogue rows.
        category, price: of the products, by position from 1.
        kind: of the events.
        days: age at the cut, float32.
    """

    product: Tensor
    category: Tensor
    price: Tensor
    kind: Tensor
    days: Tensor

    def of(self, aspect: str) -> Tensor:
        """What was touched, as product, category or price, int64."""
        values: Tensor = getattr(self, aspect)
        return values.long()

    def rows(self, rows: Tensor) -> Touched:
        """Of some of the clients."""
        return Touched(*(getattr(self, one.name)[rows] for one in fields(self)))


@dataclass(frozen=True)
class Market:
    """The products that compete at a cut.

    Attributes:
        items: statistics of those that compete, float32 (K, k).
        popular: log popularity of products (K,), categories (C,) and price buckets (100,) at the cut, by aspect.
        live: how many sku words are known.
        candidates: their catalogue rows, ascending int64 (K,); None if they are all products.
        place: per catalogue row 1 + position among them, 0 = not among them, int64 (p + 1,); None if they are all.
        table: their vectors (K, D) for a network that is no longer trained; None: they are made for each batch.
    """

    items: Tensor
    popular: Mapping[str, Tensor]
    live: int
    candidates: Tensor | None = None
    place: Tensor | None = None
    table: Tensor | None = None

    def positions(self, products: Tensor) -> Tensor:
        """1 + position of catalogue rows among those that compete; 0 = not among them."""
        return products if self.place is None else self.place[products]

    def to(self, device: torch.device) -> Market:
        """The same on a device."""
        return to_device(self, device)


@dataclass(frozen=True)
class CombinedBatch:
    """B clients at one cut.

    Attributes:
        cut: microseconds, int64 (B,).
        sequence: their tokens (`kit.tokens.SequenceBatch` as tensors).
        touched: the products that they touched last.
        inputs: numbers per client by the part that reads them: features (B, F) in [-1, 1] or NaN, graph (B, g).
        market: the products that compete.
        labels: by head, what became of these clients; empty where nothing is trained.
    """

    cut: Tensor
    sequence: Batch
    touched: Touched
    inputs: Mapping[str, Tensor]
    market: Market
    labels: Mapping[str, Any] = field(default_factory=dict)

    def to(self, device: torch.device, non_blocking: bool = False) -> CombinedBatch:
        """The same on a device."""
        return to_device(self, device)

    def __len__(self) -> int:
        return len(self.cut)
