"""A plain feed-forward trunk: what crossing has to beat.

Technique D5.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal, cast

from pydantic import Field
from torch import Tensor, nn

from kit.models.trunks.base import Trunk, TrunkSettings, trunk


class MLPSettings(TrunkSettings):
    """Size of the network."""

    kind: Literal["mlp"] = "mlp"
    hidden: int = Field(256, ge=8, description="Width of every layer.")
    depth: int = Field(2, ge=1, description="Hidden layers.")
    dropout: float = Field(0.2, ge=0, lt=1)


@trunk
class MLP(Trunk):
    """Linear layers with norms, GELU and dropout between them."""

    kind: ClassVar[str] = "mlp"
    description: ClassVar[str] = "Plain feed-forward layers, no crosses."
    Settings: ClassVar[type[TrunkSettings]] = MLPSettings

    def __init__(self, width: int, out: int, settings: MLPSettings) -> None:
        super().__init__(width, out, settings)
        widths = [width, *[settings.hidden] * settings.depth]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.GELU(), nn.Dropout(settings.dropout))
                for a, b in pairwise(widths)
            ),
            nn.Linear(settings.hidden, out),
            nn.LayerNorm(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (B, d_in) → (B, d_out)."""
        return cast(Tensor, self.layers(x))
