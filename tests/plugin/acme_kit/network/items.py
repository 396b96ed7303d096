"""An item encoder without words: a small network on the mean of a product's name codes, with weights of its own."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kit.models.items import ItemEncoder, ItemSettings, item_encoder
from kit.models.table import TableSettings
from kit.tokens import Vocabulary


class NamesSettings(ItemSettings):
    kind: Literal["names"] = "names"
    hidden: int = Field(8, ge=1)


@item_encoder
class Names(ItemEncoder):
    kind: ClassVar[str] = "names"
    description: ClassVar[str] = "A feed-forward network on name codes."
    Settings: ClassVar[type[ItemSettings]] = NamesSettings

    codes: Tensor

    def __init__(self, vocabulary: Vocabulary, table: TableSettings, settings: NamesSettings) -> None:
        super().__init__(vocabulary, table, settings)
        codes = torch.from_numpy(vocabulary.catalogue.codes.astype("float32") / 255)
        self.register_buffer("codes", codes, persistent=False)
        self.net = nn.Sequential(
            nn.Linear(codes.shape[1], settings.hidden), nn.GELU(), nn.Linear(settings.hidden, table.width)
        )

    def vectors(self, products: Tensor | None, live: Tensor | int | None = None) -> Tensor:
        codes = self.codes[1:] if products is None else self.codes[products.long()]
        out: Tensor = self.net(codes)
        return out

    def rows(self, field: str, values: Tensor) -> Tensor:
        return self.lookup(self.place(field, values))
