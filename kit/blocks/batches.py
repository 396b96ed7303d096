"""What the combined network reads: the state of some clients at one cut as tensors, with labels where a future is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kit.blocks.choices import Choices
from kit.blocks.futures import Future, Positives
from kit.challenge import DAY_US
from kit.models.combined import ACTIONS, CombinedBatch
from kit.models.events import to_tensors
from kit.tokens import Tokens, sequence_batch

TOUCHES = 128
"""Product events per client that choices may repeat, the latest ones."""


@dataclass(frozen=True)
class Inputs:
    """What the network reads at one cut, for a range of clients.

    Attributes:
        cut: microseconds.
        features: scaled, float32 (m, F).
        graph: float32 (m, g).
        choices: the products that compete.
        live: how many sku words are known.
        first: row in the tokens of the first of the m clients.
    """

    cut: int
    features: NDArray[np.float32]
    graph: NDArray[np.float32]
    choices: Choices
    live: int
    first: int = 0


def network_batch(
    length: int, tokens: Tokens, inputs: Inputs, rows: NDArray[np.int64], future: Future | None = None
) -> CombinedBatch:
    """Tensors of some clients at one cut; with labels if a future is given."""
    batch: CombinedBatch = {
        "sequence": to_tensors(sequence_batch(tokens, rows, inputs.cut, length)),
        "touched": touched_products(tokens, rows, inputs.cut),
        "features": torch.from_numpy(inputs.features[rows - inputs.first]),
        "graph": torch.from_numpy(inputs.graph[rows - inputs.first]),
        **inputs.choices.tensors(),
        "cut": torch.full((len(rows),), inputs.cut),
        "live": inputs.live,
    }
    if future is not None:
        batch["intensity"] = torch.from_numpy(future.intensity[rows])
        batch["intensity_known"] = torch.from_numpy(future.known[rows])
        for action in ACTIONS:
            batch[f"{action}_rows"], batch[f"{action}_labels"] = _labels(future.positives[action], rows, tokens)
    return batch


def touched_products(tokens: Tokens, rows: NDArray[np.int64], cut: int) -> dict[str, Tensor]:
    """The last TOUCHES product tokens before the cut: product, category, price, kind and age in days, (B, T); padding 0."""
    touches = tokens.touches
    stop = touches.stops(rows, np.full(len(rows), cut))
    size = np.minimum(stop - touches.offsets[rows], TOUCHES)
    span = np.arange(max(int(size.max(initial=0)), 1))
    mask = span < size[:, None]
    at = np.where(mask, (stop - size)[:, None] + span, 0)
    product = np.where(mask, touches.product[at] if len(touches) else 0, 0)
    catalogue = tokens.vocabulary.catalogue
    return {
        "product": torch.from_numpy(product),
        "category": torch.from_numpy(catalogue.category[product]),
        "price": torch.from_numpy(catalogue.price[product].astype(np.int64)),
        "kind": torch.from_numpy(np.where(mask, touches.kind[at] if len(touches) else 0, 0)),
        "days": torch.from_numpy(np.where(mask, (cut - touches.time[at]) / DAY_US, 0).astype(np.float32)),
    }


def _labels(positives: Positives, rows: NDArray[np.int64], tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
    """Batch positions of the R clients with positives, and per positive: which of the R, product, category, price, weight."""
    position = np.full(len(tokens.clients), -1)
    position[rows] = np.arange(len(rows))
    inside = position[positives.row] >= 0
    at, product = position[positives.row[inside]], positives.product[inside]
    some, index, counts = np.unique(at, return_inverse=True, return_counts=True)
    catalogue = tokens.vocabulary.catalogue
    labels = {
        "row": index,
        "product": product,
        "category": catalogue.category[product].astype(np.int64),
        "price": catalogue.price[product].astype(np.int64),
        "weight": (1.0 / counts[index]).astype(np.float32),
    }
    return torch.from_numpy(some), {name: torch.from_numpy(value) for name, value in labels.items()}
