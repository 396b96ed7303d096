"""What competes when a client chooses: all products, or so many of them as fit a softmax. Registers nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kit.challenge import PRICE_BUCKETS
from kit.models.batch import Market
from kit.models.items import ItemEncoder
from kit.tokens import Catalogue

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


def make_market(catalogue: Catalogue, items: NDArray[np.float32], rows: NDArray[np.int64] | None, live: int) -> Market:
    """Choices among `rows` of the catalogue (ascending; None = all).

    Args:
        catalogue: p products.
        items: statistics of all products at the cut, (p, k).
        rows: catalogue rows of those that compete.
        live: how many sku words are known at the cut.
    """
    popular = popularity(catalogue, torch.from_numpy(items), None if rows is None else torch.from_numpy(rows))
    if rows is None:
        return Market(torch.from_numpy(items), popular, live)
    place = np.zeros(len(items) + 1, dtype=np.int64)
    place[rows] = np.arange(1, len(rows) + 1)
    statistics = torch.from_numpy(items[rows - 1])
    return Market(statistics, popular, live, torch.from_numpy(rows), torch.from_numpy(place))


@torch.inference_mode()
def with_table(market: Market, items: ItemEncoder, device: torch.device) -> Market:
    """On a device, with the vectors of what competes, for a network that is no longer trained."""
    there = market.to(device)
    return replace(there, table=items.vectors(there.candidates, there.live))


@torch.no_grad()
def popularity(catalogue: Catalogue, items: Tensor, candidates: Tensor | None) -> dict[str, Tensor]:
    """Log popularity at a cut, product (K,), category (C,) and price (100,): decayed purchases and cart adds of everybody.

    Args:
        catalogue: categories and prices of products.
        items: statistics of all products, (p, k).
        candidates: catalogue rows of those that compete, (K,), or None for all.
    """
    counts = torch.expm1(items[:, :2]).sum(1) + 0.03 * torch.expm1(items[:, 2:4]).sum(1) + 0.1
    found = {"product": (counts if candidates is None else counts[candidates - 1]).log()}
    for aspect, size in (("category", len(catalogue.categories)), ("price", PRICE_BUCKETS)):
        place = torch.from_numpy(getattr(catalogue, aspect)[1:].astype(np.int64))
        total = torch.zeros(size + 1).scatter_add(0, place, counts)
        found[aspect] = (total[1:] + 0.1).log()
    return found
