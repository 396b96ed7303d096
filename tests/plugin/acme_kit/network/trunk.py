"""A trunk: one gated layer."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from kit.models.trunks import Trunk, TrunkSettings, trunk


class GateSettings(TrunkSettings):
    kind: Literal["gate"] = "gate"
    dropout: float = Field(0.0, ge=0, lt=1)


@trunk
class Gate(Trunk):
    kind: ClassVar[str] = "gate"
    description: ClassVar[str] = "A linear map, gated by another."
    Settings: ClassVar[type[TrunkSettings]] = GateSettings

    def __init__(self, width: int, out: int, settings: GateSettings) -> None:
        super().__init__(width, out, settings)
        self.value, self.gate = nn.Linear(width, out), nn.Linear(width, out)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.value(x) * self.gate(x).sigmoid())
        return out
