"""Gated recurrent units.

Technique B4.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from kit.claims import Claim
from kit.models.events import Batch
from kit.models.sequence.base import EncoderSettings, SequenceEncoder, encoder


class RecurrentSettings(EncoderSettings):
    """Depth and dropout between layers."""

    layers: int = Field(2, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)

    def stack(self, cell: type[nn.GRU] | type[nn.LSTM], width: int) -> nn.GRU | nn.LSTM:
        """The layers, as wide as what they read. Torch drops between layers only, and warns where there is one."""
        dropout = self.dropout if self.layers > 1 else 0.0
        return cell(width, width, self.layers, batch_first=True, dropout=dropout)


class GRUSettings(RecurrentSettings):
    """See `RecurrentSettings`."""

    kind: Literal["gru"] = "gru"


@encoder
class GRU(SequenceEncoder):
    """Stacked GRU with a residual connection around the whole stack; causal by construction."""

    kind: ClassVar[str] = "gru"
    description: ClassVar[str] = "Gated recurrent units."
    Settings: ClassVar[type[EncoderSettings]] = GRUSettings
    solves: ClassVar[tuple[Claim, ...]] = (Claim("order", margin=0.4, twin={"kind": "bag"}),)

    def __init__(self, width: int, settings: GRUSettings) -> None:
        super().__init__(width, settings)
        self.gru = settings.stack(nn.GRU, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """States (B, T, D); the order of events is all it knows of time beyond the tokens' own vectors."""
        states, _ = self.gru(x)
        out: Tensor = self.norm(x + states) * batch["mask"][..., None]
        return out
