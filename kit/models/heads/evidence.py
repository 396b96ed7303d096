"""What hand-made columns say of one product, category or price bucket, read by all of them alike. Registers nothing.

Some features are about a single label: `targets__category_7` is the client's expected demand for category 7. Among a thousand
others they would have to pass the trunk and a dot product one by one, each learned from the few buyers of its own label. Here
every label reads its own columns through one small network, taught by the buyers of all (K10 of the catalogue: a head that
targets share).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from kit.challenge import PRICE_BUCKETS
from kit.tokens import Catalogue
from kit.tokens.vocabulary import index_in

HIDDEN: Final = 16
PATTERNS: Final[Mapping[str, tuple[str, ...]]] = {
    "product": ("targets__sku_*", "top__sku_*"),
    "category": ("targets__category_*", "top__category_*"),
    "price": ("price_affinity__at_*", "price_affinity__share_*", "browsing__price_*"),
}
"""Columns about single labels, by aspect: * is a sku, a category, or the middle of a price band."""


class Evidence(nn.Module):
    """A label's own columns → what to add to its logit; 0 for labels without any, and at the start of training for all.

    Args:
        width: of the combined vector, which decides how the columns are read.
        names: of the feature columns.
        aspect: product, category or price.
        catalogue: which labels there are.
    """

    labels: Tensor
    index: Tensor

    def __init__(self, width: int, names: Sequence[str], aspect: str, catalogue: Catalogue) -> None:
        super().__init__()
        labels, index = own_columns(names, aspect, catalogue)
        self.register_buffer("labels", torch.from_numpy(labels), persistent=False)
        self.register_buffer("index", torch.from_numpy(index), persistent=False)
        self.read = nn.Linear(3 * index.shape[1] + 1, HIDDEN)
        self.ask = nn.Linear(width, HIDDEN, bias=False)
        self.out = nn.Linear(HIDDEN, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor, z: Tensor, popular: Tensor, at: Tensor) -> Tensor:
        """(B, n), to be added to logits.

        Args:
            features: (B, F) in [-1, 1], NaN = missing.
            z: (B, width).
            popular: log popularity of all n labels, (n,).
            at: where `labels` stand among the n, from 1, 0 = nowhere, (L,).
        """
        own = F.pad(features, (0, 1), value=float("nan"))[:, self.index]  # (B, L, k); −1 is the column that nobody has
        missing = torch.isnan(own)
        own = own.nan_to_num()
        level = own.sum(1, keepdim=True) / (~missing).sum(1, keepdim=True).clamp_min(1)
        beside = torch.where(missing, 0.0, own - level)  # among the client's own labels
        wanted = F.pad(popular - popular.mean(), (1, 0))[at].expand(len(z), -1)[..., None]
        read = self.read(torch.cat([own, beside, missing.to(own.dtype), wanted], dim=2))
        said = self.out(F.gelu(read + self.ask(z)[:, None, :]))[..., 0]
        total = torch.zeros(len(z), len(popular) + 1, device=z.device, dtype=said.dtype)
        return total.index_add(1, at, said)[:, 1:]


def own_columns(names: Sequence[str], aspect: str, catalogue: Catalogue) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels that have columns (L,), numbered from 1, and where these stand (L, k); −1 where a label lacks one."""
    found = []
    for pattern in PATTERNS[aspect]:
        form = re.compile(re.escape(pattern).replace(r"\*", r"(\d+)"))
        matches = [(position, form.fullmatch(name)) for position, name in enumerate(names)]
        found.append({int(match[1]): position for position, match in matches if match})
    size = {"product": len(catalogue), "category": len(catalogue.categories), "price": PRICE_BUCKETS}[aspect]
    index = np.full((size + 1, len(found)), -1, dtype=np.int64)
    for column, positions in enumerate(found):
        ids, places = np.array(list(positions), dtype=np.int64), np.array(list(positions.values()), dtype=np.int64)
        if len(ids) == 0:
            continue
        if aspect == "price":  # the nearest band
            buckets = np.arange(PRICE_BUCKETS)
            index[1:, column] = places[np.abs(buckets[:, None] - ids[None, :]).argmin(axis=1)]
        else:
            rows = catalogue.rows(ids) if aspect == "product" else index_in(catalogue.categories, ids)
            index[rows[rows > 0], column] = places[rows > 0]
    labels = np.flatnonzero((index >= 0).any(axis=1))
    return labels, index[labels]
