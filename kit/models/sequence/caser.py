"""Convolutional sequence embedding. Technique B7: Tang & Wang 2018, "Personalized Top-N Sequential Recommendation via
Convolutional Sequence Embedding" (arXiv 1809.07426).

The last L events are an image of L × D. Horizontal filters of several heights see unions of neighbouring events (max over time),
vertical filters (L × 1) weigh the events by place, which finds patterns that skip events.

NOTE[DIFF]: a state for every event, of the L events that end there, instead of one for the sequence; no client embedding, as
clients are new at inference.
"""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from kit.claims import Claim
from kit.models.events import Batch
from kit.models.sequence.base import EncoderSettings, SequenceEncoder, encoder


class CaserSettings(EncoderSettings):
    """Size of the image and of its filters."""

    kind: Literal["caser"] = "caser"
    window: int = Field(16, ge=2, description="L: events that a state is made of.")
    heights: tuple[int, ...] = Field((2, 3, 4), min_length=1, description="Of the horizontal filters, at most L.")
    horizontal: int = Field(16, ge=1, description="Horizontal filters of each height.")
    vertical: int = Field(4, ge=1, description="Vertical filters.")
    dropout: float = Field(0.1, ge=0, lt=1)


@encoder
class Caser(SequenceEncoder):
    """Horizontal and vertical convolutions over the last events, joined by one layer, beside the event itself."""

    kind: ClassVar[str] = "caser"
    description: ClassVar[str] = "Convolutions over the last events (Caser)."
    Settings: ClassVar[type[EncoderSettings]] = CaserSettings
    solves: ClassVar[tuple[Claim, ...]] = (Claim("order", margin=0.4, twin={"kind": "bag"}),)

    def __init__(self, width: int, settings: CaserSettings) -> None:
        super().__init__(width, settings)
        self.window = settings.window
        self.heights = tuple(min(height, settings.window) for height in settings.heights)
        self.across = nn.ModuleList(nn.Conv1d(width, settings.horizontal, height) for height in self.heights)
        self.down = nn.Parameter(torch.randn(settings.vertical, 1, settings.window) * settings.window**-0.5)
        joined = settings.horizontal * len(self.heights) + settings.vertical * width
        self.join = nn.Sequential(nn.Dropout(settings.dropout), nn.Linear(joined, width))
        self.norm = nn.LayerNorm(width)

    def horizontal(self, x: Tensor, conv: nn.Conv1d, height: int) -> Tensor:
        """(B, D, T) → (B, filters, T): the strongest answer within the last L events; unions before column 0 are of zeros."""
        answers = F.relu(conv(F.pad(x, (height - 1, 0))))
        reach = self.window - height + 1
        return F.max_pool1d(F.pad(answers, (reach - 1, 0)), reach, stride=1)

    def vertical(self, x: Tensor) -> Tensor:
        """(B, D, T) → (B, filters · D, T): weighted sums of the last L events, by place."""
        b, d, t = x.shape
        sums = F.conv1d(F.pad(x, (self.window - 1, 0)).reshape(b * d, 1, -1), self.down)
        return sums.reshape(b, -1, t)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """States (B, T, D)."""
        if not len(x):
            return torch.zeros_like(x)
        turned = (x * batch["mask"][..., None]).transpose(1, 2)
        pairs = zip(self.across, self.heights, strict=True)
        found = [self.horizontal(turned, cast(nn.Conv1d, conv), height) for conv, height in pairs]
        joined = self.join(torch.cat([*found, self.vertical(turned)], dim=1).transpose(1, 2))
        out: Tensor = self.norm(x + joined) * batch["mask"][..., None]
        return out
