"""Products by their word alone, or by what is known of them without any history. Technique E4: the choice of item tower.

`word` is the classical two-tower model's id tower; `content` sees category, price and name codes and never the word, so products
with and without a history are one kind of thing; the default `tower` sums both. Clients always speak the tower's space
(asymmetric towers), whatever events are embedded by.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from kit.claims import Claim
from kit.models.items.base import ItemSettings, item_encoder
from kit.models.items.tower import ItemTower


class WordSettings(ItemSettings):
    """None of its own."""

    kind: Literal["word"] = "word"


@item_encoder
class WordItems(ItemTower):
    """The word's row, normalised; products without a word are all alike."""

    kind: ClassVar[str] = "word"
    description: ClassVar[str] = "The product's own row alone: the twin that knows nothing of new products."
    Settings: ClassVar[type[ItemSettings]] = WordSettings

    def vectors(self, products: Tensor | None, live: Tensor | int | None = None) -> Tensor:
        """See ItemEncoder."""
        vectors: Tensor = self.norm(self.sum(self.words(self.live_words(products, live))[:, None]))
        return vectors

    def live_words(self, products: Tensor | None, live: Tensor | int | None) -> Tensor:
        """Words of products, 0 where not known at the cut, (m,)."""
        word = self.word[1:] if products is None else self.word[products.long()]
        return word if live is None else torch.where(word <= live, word, 0)


class ContentSettings(ItemSettings):
    """None of its own."""

    kind: Literal["content"] = "content"


@item_encoder
class ContentItems(ItemTower):
    """Category, price and name codes, normalised; the word plays no part."""

    kind: ClassVar[str] = "content"
    description: ClassVar[str] = "Category, price and name codes without the product's own row."
    Settings: ClassVar[type[ItemSettings]] = ContentSettings
    solves: ClassVar[tuple[Claim, ...]] = (Claim("codes", margin=0.4, twin={"kind": "word"}),)

    def vectors(self, products: Tensor | None, live: Tensor | int | None = None) -> Tensor:
        """See ItemEncoder."""
        at = torch.arange(1, len(self.word), device=self.word.device) if products is None else products.long()
        vectors: Tensor = self.norm(self.sum(torch.cat([self.rest[at], self.code_rows[at]], dim=1)))
        return vectors
