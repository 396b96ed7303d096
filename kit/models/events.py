"""Embedding of events and of products: the one place where ids, codes, prices and times become vectors.

Every field is a range of rows in one table, and a token or a product is the normalised sum of its fields' rows: one gather
forward and one scatter backward whatever the number of fields. Events and products share the rows, so a product without
history is carried by its codes, category and price (TECHNIQUES E1, E2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from kit.challenge import CODE_VALUES, CODES, PRICE_BUCKETS
from kit.recipe import Strict
from kit.tokens import AGE_BUCKETS, CUT_KIND, GAP_BUCKETS, HOUR_BUCKETS, Catalogue, SequenceBatch, Vocabulary

Batch = dict[str, Tensor]
"""A SequenceBatch as tensors."""
INIT: Final = 0.05
"""Standard deviation of a fresh embedding row."""


class EventSettings(Strict):
    """What an event's vector is made of."""

    width: int = Field(64, ge=4, description="Size of event, state and product vectors.")
    id_dropout: float = Field(
        0.2, ge=0, lt=1, description="Share of sku words hidden in training, so that codes learn to carry products."
    )
    query_codes: Literal["shared", "separate"] = Field(
        "shared",
        description="Whether queries and names look their codes up in the same rows (`kit data codes` measures).",
    )
    age: bool = Field(
        False, description="Include each event's age at the cut; for models that are trained at many cuts."
    )
    ids: bool = Field(True, description="Include sku words; without them products are codes, category and price alone.")
    codes: bool = Field(
        True, description="Include name and query codes; without them products are words, category and price alone."
    )
    dropout: float = Field(0.0, ge=0, lt=1)
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
    def of(cls, vocabulary: Vocabulary, settings: EventSettings) -> Fields:
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


def to_tensors(batch: SequenceBatch) -> Batch:
    """The arrays as tensors that share their memory."""
    return {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in cast(dict[str, Any], batch).items()}


class ItemTower(nn.Module):
    """Products by catalogue row → vectors: word (if live) + category + price + 16 codes, normalised.

    Args:
        vocabulary: words and catalogue.
        settings: width, dropout of words.

    Attributes:
        table: (rows, width), all fields; row 0 is zero and stays so.
        sparse: whether the table's gradient has only the rows that were looked up.
    """

    word: Tensor
    rest: Tensor
    code_rows: Tensor

    def __init__(self, vocabulary: Vocabulary, settings: EventSettings) -> None:
        super().__init__()
        self.settings = settings
        self.fields = Fields.of(vocabulary, settings)
        self.table = nn.Parameter(INIT * torch.randn(self.fields.rows, settings.width))
        self.sparse = self.fields.rows > settings.dense_rows
        with torch.no_grad():
            self.table[0] = 0.0
        self.norm = nn.LayerNorm(settings.width)
        for name, value in _catalogue_rows(vocabulary.catalogue, self.fields, settings.codes).items():
            self.register_buffer(name, torch.from_numpy(value), persistent=False)

    def forward(self, products: Tensor, live: Tensor | int | None = None) -> Tensor:
        """Vectors of products.

        Args:
            products: catalogue rows, integer (m,); row 0 (no product) gives the normalised zero vector.
            live: words known at the cut, one number or one per product (`batch["live_sku"]`); all words if None.

        Returns:
            (m, width).
        """
        products = products.long()
        word = self.word[products]
        if live is not None:
            word = torch.where(word <= live, word, 0)
        rows = torch.cat([self.words(word)[:, None], self.rest[products], self.code_rows[products]], dim=1)
        vectors: Tensor = self.norm(self.sum(rows))
        return vectors

    def all(self, live: Tensor | int | None = None) -> Tensor:
        """Vectors of the whole catalogue, (p, width): entry i is product row i + 1."""
        return cast(Tensor, self(torch.arange(1, len(self.word), device=self.word.device), live))

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

    def rows(self, index: Tensor) -> Tensor:
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


class EventEmbedding(nn.Module):
    """Batches of tokens → (B, T, width): type + product or url or query + time, summed and normalised.

    Args:
        vocabulary: words and catalogue.
        settings: width, fields, dropout.

    Attributes:
        items: the ItemTower that shares its table.
    """

    def __init__(self, vocabulary: Vocabulary, settings: EventSettings) -> None:
        super().__init__()
        self.settings = settings
        self.items = ItemTower(vocabulary, settings)
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


def _catalogue_rows(catalogue: Catalogue, fields: Fields, coded: bool) -> dict[str, np.ndarray[Any, Any]]:
    """Per product: its word, and the table rows of its other fields and codes (all 0 for row 0, codes for all if not `coded`)."""
    category = np.where(catalogue.category > 0, catalogue.category + fields.first["category"] - 1, 0)
    price = np.where(catalogue.price > 0, catalogue.price.astype(np.int64) + fields.first["price"] - 1, 0)
    codes = catalogue.codes.astype(np.int64) + np.arange(CODES) * CODE_VALUES + fields.first["name"]
    codes[slice(0, 1 if coded else None)] = 0
    return {
        "word": catalogue.word.astype(np.int32),
        "rest": np.stack([category, price], axis=1).astype(np.int32),
        "code_rows": codes.astype(np.int32),
    }
