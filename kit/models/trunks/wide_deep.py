"""Wide & deep (Cheng et al. 2016, arXiv 1606.07792): a linear path beside a deep one, summed.

Technique D3.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from kit.models.trunks.base import Trunk, TrunkSettings, trunk


class WideDeepSettings(TrunkSettings):
    """Size of the deep path."""

    kind: Literal["wide_deep"] = "wide_deep"
    hidden: int = Field(192, ge=8, description="Width of the deep layers.")
    depth: int = Field(2, ge=1, description="Deep layers.")
    dropout: float = Field(0.2, ge=0, lt=1)


@trunk
class WideDeep(Trunk):
    """The wide path sees every input column directly: what is linear in a feature need not pass a hidden layer."""

    kind: ClassVar[str] = "wide_deep"
    description: ClassVar[str] = "A linear path beside deep layers, summed."
    Settings: ClassVar[type[TrunkSettings]] = WideDeepSettings

    def __init__(self, width: int, out: int, settings: WideDeepSettings) -> None:
        super().__init__(width, out, settings)
        self.wide = nn.Linear(width, out)
        widths = [width, *[settings.hidden] * settings.depth]
        self.deep = nn.Sequential(
            *(nn.Sequential(nn.Linear(a, b), nn.GELU(), nn.Dropout(settings.dropout)) for a, b in pairwise(widths)),
            nn.Linear(settings.hidden, out),
        )
        self.norm = nn.LayerNorm(out)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, d_in) → (B, d_out)."""
        joined: Tensor = self.norm(self.wide(x) + self.deep(x))
        return joined
