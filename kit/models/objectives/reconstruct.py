"""Reconstruction: hidden tokens from what came before them, and the whole history from its last state."""

from __future__ import annotations

from typing import ClassVar, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from kit.models.events import Batch
from kit.models.items import ItemEncoder
from kit.models.objectives.base import Arrays, Objective, ObjectiveSettings, Spans, objective
from kit.tokens import KINDS, SequenceBatch, Tokens, Vocabulary

SCALE = 12.0
"""Factor of the cosine in the softmax over products."""


def product_logits(user: Tensor, items: ItemEncoder, live: Tensor) -> Tensor:
    """Scaled cosines of (m, D) with the whole catalogue, (m, p)."""
    return SCALE * F.normalize(user.float(), dim=-1) @ F.normalize(items.vectors(None, live).float(), dim=-1).T


class MaskedSettings(ObjectiveSettings):
    """How much is hidden."""

    share: float = Field(0.15, gt=0, lt=1, description="Share of tokens whose product, url and query are hidden.")


@objective
class Masked(Objective):
    """Hide what some events were about; their own states (type, time and all that came before) must name the product.

    The encoder is causal, so unlike BERT's this looks back only. All other objectives of the model see the same hidden input.
    """

    kind: ClassVar[str] = "masked"
    description: ClassVar[str] = "Products of hidden events."
    Settings: ClassVar[type[ObjectiveSettings]] = MaskedSettings

    def __init__(self, width: int, vocabulary: Vocabulary, settings: ObjectiveSettings) -> None:
        super().__init__(width, vocabulary, settings)
        self.head = nn.Linear(width, width)

    def targets(self, tokens: Tokens, batch: SequenceBatch, spans: Spans, rng: np.random.Generator) -> Arrays:
        """hidden (B, T), and the hidden product events."""
        drawn = (rng.random(len(spans.at)) < cast(MaskedSettings, self.settings).share) & (spans.at >= 0)
        hidden = np.zeros(batch["mask"].size, dtype=bool)
        hidden[spans.flat[drawn]] = True
        product = np.where(spans.at >= 0, tokens.product[spans.at], 0)
        chosen = np.flatnonzero(drawn & (product > 0))
        target = product[chosen].astype(np.int64) - 1
        return {"hidden": hidden.reshape(batch["mask"].shape), "at": spans.flat[chosen], "target": target}

    def forward(self, states: Tensor, targets: Batch, batch: Batch, items: ItemEncoder) -> Tensor:
        """Mean cross-entropy over the catalogue."""
        if len(targets["at"]) == 0:
            return states.sum() * 0.0
        logits = product_logits(self.head(states[targets["at"]]), items, batch["live_sku"].min())
        return F.cross_entropy(logits, targets["target"])


@objective
class Autoencode(Objective):
    """The last state must tell which products and event types its sequence held: cross-entropy against their shares.

    A bag, not an order: Mult-VAE's likelihood without its noise (NOTE[DIFF]: our variant of the sequence autoencoders).
    """

    kind: ClassVar[str] = "autoencode"
    description: ClassVar[str] = "Products and event types of the whole sequence from its last state."

    def __init__(self, width: int, vocabulary: Vocabulary, settings: ObjectiveSettings) -> None:
        super().__init__(width, vocabulary, settings)
        self.products = nn.Linear(width, width)
        self.kinds = nn.Linear(width, len(KINDS))

    def targets(self, tokens: Tokens, batch: SequenceBatch, spans: Spans, rng: np.random.Generator) -> Arrays:
        """last: last states of rows; per product event its row among them, product and share of its row."""
        rows = np.flatnonzero(batch["size"] > 0)
        last = rows * batch["mask"].shape[1] + batch["size"][rows] - 1
        real = spans.real()
        product = tokens.product[spans.at[real]]
        held = product > 0
        row = np.searchsorted(rows, spans.row[real])
        share = 1.0 / np.maximum(np.bincount(row[held], minlength=len(rows)), 1)
        kinds = np.zeros((len(rows), len(KINDS)), dtype=np.float32)
        np.add.at(kinds, (row, tokens.kind[spans.at[real]].astype(np.int64) - 1), 1.0)
        return {
            "last": last,
            "row": row[held],
            "product": product[held].astype(np.int64) - 1,
            "share": share[row[held]].astype(np.float32),
            "kinds": kinds / np.maximum(kinds.sum(axis=1, keepdims=True), 1),
        }

    def forward(self, states: Tensor, targets: Batch, batch: Batch, items: ItemEncoder) -> Tensor:
        """Mean over rows of the two cross-entropies."""
        if len(targets["last"]) == 0:
            return states.sum() * 0.0
        last = states[targets["last"]]
        kinds: Tensor = -(targets["kinds"] * self.kinds(last).float().log_softmax(dim=-1)).sum(dim=-1).mean()
        if len(targets["row"]) == 0:
            return kinds
        distinct, place = targets["row"].unique(return_inverse=True)  # type: ignore[no-untyped-call]
        logits = product_logits(self.products(last[distinct]), items, batch["live_sku"].min())
        chosen = torch.log_softmax(logits, dim=-1)[place, targets["product"]]
        loss: Tensor = kinds - (chosen * targets["share"]).sum() / len(distinct)
        return loss
