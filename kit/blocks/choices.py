"""What competes in the combined block's choices, and which of its forecasts become columns. Registers nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kit.challenge import PRICE_BUCKETS, Task
from kit.history import History
from kit.models.combined import ASPECTS, INTENSITIES, Combined, Outputs
from kit.tokens import Catalogue, Tokens

NEW_CATEGORIES = 64
"""Categories with the most never-bought products, each of which gets a forecast column."""
DRAWN: Final = 0.25
"""Share of the candidates that is drawn from all products that are not among the most popular."""


def choose_candidates(
    items: NDArray[np.float32], published: NDArray[np.int64], most: int, seed: int
) -> NDArray[np.int64] | None:
    """Catalogue rows that compete when a product is chosen, ascending int64 (K,), K ≤ most + len(published); None = all.

    A softmax over a million products for each client of a batch fits no memory. The most popular at the cut take three quarters
    of the places; the others are drawn from the rest, so that products which nobody has touched are told from each other too.

    Args:
        items: statistics at the cut (`item_statistics`), float32 (p, k).
        published: rows that compete in any case.
        most: places.
        seed: of the draw.
    """
    if len(items) <= most:
        return None
    popularity = np.expm1(items[:, :2]).sum(axis=1) + 0.03 * np.expm1(items[:, 2:4]).sum(axis=1)
    shuffled = np.random.default_rng([seed, 3]).permutation(len(items))
    ranked = shuffled[np.argsort(-popularity[shuffled], kind="stable")]
    top = most - round(DRAWN * most)
    rest = np.random.default_rng([seed, 4]).choice(ranked[top:], most - top, replace=False)
    return np.unique(np.concatenate([ranked[:top] + 1, rest + 1, published])).astype(np.int64)


@dataclass(frozen=True)
class Choices:
    """The products that compete at a cut.

    Attributes:
        items: their statistics, float32 (K, k).
        rows: their catalogue rows, ascending int64 (K,); None if they are all products.
        place: per catalogue row 1 + position among them, 0 = not among them, int64 (p + 1,); None if they are all.
        popular: see `Combined.popularity`.
    """

    items: NDArray[np.float32]
    rows: NDArray[np.int64] | None
    place: NDArray[np.int64] | None
    popular: dict[str, Tensor]

    @classmethod
    def of(cls, network: Combined, items: NDArray[np.float32], rows: NDArray[np.int64] | None) -> Choices:
        """Choices among `rows` of the catalogue (None = all) whose statistics at the cut are `items` (p, k)."""
        if rows is None:
            return cls(items, None, None, network.popularity(torch.from_numpy(items), None))
        place = np.zeros(len(items) + 1, dtype=np.int64)
        place[rows] = np.arange(1, len(rows) + 1)
        popular = network.popularity(torch.from_numpy(items), torch.from_numpy(rows))
        return cls(items[rows - 1], rows, place, popular)

    def competing(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some catalogue rows (> 0) that are among the candidates."""
        return rows if self.place is None else rows[self.place[rows] > 0]

    def positions(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of catalogue rows (> 0) among the candidates; those that do not compete are left out."""
        return rows - 1 if self.place is None else self.place[self.competing(rows)] - 1

    @torch.inference_mode()
    def table(self, network: Combined, live: int) -> Tensor:
        """Vectors of what competes for a network that is no longer trained, (K, D)."""
        tower, device = network.client.embedding.items, network.scale.device
        return tower.vectors(None if self.rows is None else torch.from_numpy(self.rows).to(device), live)

    def tensors(self) -> dict[str, Any]:
        """As a batch holds them."""
        return {
            "items": torch.from_numpy(self.items),
            "popular": self.popular,
            "candidates": None if self.rows is None else torch.from_numpy(self.rows),
            "place": None if self.place is None else torch.from_numpy(self.place),
        }


def published_rows(history: History, catalogue: Catalogue) -> NDArray[np.int64]:
    """Catalogue rows of the published target skus, in their order."""
    rows = catalogue.rows(history.published_targets(Task.SKU)).astype(np.int64)
    return rows[rows > 0]


@dataclass(frozen=True)
class Columns:
    """Which forecasts become columns.

    Attributes:
        categories: positions of the published categories among all.
        skus: positions of the published products among the candidates.
        new: per category, positions of its candidates that nobody has bought.
        labels: what they are, by the ids of the data: «category_7», «sku_123», «new_7».
    """

    categories: NDArray[np.int64]
    skus: NDArray[np.int64]
    new: tuple[NDArray[np.int64], ...]
    labels: tuple[str, ...]

    @classmethod
    def of(cls, history: History, tokens: Tokens, choices: Choices) -> Columns:
        """Published categories and skus, and the categories richest in products that nobody has bought."""
        catalogue = tokens.vocabulary.catalogue
        published = history.published_targets(Task.CATEGORY)
        known = published[np.isin(published, catalogue.categories)]
        rows = choices.competing(published_rows(history, catalogue))
        unsold = np.flatnonzero(choices.items[:, 6] > 0)
        category = catalogue.category[1:][unsold if choices.rows is None else choices.rows[unsold] - 1].astype(np.int64)
        counts = np.bincount(category, minlength=len(catalogue.categories) + 1)
        richest = [
            c for c in np.lexsort((np.arange(len(counts)), -counts))[:NEW_CATEGORIES].tolist() if counts[c] and c > 0
        ]
        labels = [
            *(f"category_{c}" for c in known),
            *(f"sku_{s}" for s in catalogue.sku[rows]),
            *(f"price_{p}" for p in range(PRICE_BUCKETS)),
            *(f"new_{catalogue.categories[c - 1]}" for c in richest),
        ]
        new = tuple(unsold[category == c] for c in richest)
        return cls(np.searchsorted(catalogue.categories, known), choices.positions(rows), new, tuple(labels))

    def names(self, network: Combined) -> tuple[str, ...]:
        """Names of the columns that `fill` gives."""
        settings = network.settings
        vectors = [f"z_{i}" for i in range(settings.width)] + [f"query_{i}" for i in range(settings.events.width)]
        forecasts = [f"forecast_{name}" for name in (*INTENSITIES, *self.labels)]
        return (*vectors, *forecasts, *(f"choice_{name}" for name in self.labels))

    def fill(self, outputs: Outputs) -> NDArray[np.float32]:
        """(B, columns): choice = log P(this, if anything); forecast = the log of the expected purchases of it, later."""
        far = outputs.intensity[:, INTENSITIES.index("far")]
        later = torch.nn.functional.softplus(far).log()[:, None]  # −log P(no purchase) is the mean of a Poisson count
        product, category, price = (outputs.choice["buy", aspect] for aspect in ASPECTS)
        new = [torch.logsumexp(product[:, torch.from_numpy(group)], dim=1, keepdim=True) for group in self.new]
        choices = torch.cat([category[:, self.categories], product[:, self.skus], price, *new], dim=1)
        parts: list[Any] = [outputs.z, outputs.query, outputs.intensity, choices + later, choices]
        filled: NDArray[np.float32] = torch.cat(parts, dim=1).float().cpu().numpy()
        return filled
