"""One block of layers, gone through several times, as often as a state needs. Technique B8: Frey et al. 2026, "Adaptive Loops and
Memory in Transformers" (arXiv 2603.08391).

    h⁽ᵗ⁾ = h⁽ᵗ⁻¹⁾ + softplus(α_t) · f(h⁽ᵗ⁻¹⁾),   p_t = σ(W [h⁽ᵗ⁾; t/N] + b),   out = Σ_t p_t ∏_{i<t} (1 − p_i) h⁽ᵗ⁾

The last loop takes what is left of the halting probability. N loops have the weights of one.

NOTE[DIFF]: the paper is about language models and reports nothing of recommenders. Its memory slots are left out, and so is the
term that rewards early halting: encoders give states, not losses.
"""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from kit.claims import Claim
from kit.models.events import Batch
from kit.models.sequence.base import EncoderSettings, SequenceEncoder, encoder, require_heads
from kit.models.sequence.transformer import LayerSettings, TransformerLayer, rotations


class LoopedSettings(LayerSettings):
    """How often, and the size of the layers."""

    kind: Literal["looped"] = "looped"
    loops: int = Field(3, ge=1, description="N: times that the layers are gone through.")
    start: float = Field(
        -2.0, description="α of every loop at the start; the paper's −7 leaves states as they are at first."
    )
    layers: int = Field(1, ge=1)


@encoder
class Looped(SequenceEncoder):
    """Transformer layers shared by all loops, with a learned chance to halt after each."""

    kind: ClassVar[str] = "looped"
    description: ClassVar[str] = "Transformer layers gone through several times, with adaptive halting."
    Settings: ClassVar[type[EncoderSettings]] = LoopedSettings
    solves: ClassVar[tuple[Claim, ...]] = (Claim("order", margin=0.4, twin={"kind": "bag"}),)

    def __init__(self, width: int, settings: LoopedSettings) -> None:
        super().__init__(width, settings)
        require_heads(width, settings.heads, even=True)
        self.heads, self.loops = settings.heads, settings.loops
        self.layers = nn.ModuleList(TransformerLayer(width, settings) for _ in range(settings.layers))
        self.scale = nn.Parameter(torch.full((settings.loops,), settings.start))
        self.halt = nn.Linear(width + 1, 1)
        self.norm = nn.LayerNorm(width)

    def halting(self, states: list[Tensor]) -> Tensor:
        """How much each loop's states count, (N, B, T, 1), summing to 1 over the loops."""
        left, shares = torch.ones_like(states[0][..., :1]), []
        for loop, state in enumerate(states, 1):
            place = torch.full_like(state[..., :1], loop / self.loops)
            stop = torch.sigmoid(self.halt(torch.cat([state, place], dim=-1)))
            shares.append(left if loop == self.loops else left * stop)
            left = left * (1 - stop)
        return torch.stack(shares)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """States (B, T, D)."""
        turns = rotations(x.shape[1], self.width // self.heads, x.device)
        states = []
        for loop in range(self.loops):
            moved = x
            for layer in self.layers:
                moved = layer(moved, turns)
            x = x + F.softplus(self.scale[loop]) * (moved - x)
            states.append(x)
        mixed = (self.halting(states) * torch.stack(states)).sum(dim=0)
        return cast(Tensor, self.norm(mixed)) * batch["mask"][..., None]
