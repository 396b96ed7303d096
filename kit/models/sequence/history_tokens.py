"""History tokens: a bottleneck that later events look through. Technique K1: arXiv 2508.01474.

In a share of the batches a few history tokens stand between events. A token sees all events before it; an event after it sees
that token and what came since, not the events that the token stands for, so the token learns to hold them. Asked for states,
the encoder adds to every event's state that of a history token placed right after it.

NOTE[DIFF]: the paper reads the token's state alone, from one token at the end. Here states serve training as well, so the sum
of both is read, in training and later alike; the bottleneck acts on the events' own states.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kit.claims import Claim
from kit.models.events import Batch
from kit.models.sequence.base import EncoderSettings, SequenceEncoder, encoder, require_heads
from kit.models.sequence.transformer import LayerSettings, TransformerLayer, rotations


class HistoryTokensSettings(LayerSettings):
    """How often and how many, and the size of the layers."""

    kind: Literal["history_tokens"] = "history_tokens"
    share: float = Field(0.5, ge=0, le=1, description="Share of the training batches with a bottleneck.")
    tokens: int = Field(2, ge=1, description="Places of the bottleneck in such a batch, drawn for each.")


def bottleneck(steps: int, places: Tensor) -> Tensor:
    """What sees what among T events, then T history tokens, bool (2T, 2T).

    Token t sees the events up to t and itself. An event sees events up to itself; with `places` (ascending) it sees, instead of
    those up to the latest place before it, that place's token.
    """
    at = torch.arange(steps, device=places.device)
    before = torch.searchsorted(places, at)  # places that lie before an event
    last = torch.where(before > 0, places[(before - 1).clamp(min=0)], -1) if len(places) else torch.full_like(at, -1)
    causal = at[None] <= at[:, None]
    events = causal & (at[None] > last[:, None])
    through = at[None] == last[:, None]
    seen = torch.zeros(2 * steps, 2 * steps, dtype=torch.bool, device=places.device)
    seen[:steps, :steps], seen[:steps, steps:] = events, through
    seen[steps:, :steps], seen[steps:, steps:] = causal, torch.eye(steps, dtype=torch.bool, device=places.device)
    return seen


@encoder
class HistoryTokens(SequenceEncoder):
    """The transformer with rotary positions, over events and one history token after each."""

    kind: ClassVar[str] = "history_tokens"
    description: ClassVar[str] = "Causal transformer with history tokens that later events look through."
    Settings: ClassVar[type[EncoderSettings]] = HistoryTokensSettings
    solves: ClassVar[tuple[Claim, ...]] = (Claim("order", margin=0.4, twin={"kind": "bag"}),)

    def __init__(self, width: int, settings: HistoryTokensSettings) -> None:
        super().__init__(width, settings)
        require_heads(width, settings.heads, even=True)
        self.heads, self.share, self.tokens = settings.heads, settings.share, settings.tokens
        self.layers = nn.ModuleList(TransformerLayer(width, settings) for _ in range(settings.layers))
        self.token = nn.Parameter(0.02 * torch.randn(width))
        self.norm = nn.LayerNorm(width)

    def places(self, steps: int, device: torch.device) -> Tensor:
        """Where the bottleneck is in this batch, ascending; nowhere outside training."""
        if not self.training or float(torch.rand(())) >= self.share:
            return torch.empty(0, dtype=torch.int64, device=device)
        drawn: Tensor = torch.randint(steps, (self.tokens,), device=device).unique()  # type: ignore[no-untyped-call]
        return drawn

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """States (B, T, D)."""
        b, steps, d = x.shape
        seen = bottleneck(steps, self.places(steps, x.device))
        turns = rotations(steps, d // self.heads, x.device).repeat(2, 1)
        x = torch.cat([x, self.token.expand(b, steps, d)], dim=1)
        for layer in self.layers:
            x = layer(x, turns, seen)
        out: Tensor = self.norm(x[:, :steps] + x[:, steps:]) * batch["mask"][..., None]
        return out
