"""Deep learning recommendation model. Technique D4: Naumov et al. 2019 (arXiv 1906.00091).

A bottom network makes vectors of one size, their pairwise dot products are the crosses, a top network reads both.

NOTE[DIFF]: parts come side by side as one vector, not as separate categorical fields, so the n fields are learned maps of it.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kit.claims import Claim
from kit.models.trunks.base import Trunk, TrunkSettings, trunk


class DLRMSettings(TrunkSettings):
    """Size of the fields and of the top network."""

    kind: Literal["dlrm"] = "dlrm"
    fields: int = Field(16, ge=2, description="n: vectors whose dot products are taken, n (n − 1) / 2 of them.")
    size: int = Field(16, ge=1, description="Of each of these vectors.")
    hidden: int = Field(192, ge=8, description="Width of the bottom and top layers.")
    depth: int = Field(1, ge=0, description="Hidden layers of the top network.")
    dots: bool = Field(True, description="The dot products; without them the trunk is a plain network.")
    dropout: float = Field(0.2, ge=0, lt=1)


@trunk
class DLRM(Trunk):
    """Bottom layer, pairwise dot products, top layers."""

    kind: ClassVar[str] = "dlrm"
    description: ClassVar[str] = "Pairwise dot products of learned fields (DLRM)."
    Settings: ClassVar[type[TrunkSettings]] = DLRMSettings
    solves: ClassVar[tuple[Claim, ...]] = (
        Claim("xor", margin=0.05, twin={"dots": False}, given={"depth": 0, "hidden": 32, "dropout": 0.0}),
    )

    pairs: Tensor

    def __init__(self, width: int, out: int, settings: DLRMSettings) -> None:
        super().__init__(width, out, settings)
        self.fields, self.dots = settings.fields, settings.dots
        self.norm = nn.LayerNorm(width)
        self.bottom = nn.Linear(width, settings.hidden)
        self.project = nn.Linear(width, settings.fields * settings.size)
        self.register_buffer("pairs", torch.triu_indices(settings.fields, settings.fields, 1), persistent=False)
        crosses = self.pairs.shape[1] if settings.dots else 0
        self.crossed = nn.LayerNorm(crosses) if crosses else None
        layers: list[nn.Module] = []
        for _ in range(settings.depth):
            layers += [nn.Linear(settings.hidden, settings.hidden), nn.GELU(), nn.Dropout(settings.dropout)]
        self.join = nn.Linear(settings.hidden + crosses, settings.hidden)
        self.top = nn.Sequential(*layers, nn.Linear(settings.hidden, out), nn.LayerNorm(out))

    def products(self, x: Tensor) -> Tensor:
        """Dot products of the fields of x (B, d_in), (B, n (n − 1) / 2)."""
        fields = self.project(x).view(len(x), self.fields, -1)
        gram = fields @ fields.transpose(1, 2)
        products: Tensor = gram[:, self.pairs[0], self.pairs[1]]
        return products

    def forward(self, x: Tensor) -> Tensor:
        """x (B, d_in) → (B, d_out)."""
        x = self.norm(x)
        seen = [self.bottom(x)]
        if self.crossed is not None:
            seen.append(self.crossed(self.products(x)))
        joined: Tensor = self.top(self.join(torch.cat(seen, dim=1)))
        return joined
