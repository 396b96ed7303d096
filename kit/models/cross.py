"""Deep & cross network (DCN-v2) and the numeric embedding in front of it.

Wang et al. 2021, «DCN V2: Improved Deep & Cross Network» (arXiv 2008.13535):
    full:              x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l
    low-rank mixture:  x_{l+1} = Σ_i G_i(x_l) · x_0 ⊙ (U_i g(C_i g(V_iᵀ x_l)) + b_l) + x_l
Gorishniy et al. 2022, «On Embeddings for Numerical Features» (arXiv 2203.05556) for the piecewise-linear encoding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


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


class DeepCross(nn.Module):
    """Cross tower and deep tower side by side, joined by a linear layer and a norm: (B, d_in) → (B, d_out).

    The input is normalised first: the degree of the cross tower grows with depth, and with it any outlier.

    Args:
        width: d_in.
        out: d_out.
        hidden: width of both towers after the input projection.
        layers: cross layers.
        depth: deep layers.
        rank: 0 = full-rank cross layers, else the rank of the mixture's experts.
        experts: experts of the low-rank mixture.
        dropout: in the deep tower.
    """

    def __init__(
        self,
        width: int,
        out: int,
        *,
        hidden: int = 256,
        layers: int = 2,
        depth: int = 2,
        rank: int = 32,
        experts: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(width, hidden), nn.LayerNorm(hidden))
        self.cross = nn.ModuleList(
            CrossMixture(hidden, rank, experts) if rank else CrossLayer(hidden) for _ in range(layers)
        )
        self.deep = nn.Sequential(
            *(nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(dropout)) for _ in range(depth))
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


class PiecewiseLinear(nn.Module):
    """Piecewise-linear encoding of numeric columns over quantile bins, then one linear map per column: (B, c) → (B, c · d).

    A value is written as how far it has come through each bin: 1 for bins below, a fraction inside, 0 above. Missing
    values (NaN) get a learned vector of their own.

    Args:
        edges: bin edges per column (c, bins + 1), non-decreasing.
        width: d, numbers per column.
    """

    edges: Tensor

    def __init__(self, edges: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("edges", edges)
        columns, bins = edges.shape[0], edges.shape[1] - 1
        self.weight = nn.Parameter(torch.randn(columns, bins, width) * bins**-0.5)
        self.bias = nn.Parameter(torch.zeros(columns, width))
        self.missing = nn.Parameter(torch.zeros(columns, width))

    def encode(self, x: Tensor) -> Tensor:
        """x (B, c) → (B, c, bins) in [0, 1]."""
        low, high = self.edges[:, :-1], self.edges[:, 1:]
        # An empty bin (equal edges) is a step: 0 up to it, 1 above.
        inside = (x.unsqueeze(-1) - low) / (high - low).clamp_min(1e-12)
        return inside.clamp(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, c), NaN = missing → (B, c · d)."""
        absent = torch.isnan(x)
        encoded = self.encode(torch.where(absent, torch.zeros_like(x), x))
        mapped = torch.einsum("bcn,cnd->bcd", encoded, self.weight) + self.bias
        return torch.where(absent.unsqueeze(-1), self.missing, mapped).flatten(1)
