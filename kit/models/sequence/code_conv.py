"""Convolution over the 16 codes of names and queries. Technique B12: what a CNN or a vision transformer is for images.

NOTE[DIFF]: there are no images. The codes are the only content, so a one-dimensional convolution runs over their 16 places,
as over patches, and what it finds is added to the event's vector before a causal transformer. Unlike the sum of code rows
that events have anyway, neighbouring codes are seen together.
"""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from kit.challenge import CODE_VALUES, CODES
from kit.claims import Claim
from kit.models.events import Batch
from kit.models.sequence.base import EncoderSettings, encoder
from kit.models.sequence.transformer import Transformer, TransformerSettings


class CodeConvSettings(TransformerSettings):
    """The transformer's settings, and those of the convolution."""

    kind: Literal["code_conv"] = "code_conv"  # type: ignore[assignment]
    channels: int = Field(16, ge=1, description="Numbers per code.")
    filters: int = Field(32, ge=1, description="Of the convolution.")
    reach: int = Field(3, ge=1, le=CODES, description="Neighbouring codes that a filter sees.")


@encoder
class CodeConv(Transformer):
    """The transformer on event vectors plus a convolution over the event's codes."""

    kind: ClassVar[str] = "code_conv"
    description: ClassVar[str] = "Convolution over name and query codes, then a causal transformer."
    Settings: ClassVar[type[EncoderSettings]] = CodeConvSettings
    solves: ClassVar[tuple[Claim, ...]] = (Claim("codes", margin=0.2, twin={"kind": "transformer"}),)

    def __init__(self, width: int, settings: CodeConvSettings) -> None:
        super().__init__(width, settings)
        self.rows = nn.Embedding(2 * CODES * CODE_VALUES, settings.channels)  # names, then queries
        self.conv = nn.Conv1d(settings.channels, settings.filters, settings.reach)
        self.spread = nn.Linear(settings.filters, width)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """States (B, T, D)."""
        if "codes" not in batch or not len(batch["codes"]):
            return super().forward(x, batch)
        place = torch.arange(CODES, device=x.device) * CODE_VALUES
        asked = batch["asked"].long()[:, None] * CODES * CODE_VALUES
        rows = self.rows(batch["codes"].long() + place + asked)
        found = self.spread(torch.relu(self.conv(rows.transpose(1, 2))).amax(dim=2))
        flat = x.flatten(0, 1).index_add(0, batch["coded"], cast(Tensor, found).to(x.dtype))
        return super().forward(flat.view_as(x), batch)
