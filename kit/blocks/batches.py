"""What the combined network reads: the state of some clients at one cut as tensors, with labels where a future is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kit.blocks.futures import Future
from kit.challenge import DAY_US
from kit.models.batch import CombinedBatch, Market, Touched
from kit.models.events import to_tensors
from kit.models.heads.ahead import labels_of
from kit.tokens import Tokens, sequence_batch

TOUCHES = 128
"""Product events per client that choices may repeat, the latest ones."""


@dataclass(frozen=True)
class Known:
    """What the network reads at one cut, for a range of clients.

    Attributes:
        cut: microseconds.
        inputs: by part, numbers per client, float32 (m, columns).
        market: the products that compete.
        first: row in the tokens of the first of the m clients.
        count: m.
    """

    cut: int
    inputs: Mapping[str, NDArray[np.float32]]
    market: Market
    first: int
    count: int


def network_batch(
    length: int, tokens: Tokens, known: Known, rows: NDArray[np.int64], future: Future | None = None
) -> CombinedBatch:
    """Tensors of some clients at one cut; with labels if a future is given."""
    return CombinedBatch(
        cut=torch.full((len(rows),), known.cut),
        sequence=to_tensors(sequence_batch(tokens, rows, known.cut, length)),
        touched=touched_products(tokens, rows, known.cut),
        inputs={name: torch.from_numpy(values[rows - known.first]) for name, values in known.inputs.items()},
        market=known.market,
        labels={} if future is None else labels_of(future.labels, rows),
    )


def touched_products(tokens: Tokens, rows: NDArray[np.int64], cut: int) -> Touched:
    """The last TOUCHES product tokens before the cut, (B, T)."""
    touches = tokens.touches
    stop = touches.stops(rows, np.full(len(rows), cut))
    size = np.minimum(stop - touches.offsets[rows], TOUCHES)
    span = np.arange(max(int(size.max(initial=0)), 1))
    mask = span < size[:, None]
    at = np.where(mask, (stop - size)[:, None] + span, 0)
    product = np.where(mask, touches.product[at] if len(touches) else 0, 0)
    days = np.where(mask, (cut - touches.time[at]) / DAY_US if len(touches) else 0, 0)
    catalogue = tokens.vocabulary.catalogue
    return Touched(
        product=torch.from_numpy(product),
        category=torch.from_numpy(catalogue.category[product]),
        price=torch.from_numpy(catalogue.price[product].astype(np.int64)),
        kind=torch.from_numpy(np.where(mask, touches.kind[at] if len(touches) else 0, 0)),
        days=torch.from_numpy(days.astype(np.float32)),
    )
