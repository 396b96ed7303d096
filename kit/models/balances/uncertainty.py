"""Learned uncertainties: Kendall, Gal & Cipolla 2018 (arXiv 1705.07115): Σ w_k (e^{−s_k} L_k + s_k), s_k learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from kit.models.balances.base import Balance, BalanceSettings, balance


class UncertaintySettings(BalanceSettings):
    """None."""

    kind: Literal["uncertainty"] = "uncertainty"


@balance
class Uncertainty(Balance):
    """Each term times its weight and a learned precision."""

    kind: ClassVar[str] = "uncertainty"
    description: ClassVar[str] = "Each term times its weight and a learned precision."
    Settings: ClassVar[type[BalanceSettings]] = UncertaintySettings

    def __init__(self, weights: dict[str, float], settings: BalanceSettings, forks: Sequence[str] = ()) -> None:
        super().__init__(weights, settings, forks)
        self.log_variance = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in weights})

    def forward(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weighted terms, each with its log-variance added (so they can be negative)."""
        out = {}
        for name, value in terms.items():
            s = self.log_variance[name]
            out[name] = self.weights.get(name, 1.0) * (torch.exp(-s) * value + s)
        return out
