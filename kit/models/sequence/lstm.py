"""Long short-term memory (Hochreiter & Schmidhuber 1997). Technique B5: the seed's next-item model of 128 then 64 units.

NOTE[DIFF]: layers keep the event vectors' width, so that any layer count fits the rest of the network.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from kit.claims import Claim
from kit.models.events import Batch
from kit.models.sequence.base import EncoderSettings, SequenceEncoder, encoder
from kit.models.sequence.gru import RecurrentSettings


class LSTMSettings(RecurrentSettings):
    """See `RecurrentSettings`."""

    kind: Literal["lstm"] = "lstm"


@encoder
class LSTM(SequenceEncoder):
    """Stacked LSTM with a residual connection around the whole stack; causal by construction."""

    kind: ClassVar[str] = "lstm"
    description: ClassVar[str] = "Long short-term memory."
    Settings: ClassVar[type[EncoderSettings]] = LSTMSettings
    solves: ClassVar[tuple[Claim, ...]] = (Claim("order", margin=0.4, twin={"kind": "bag"}),)

    def __init__(self, width: int, settings: LSTMSettings) -> None:
        super().__init__(width, settings)
        self.lstm = settings.stack(nn.LSTM, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """States (B, T, D)."""
        states, _ = self.lstm(x)
        out: Tensor = self.norm(x + states) * batch["mask"][..., None]
        return out
