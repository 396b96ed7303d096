"""Attention that knows rules. Technique B10: constraint-biased transformers (Int. J. Data Science and Analytics 2026,
10.1007/s41060-026-01078-w): A = softmax(QKᵀ/√d + Σ_r λ_r M_r).

NOTE[DIFF]: the paper was read in summary; the rules are those that this data knows. M_r is −1 at events that a rule takes
out, as far as was known at the event that looks: λ_r is by how much their logit falls, and `hard` takes them out altogether.
An event always sees itself.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from kit.claims import Claim
from kit.models.events import Batch
from kit.models.sequence.base import EncoderSettings, SequenceEncoder, encoder, require_heads
from kit.models.sequence.transformer import LayerSettings, TransformerLayer, rotations

CART: Final = 2
REMOVE: Final = 3
"""Kinds of tokens."""
BURST_US: Final = 2_000_000
"""Events that follow the one before within so many microseconds are taken for a machine's."""


class RuledSettings(LayerSettings):
    """Size of the layers, and what each rule weighs."""

    kind: Literal["ruled"] = "ruled"
    removes: float = Field(2.0, ge=0, description="λ of removals from the cart.")
    taken_back: float = Field(2.0, ge=0, description="λ of cart adds whose product was removed again since.")
    bursts: float = Field(0.0, ge=0, description="λ of events within two seconds of the one before.")
    hard: bool = Field(False, description="Rules with λ > 0 forbid instead of weighing.")


def broken(batch: Batch, rule: str) -> Tensor:
    """M of a rule, bool (B, T or 1, T): [b, i, j] whether j is taken out when i looks, from events up to i alone."""
    kind, time = batch["kind"], batch["time"]
    if rule == "removes":
        return (kind == REMOVE)[:, None, :]
    if rule == "bursts":
        close = F.pad((time[:, 1:] - time[:, :-1]) <= BURST_US, (1, 0))
        return close[:, None, :]
    same = (batch["product"][:, :, None] == batch["product"][:, None, :]) & (batch["product"] > 0)[:, None, :]
    undone = same & (kind == REMOVE)[:, :, None] & (kind == CART)[:, None, :]  # i removes what j added
    later = torch.ones(kind.shape[1], kind.shape[1], dtype=torch.bool, device=kind.device).tril(-1)
    return (undone & later).cumsum(dim=1) > 0  # … or an event before i did


@encoder
class Ruled(SequenceEncoder):
    """The transformer with rotary positions and a bias at events that rules take out."""

    kind: ClassVar[str] = "ruled"
    description: ClassVar[str] = "Causal transformer whose attention is biased by rules: removals, take-backs, bursts."
    Settings: ClassVar[type[EncoderSettings]] = RuledSettings
    solves: ClassVar[tuple[Claim, ...]] = (
        Claim("rules", margin=0.3, twin={"removes": 0.0}, given={"hard": True, "taken_back": 0.0}),
    )

    def __init__(self, width: int, settings: RuledSettings) -> None:
        super().__init__(width, settings)
        require_heads(width, settings.heads, even=True)
        self.weights = {name: getattr(settings, name) for name in ("removes", "taken_back", "bursts")}
        self.hard, self.heads = settings.hard, settings.heads
        self.layers = nn.ModuleList(TransformerLayer(width, settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(width)

    def bias(self, batch: Batch, steps: int) -> Tensor:
        """What is added to the logits, (B or 1, T, T): −∞ above the diagonal, −Σ λ at what rules take out, 0 on it."""
        device = batch["mask"].device
        bias = torch.zeros(1, steps, steps, device=device)
        for rule, weight in self.weights.items():
            if weight > 0:
                bias = bias - broken(batch, rule) * (torch.tensor(1e9 if self.hard else weight, device=device))
        eye = torch.eye(steps, dtype=torch.bool, device=device)
        future = torch.ones(steps, steps, dtype=torch.bool, device=device).triu(1)
        return bias.masked_fill(eye, 0.0).masked_fill(future, -torch.inf)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """States (B, T, D)."""
        steps = x.shape[1]
        turns = rotations(steps, self.width // self.heads, x.device)
        bias = self.bias(batch, steps)[:, None].to(x.dtype)
        for layer in self.layers:
            x = layer(x, turns, bias)
        out: Tensor = self.norm(x) * batch["mask"][..., None]
        return out
