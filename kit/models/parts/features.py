"""Part `features`: hand-made features, scaled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

from pydantic import Field
from torch import Tensor

from kit.models.batch import CombinedBatch
from kit.models.parts.base import Part, PartSettings, part
from kit.models.parts.numeric import NUMERIC, AnyNumericSettings, QuantileSettings
from kit.models.sequence import ClientEncoder


class FeaturesSettings(PartSettings):
    """How they enter."""

    encoding: AnyNumericSettings = Field(QuantileSettings(), description="How numbers enter.")


@part
class Features(Part):
    """Hand-made features, as they are or encoded."""

    kind: ClassVar[str] = "features"
    description: ClassVar[str] = "Hand-made features, quantile-scaled."
    Settings: ClassVar[type[PartSettings]] = FeaturesSettings

    def __init__(self, dim: int, columns: Mapping[str, int], settings: FeaturesSettings) -> None:
        super().__init__(dim, columns, settings)
        self.encoding = NUMERIC.loaded()[settings.encoding.kind](columns.get(self.kind, 0), settings.encoding)
        self.sized(self.encoding.width)

    def forward(self, batch: CombinedBatch, client: ClientEncoder) -> Tensor:
        """(B, width)."""
        return cast(Tensor, self.encoding(batch.inputs[self.kind]))
