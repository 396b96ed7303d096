"""Part `features`: hand-made features, scaled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

from pydantic import Field
from torch import Tensor, nn

from kit.models.batch import CombinedBatch
from kit.models.parts.base import Part, PartSettings, part
from kit.models.parts.numeric import AnyNumericSettings, QuantileSettings, load_numeric
from kit.models.sequence import ClientEncoder


class FeaturesSettings(PartSettings):
    """How they enter."""

    encoding: AnyNumericSettings = Field(QuantileSettings(), description="How numbers enter.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of its numbers that a client lacks while training.")


@part
class Features(Part):
    """Hand-made features, as they are or encoded."""

    kind: ClassVar[str] = "features"
    description: ClassVar[str] = "Hand-made features, quantile-scaled."
    Settings: ClassVar[type[PartSettings]] = FeaturesSettings

    def __init__(self, dim: int, columns: Mapping[str, int], settings: FeaturesSettings) -> None:
        super().__init__(dim, columns, settings)
        self.encoding = load_numeric()[settings.encoding.kind](columns.get(self.kind, 0), settings.encoding)
        self.dropout = nn.Dropout(settings.dropout)
        self.sized(self.encoding.width)

    def forward(self, batch: CombinedBatch, client: ClientEncoder) -> Tensor:
        """(B, width)."""
        return cast(Tensor, self.dropout(self.encoding(batch.inputs[self.kind])))
