"""The product tower: a product is the normalised sum of its fields' rows.

Technique E2.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from kit.challenge import CODE_VALUES, CODES
from kit.claims import Claim
from kit.models.items.base import ItemEncoder, ItemSettings, item_encoder
from kit.models.table import Fields, TableSettings
from kit.tokens import Catalogue, Vocabulary


class TowerSettings(ItemSettings):
    """The tower has none: what it sums is decided by the table's settings."""

    kind: Literal["tower"] = "tower"


@item_encoder
class ItemTower(ItemEncoder):
    """Word (if live) + category + price + 16 codes, normalised."""

    kind: ClassVar[str] = "tower"
    description: ClassVar[str] = "Normalised sum of word, category, price and name codes, by the rows that events use."
    Settings: ClassVar[type[ItemSettings]] = TowerSettings
    solves: ClassVar[tuple[Claim, ...]] = (Claim("codes", margin=0.4, twin={"kind": "word"}),)

    word: Tensor
    rest: Tensor
    code_rows: Tensor

    def __init__(self, vocabulary: Vocabulary, table: TableSettings, settings: ItemSettings) -> None:
        super().__init__(vocabulary, table, settings)
        self.norm = nn.LayerNorm(table.width)
        for name, value in _catalogue_rows(vocabulary.catalogue, self.fields, table.codes).items():
            self.register_buffer(name, torch.from_numpy(value), persistent=False)

    def vectors(self, products: Tensor | None, live: Tensor | int | None = None) -> Tensor:
        """See ItemEncoder; row 0 (no product) gives the normalised zero vector."""
        if products is None:
            products = torch.arange(1, len(self.word), device=self.word.device)
        products = products.long()
        word = self.word[products]
        if live is not None:
            word = torch.where(word <= live, word, 0)
        rows = torch.cat([self.words(word)[:, None], self.rest[products], self.code_rows[products]], dim=1)
        vectors: Tensor = self.norm(self.sum(rows))
        return vectors

    def rows(self, field: str, values: Tensor) -> Tensor:
        """Rows of the table, normalised as products are."""
        vectors: Tensor = self.norm(self.lookup(self.place(field, values)))
        return vectors


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
