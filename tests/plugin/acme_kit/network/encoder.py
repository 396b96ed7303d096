"""A sequence encoder with a setting that reads more of the batch than event vectors: some kinds of events are ignored."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kit.models.events import Batch
from kit.models.sequence import EncoderSettings, SequenceEncoder, encoder


class FadingSettings(EncoderSettings):
    kind: Literal["fading"] = "fading"
    keep: float = Field(0.8, gt=0, lt=1, description="What is left of a state after each event.")
    ignored: int = Field(0, ge=0, description="Kind of events that leave the state as it is.")


@encoder
class Fading(SequenceEncoder):
    kind: ClassVar[str] = "fading"
    description: ClassVar[str] = "Exponentially fading sum of events."
    Settings: ClassVar[type[EncoderSettings]] = FadingSettings

    def __init__(self, width: int, settings: FadingSettings) -> None:
        super().__init__(width, settings)
        self.keep, self.ignored = settings.keep, settings.ignored
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        state, states = torch.zeros_like(x[:, 0]), []
        counts = (batch["kind"] != self.ignored)[..., None]
        for step in range(x.shape[1]):
            state = torch.where(counts[:, step], self.keep * state + x[:, step], state)
            states.append(state)
        out: Tensor = self.linear(torch.stack(states, dim=1)) * batch["mask"][..., None]
        return out
