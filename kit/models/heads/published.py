"""Which choices become columns: those that the challenge asks about. Registers nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kit.challenge import PRICE_BUCKETS, TaskName
from kit.history import History
from kit.models.batch import Market
from kit.tokens import Catalogue, Tokens

NEW_CATEGORIES: Final = 64
"""Categories with the most never-bought products, each of which gets a column."""
NEVER_BOUGHT: Final = 6
"""Column of the products' statistics that says so."""


def published_rows(history: History, catalogue: Catalogue) -> NDArray[np.int64]:
    """Catalogue rows of the published target skus, in their order."""
    rows = catalogue.rows(history.published_targets(TaskName.SKU)).astype(np.int64)
    return rows[rows > 0]


@dataclass(frozen=True)
class Published:
    """Which choices become columns.

    Attributes:
        categories: positions of the published categories among all.
        skus: positions of the published products among the candidates.
        richest: the categories richest in products that nobody has bought (rows of the vocabulary's, from 1).
        new: per category of these, positions of its candidates that nobody has bought.
        labels: what they are, by the ids of the data: "category_7", "sku_123", "price_4", "new_7".
    """

    categories: NDArray[np.int64]
    skus: NDArray[np.int64]
    richest: tuple[int, ...]
    new: tuple[NDArray[np.int64], ...]
    labels: tuple[str, ...]

    @classmethod
    def of(cls, history: History, tokens: Tokens, market: Market, richest: Sequence[int] | None = None) -> Published:
        """Published categories and skus, and the categories richest in products that nobody has bought, or were at the cut at
        which columns were named (`richest`)."""
        catalogue = tokens.vocabulary.catalogue
        published = history.published_targets(TaskName.CATEGORY)
        known = published[np.isin(published, catalogue.categories)]
        rows = published_rows(history, catalogue)
        position = market.positions(torch.from_numpy(rows)).cpu().numpy()
        rows, position = rows[position > 0], position[position > 0]
        unsold = np.flatnonzero(market.items[:, NEVER_BOUGHT].cpu().numpy() > 0)
        competing = None if market.candidates is None else market.candidates.cpu().numpy()
        category = catalogue.category[1:][unsold if competing is None else competing[unsold] - 1].astype(np.int64)
        if richest is None:
            counts = np.bincount(category, minlength=len(catalogue.categories) + 1)
            ranked = np.lexsort((np.arange(len(counts)), -counts))[:NEW_CATEGORIES].tolist()
            richest = [c for c in ranked if counts[c] and c > 0]
        labels = [
            *(f"category_{c}" for c in known),
            *(f"sku_{s}" for s in catalogue.sku[rows]),
            *(f"price_{p}" for p in range(PRICE_BUCKETS)),
            *(f"new_{catalogue.categories[c - 1]}" for c in richest),
        ]
        new = tuple(unsold[category == c] for c in richest)
        places = np.searchsorted(catalogue.categories, known)
        return cls(places, position - 1, tuple(richest), new, tuple(labels))

    def fill(self, choice: Mapping[str, Tensor]) -> Tensor:
        """(B, labels) from log-probabilities of products (B, K), categories (B, C) and price buckets (B, 100)."""
        product, category = choice["product"], choice["category"]
        new = [torch.logsumexp(product[:, torch.from_numpy(group)], dim=1, keepdim=True) for group in self.new]
        return torch.cat([category[:, self.categories], product[:, self.skus], choice["price"], *new], dim=1)
