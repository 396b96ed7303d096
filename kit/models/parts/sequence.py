"""Part `sequence`: the states of the sequence encoder, read out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

from pydantic import Field, field_validator
from torch import Tensor, nn

from kit.models.batch import CombinedBatch
from kit.models.parts.base import Part, PartSettings, part
from kit.models.sequence import ClientEncoder, Readouts, known_readouts


class SequencePartSettings(PartSettings):
    """How states become one vector."""

    readouts: tuple[str, ...] = Field(
        ("last", "mean", "recent"), min_length=1, description="How states become one vector: last, mean, recent."
    )

    @field_validator("readouts")
    @classmethod
    def _known(cls, readouts: tuple[str, ...]) -> tuple[str, ...]:
        return known_readouts(readouts)


@part
class SequencePart(Part):
    """Readouts of the encoder's states, normalised."""

    kind: ClassVar[str] = "sequence"
    description: ClassVar[str] = "States of the sequence encoder, read out."
    Settings: ClassVar[type[PartSettings]] = SequencePartSettings

    def __init__(self, dim: int, columns: Mapping[str, int], settings: SequencePartSettings) -> None:
        super().__init__(dim, columns, settings)
        self.readouts = Readouts(settings.readouts, dim)
        self.norm = nn.LayerNorm(self.readouts.width)
        self.sized(self.readouts.width)

    def forward(self, batch: CombinedBatch, client: ClientEncoder) -> Tensor:
        """(B, readouts · D)."""
        states = client(batch.sequence)
        return cast(Tensor, self.norm(self.readouts(states, batch.sequence, batch.cut)))
