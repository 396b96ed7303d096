"""The one embedding table: every field of events and products is a range of its rows.

A token or a product is the sum of its fields' rows: one gather forward and one scatter backward whatever the number of fields.
Events and products share the rows, so a product without history is carried by its codes, category and price.

Technique E2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from kit.challenge import CODE_VALUES, CODES, PRICE_BUCKETS
from kit.recipe import Strict
from kit.tokens import AGE_BUCKETS, CUT_KIND, GAP_BUCKETS, HOUR_BUCKETS, Vocabulary

INIT: Final = 0.05
"""Standard deviation of a fresh embedding row."""


class TableSettings(Strict):
    """What the table holds."""

    width: int = Field(64, ge=4, description="Size of event, state and product vectors.")
    id_dropout: float = Field(
        0.2, ge=0, lt=1, description="Share of sku words hidden in training, so that codes learn to carry products."
    )
    query_codes: Literal["shared", "separate"] = Field(
        "shared",
        description="Whether queries and names look their codes up in the same rows (`kit data codes` measures).",
    )
    ids: bool = Field(True, description="Include sku words; without them products are codes, category and price alone.")
    codes: bool = Field(
        True, description="Include name and query codes; without them products are words, category and price alone."
    )
    dense_rows: int = Field(
        200_000,
        ge=0,
        description="Embedding tables of more rows than this take row-sparse gradients: a training step then costs what the "
        "rows that it touches cost, and rows without gradient stay as they are.",
    )


@dataclass(frozen=True)
class Fields:
    """First row of each field in the table; value v > 0 of a field lies at first + v − 1, value 0 at row 0 (a zero)."""

    first: dict[str, int]
    rows: int

    @classmethod
    def of(cls, vocabulary: Vocabulary, settings: TableSettings) -> Fields:
        """The layout that fits a vocabulary."""
        sizes = {
            "kind": CUT_KIND,
            "sku": len(vocabulary.skus),
            "category": len(vocabulary.catalogue.categories),
            "price": PRICE_BUCKETS,
            "url": len(vocabulary.urls),
            "gap": GAP_BUCKETS - 1,
            "hour": HOUR_BUCKETS - 1,
            "age": AGE_BUCKETS - 1,
            "name": CODES * CODE_VALUES,
        }
        if settings.query_codes == "separate":
            sizes["query"] = CODES * CODE_VALUES
        starts = np.cumsum([1, *sizes.values()]).tolist()
        first = dict(zip(sizes, starts, strict=False))
        return cls({"query": first["name"], **first}, starts[-1])


class FieldTable(nn.Module):
    """The table and how values become rows of it.

    Args:
        vocabulary: words and catalogue.
        settings: width, dropout of words.

    Attributes:
        table: (rows, width), all fields; row 0 is zero and stays so.
        sparse: whether the table's gradient has only the rows that were looked up.
    """

    def __init__(self, vocabulary: Vocabulary, settings: TableSettings) -> None:
        super().__init__()
        self.settings = settings
        self.fields = Fields.of(vocabulary, settings)
        self.table = nn.Parameter(INIT * torch.randn(self.fields.rows, settings.width))
        self.sparse = self.fields.rows > settings.dense_rows
        with torch.no_grad():
            self.table[0] = 0.0

    def words(self, word: Tensor) -> Tensor:
        """Table rows of sku words (0 = none), some of them hidden while training."""
        if not self.settings.ids:
            return torch.zeros_like(word)
        word = self.place("sku", word)
        if self.training and self.settings.id_dropout > 0:
            keep = torch.rand(word.shape, device=word.device) >= self.settings.id_dropout
            word = word * keep
        return word

    def place(self, field: str, value: Tensor) -> Tensor:
        """Table rows of a field's values; 0 stays 0."""
        return torch.where(value > 0, value + (self.fields.first[field] - 1), 0)

    def code_places(self, codes: Tensor, asked: Tensor) -> Tensor:
        """Table rows (M, 16) of codes (M, 16) that belong to queries (`asked`) or names."""
        place = torch.arange(CODES, device=codes.device, dtype=torch.int32) * CODE_VALUES
        first = torch.where(asked, self.fields.first["query"], self.fields.first["name"]).to(torch.int32)
        return codes.to(torch.int32) + place + first[:, None]

    def sum(self, rows: Tensor) -> Tensor:
        """Sum of table rows, (m, k) → (m, width); row 0 adds nothing and gets no gradient."""
        return F.embedding_bag(rows, self.table, mode="sum", padding_idx=0, sparse=self.sparse)

    def lookup(self, index: Tensor) -> Tensor:
        """Table rows as they are, (m, width)."""
        return F.embedding(index, self.table, sparse=True) if self.sparse else self.table[index]

    def sum_ragged(self, rows: Tensor, more: Tensor, where: Tensor) -> Tensor:
        """Like `sum` of rows (m, k), but the entries `where` (j,) also have the rows `more` (j, 16): one pass for both."""
        count = torch.full((len(rows),), rows.shape[1], device=rows.device)
        count[where] += more.shape[1]
        end = count.cumsum(0)
        begin = end - count
        flat = torch.empty(rows.numel() + more.numel(), dtype=rows.dtype, device=rows.device)
        flat[begin[:, None] + torch.arange(rows.shape[1], device=rows.device)] = rows
        flat[end[where][:, None] - 1 - torch.arange(more.shape[1], device=rows.device)] = more.to(rows.dtype)
        return F.embedding_bag(flat.long(), self.table, begin, mode="sum", padding_idx=0, sparse=self.sparse)
