"""Embedding of events: where tokens become vectors.

Technique B11.

NOTE[DIFF]: words, category, price and codes are the modalities; the data have no images.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from kit.models.items import Items, make_items
from kit.models.items.tower import TowerSettings
from kit.models.table import TableSettings
from kit.tokens import SequenceBatch, Vocabulary

Batch = dict[str, Tensor]
"""A SequenceBatch as tensors."""


class EventSettings(TableSettings):
    """What an event's vector is made of."""

    age: bool = Field(
        False, description="Include each event's age at the cut; for models that are trained at many cuts."
    )
    dropout: float = Field(0.0, ge=0, lt=1)
    items: Items = Field(TowerSettings(), description="How products become vectors.")


def to_tensors(batch: SequenceBatch) -> Batch:
    """The arrays as tensors that share their memory."""
    return {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in cast(dict[str, Any], batch).items()}


class EventEmbedding(nn.Module):
    """Batches of tokens → (B, T, width): type + product or url or query + time, summed and normalised.

    Args:
        vocabulary: words and catalogue.
        settings: width, fields, dropout.

    Attributes:
        items: the item encoder, which holds the table.
    """

    def __init__(self, vocabulary: Vocabulary, settings: EventSettings) -> None:
        super().__init__()
        self.settings = settings
        self.items = make_items(vocabulary, settings, settings.items)
        self.norm = nn.LayerNorm(settings.width)
        self.dropout = nn.Dropout(settings.dropout)
        self.columns = ("kind", "category", "price", "url", "gap", "hour", *(("age",) if settings.age else ()))

    def forward(self, batch: Batch, hidden: Tensor | None = None) -> Tensor:
        """Vectors of all tokens; those in the padding are meaningless.

        Args:
            batch: from `sequence_batch` through `to_tensors`. Words that are not live at the rows' cuts are 0 in it.
            hidden: bool (B, T); what these tokens were (product, url, query, not their type and time) is left out.
        """
        shape = batch["kind"].shape
        columns = [self.items.place(name, batch[name]) for name in self.columns]
        rows = torch.stack([*columns, self.items.words(batch["sku"])], dim=-1)
        codes = self.items.code_places(batch["codes"], batch["asked"]) * self.settings.codes
        if hidden is not None:
            content = [name in ("category", "price", "url") for name in self.columns] + [True]
            rows = rows.masked_fill(hidden[..., None] & torch.tensor(content, device=rows.device), 0)
            codes = codes.masked_fill(hidden.flatten()[batch["coded"]][:, None], 0)
        x = self.items.sum_ragged(rows.flatten(0, 1), codes, batch["coded"])
        vectors: Tensor = self.dropout(self.norm(x))
        return vectors.view(*shape, self.settings.width)
