"""Deep & cross network (DCN-v2).

Wang et al. 2021, "DCN V2: Improved Deep & Cross Network" (arXiv 2008.13535):
    full:              x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l
    low-rank mixture:  x_{l+1} = Σ_i G_i(x_l) · x_0 ⊙ (U_i g(C_i g(V_iᵀ x_l)) + b_l) + x_l

Technique D1.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kit.claims import Claim
from kit.models.trunks.base import Trunk, TrunkSettings, trunk


class CrossLayer(nn.Module):
    """One full-rank cross layer: x_0 ⊙ (W x + b) + x, on (B, d)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, start: Tensor, x: Tensor) -> Tensor:
        """start (B, d) is x_0, x (B, d) the previous layer; returns (B, d)."""
        crossed: Tensor = start * self.linear(x) + x
        return crossed


class CrossMixture(nn.Module):
    """One cross layer as a gated mixture of low-rank experts with a nonlinearity in the low-rank space, on (B, d)."""

    def __init__(self, width: int, rank: int, experts: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(experts, width, rank))
        self.inner = nn.Parameter(torch.empty(experts, rank, rank))
        self.up = nn.Parameter(torch.empty(experts, rank, width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.gate = nn.Linear(width, experts)
        for weight in (self.down, self.inner, self.up):
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)

    def forward(self, start: Tensor, x: Tensor) -> Tensor:
        """start (B, d) is x_0, x (B, d) the previous layer; returns (B, d)."""
        hidden = torch.tanh(torch.einsum("bd,edr->ber", x, self.down))
        hidden = torch.tanh(torch.einsum("ber,ers->bes", hidden, self.inner))
        gates = torch.softmax(self.gate(x), dim=-1)  # (B, E)
        mixed = torch.einsum("ber,erd,be->bd", hidden, self.up, gates)
        return start * (mixed + self.bias) + x


class DeepCrossSettings(TrunkSettings):
    """Size of the deep & cross network."""

    kind: Literal["deep_cross"] = "deep_cross"
    hidden: int = Field(192, ge=8, description="Width of both towers after the input projection.")
    layers: int = Field(2, ge=0, description="Cross layers.")
    depth: int = Field(2, ge=0, description="Deep layers.")
    rank: int = Field(32, ge=0, description="Rank of the mixture's experts; 0 = full-rank cross layers.")
    experts: int = Field(2, ge=1, description="Experts of the low-rank mixture.")
    dropout: float = Field(0.2, ge=0, lt=1, description="In the deep tower.")


@trunk
class DeepCross(Trunk):
    """Cross tower and deep tower side by side, joined by a linear layer and a norm.

    The input is normalised first: the degree of the cross tower grows with depth, and with it any outlier.
    """

    kind: ClassVar[str] = "deep_cross"
    description: ClassVar[str] = "Cross layers and deep layers side by side (DCN-v2)."
    Settings: ClassVar[type[TrunkSettings]] = DeepCrossSettings
    solves: ClassVar[tuple[Claim, ...]] = (
        Claim("xor", margin=0.15, twin={"layers": 0}, given={"hidden": 24, "depth": 0, "rank": 4}),
        Claim("xor", margin=0.15, twin={"layers": 0}, given={"hidden": 24, "depth": 0, "rank": 0}),
    )

    def __init__(self, width: int, out: int, settings: DeepCrossSettings) -> None:
        super().__init__(width, out, settings)
        hidden, rank, experts = settings.hidden, settings.rank, settings.experts
        self.project = nn.Sequential(nn.Linear(width, hidden), nn.LayerNorm(hidden))
        self.cross = nn.ModuleList(
            CrossMixture(hidden, rank, experts) if rank else CrossLayer(hidden) for _ in range(settings.layers)
        )
        self.deep = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(settings.dropout))
                for _ in range(settings.depth)
            )
        )
        self.cross_norm = nn.LayerNorm(hidden)
        self.out = nn.Sequential(nn.Linear(2 * hidden, out), nn.LayerNorm(out))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, d_in) → (B, d_out), each row with zero mean and unit variance up to a learned scale."""
        start = self.project(x)
        crossed = start
        for layer in self.cross:
            crossed = layer(start, crossed)
        joined: Tensor = self.out(torch.cat([self.cross_norm(crossed), self.deep(start)], dim=-1))
        return joined
