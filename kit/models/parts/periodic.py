"""Periodic encoding of numbers. Technique K5: Gorishniy et al. 2022, "On Embeddings for Numerical Features" (arXiv 2203.05556).

Each number x becomes [cos 2πcx, sin 2πcx] for learned frequencies c ~ N(0, σ²), then a linear map of its own and ReLU.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kit.claims import Claim
from kit.models.parts.numeric import NumericEncoding, NumericSettings, numeric_encoding


class PeriodicSettings(NumericSettings):
    """Frequencies and width."""

    kind: Literal["periodic"] = "periodic"
    frequencies: int = Field(8, ge=1, description="Per feature.")
    spread: float = Field(1.0, gt=0, description="σ of the frequencies at the start; features lie in [-1, 1].")
    size: int = Field(4, ge=1, description="Numbers per feature.")


@numeric_encoding
class Periodic(NumericEncoding):
    """Sines and cosines of every feature, then a linear map of its own and ReLU; missing ones have a learned vector."""

    kind: ClassVar[str] = "periodic"
    description: ClassVar[str] = "Features as sines and cosines of learned frequencies, each mapped by itself."
    Settings: ClassVar[type[NumericSettings]] = PeriodicSettings
    solves: ClassVar[tuple[Claim, ...]] = (Claim("bands", margin=0.1, twin={"kind": "quantile"}),)

    def __init__(self, columns: int, settings: PeriodicSettings) -> None:
        super().__init__(columns, settings)
        self.width = columns * settings.size
        self.frequency = nn.Parameter(settings.spread * torch.randn(columns, settings.frequencies))
        self.weight = nn.Parameter(
            torch.randn(columns, 2 * settings.frequencies, settings.size) * (2 * settings.frequencies) ** -0.5
        )
        self.bias = nn.Parameter(torch.zeros(columns, settings.size))
        self.missing = nn.Parameter(torch.zeros(columns, settings.size))

    def forward(self, x: Tensor) -> Tensor:
        """(B, F · size)."""
        absent = torch.isnan(x)
        turned = 2 * math.pi * x.nan_to_num()[..., None] * self.frequency
        waves = torch.cat([turned.cos(), turned.sin()], dim=-1)
        mapped = torch.relu(torch.einsum("bck,ckd->bcd", waves, self.weight) + self.bias)
        return torch.where(absent[..., None], self.missing, mapped).flatten(1)
