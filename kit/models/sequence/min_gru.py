"""Minimal gated recurrent units with a clock. Technique B6.

Feng et al. 2024, "Were RNNs All We Needed?" (arXiv 2410.01201): gates and candidates depend on the input alone, so all states
are one parallel scan: z = σ(W_z x), c = W_c x, h_t = (1 − z_t) h_{t−1} + z_t c_t.

NOTE[DIFF]: the time gate is ours. What is kept also decays by 2^(−Δt / half-life), Δt the time since the event before, each
channel with a learned half-life that starts between an hour and ninety days.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from kit.claims import Claim
from kit.models.events import Batch
from kit.models.sequence.base import EncoderSettings, SequenceEncoder, encoder

HOUR_US: Final = 3_600_000_000.0
SHORTEST: Final = 1.0
LONGEST: Final = 2160.0
"""Half-lives at the start, hours."""


class MinGRUSettings(EncoderSettings):
    """Depth, and whether states fade with time."""

    kind: Literal["min_gru"] = "min_gru"
    layers: int = Field(2, ge=1)
    clock: bool = Field(True, description="States decay with the time between events; false: by events alone.")
    dropout: float = Field(0.1, ge=0, lt=1)


def scan(keep: Tensor, add: Tensor) -> Tensor:
    """h_t = keep_t · h_{t−1} + add_t with h_{−1} = 0, for all t at once in log₂ T steps; all (B, T, D)."""
    step = 1
    while step < keep.shape[1]:
        before = F.pad(add[:, :-step], (0, 0, step, 0))
        add = add + keep * before
        keep = keep * F.pad(keep[:, :-step], (0, 0, step, 0), value=1.0)
        step *= 2
    return add


class MinGRULayer(nn.Module):
    """x + W h, h the scan over norm x."""

    def __init__(self, width: int, settings: MinGRUSettings) -> None:
        super().__init__()
        self.clock = settings.clock
        self.before = nn.LayerNorm(width)
        self.gates = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.log_half_life = nn.Parameter(torch.linspace(SHORTEST, LONGEST**0.5, width).square().log())
        self.dropout = nn.Dropout(settings.dropout)

    def kept(self, update: Tensor, hours: Tensor) -> Tensor:
        """Share of the state before that is kept, (B, T, D), for updates z (B, T, D) after so many hours (B, T)."""
        keep = 1 - update
        return keep * torch.exp2(-hours[..., None] / self.log_half_life.exp()) if self.clock else keep

    def forward(self, x: Tensor, hours: Tensor) -> Tensor:
        """x (B, T, D), hours (B, T) since the event before → (B, T, D)."""
        update, candidate, shown = self.gates(self.before(x)).chunk(3, dim=-1)
        z = torch.sigmoid(update)
        states = scan(self.kept(z, hours), z * candidate)
        out: Tensor = x + self.dropout(self.out(states * F.silu(shown)))
        return out


@encoder
class MinGRU(SequenceEncoder):
    """Stacked minimal GRUs; linear in the length, and parallel over it."""

    kind: ClassVar[str] = "min_gru"
    description: ClassVar[str] = "Minimal gated recurrent units whose states also fade with time."
    Settings: ClassVar[type[EncoderSettings]] = MinGRUSettings
    solves: ClassVar[tuple[Claim, ...]] = (
        Claim("order", margin=0.4, twin={"kind": "bag"}),
        Claim("bursts", margin=0.04, twin={"clock": False}),
    )

    def __init__(self, width: int, settings: MinGRUSettings) -> None:
        super().__init__(width, settings)
        self.layers = nn.ModuleList(MinGRULayer(width, settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """States (B, T, D)."""
        time = batch["time"]
        hours = F.pad(time[:, 1:] - time[:, :-1], (1, 0)).float().clamp(min=0) / HOUR_US
        for layer in self.layers:
            x = layer(x, hours)
        out: Tensor = self.norm(x) * batch["mask"][..., None]
        return out
