"""The encoder without order: what sequence encoders have to beat."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kit.models.events import Batch
from kit.models.sequence.base import EncoderSettings, SequenceEncoder, encoder


class BagSettings(EncoderSettings):
    """Size of the feed-forward network."""

    kind: Literal["bag"] = "bag"
    expand: int = Field(4, ge=1, description="Inner width of the feed-forward part as a multiple of the width.")


@encoder
class Bag(SequenceEncoder):
    """A feed-forward network on the average of all events so far; the twin that shows what order is worth."""

    kind: ClassVar[str] = "bag"
    description: ClassVar[str] = "Running average of events: no order (for comparison)."
    Settings: ClassVar[type[EncoderSettings]] = BagSettings

    def __init__(self, width: int, settings: BagSettings) -> None:
        super().__init__(width, settings)
        self.feed = nn.Sequential(
            nn.Linear(width, settings.expand * width), nn.GELU(), nn.Linear(settings.expand * width, width)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """States (B, T, D)."""
        mean = x.cumsum(dim=1) / torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]
        out: Tensor = self.norm(mean + self.feed(mean)) * batch["mask"][..., None]
        return out
