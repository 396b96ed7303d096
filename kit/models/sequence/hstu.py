"""Pointwise attention that keeps intensity: our reading of HSTU (Zhai et al. 2024, arXiv 2402.17152).

Per layer: U, V, Q, K = split(SiLU(W₁ norm x)); A = SiLU(QKᵀ + rab_pos + rab_time) / n, causal; y = x + W₂(U ⊙ norm(A V)).
There is no softmax, so how often something occurred survives. Two deviations, so that a row does not depend on its batch or on
the future: n is the longest sequence of the settings instead of the batch's, and time differences are taken between the
events themselves instead of to the next event.

Technique B3.

NOTE[DIFF]: the longest sequence of the settings instead of the batch's, and time differences between the events themselves.
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

TIME_BUCKETS: Final = 128
BUCKET_WIDTH: Final = 0.301
"""Time differences fall into ⌊ln(max(seconds, 1)) / BUCKET_WIDTH⌋."""


def time_buckets(time: Tensor) -> Tensor:
    """Bucket of t_i − t_j for every pair of a row's tokens, int64 (B, T, T); `time` in microseconds."""
    seconds = (time[:, :, None] - time[:, None, :]).abs() // 1_000_000
    return (seconds.clamp(min=1).float().log() / BUCKET_WIDTH).long().clamp(max=TIME_BUCKETS - 1)


class HstuLayer(nn.Module):
    """One HSTU layer."""

    def __init__(self, width: int, settings: HSTUSettings) -> None:
        super().__init__()
        self.heads, self.length = settings.heads, settings.length
        self.before = nn.LayerNorm(width)
        self.uvqk = nn.Linear(width, 4 * width, bias=False)
        self.position = nn.Parameter(0.02 * torch.randn(settings.length))
        self.time = nn.Parameter(0.02 * torch.randn(TIME_BUCKETS))
        self.after = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, causal: Tensor, apart: Tensor, buckets: Tensor) -> Tensor:
        """(B, T, D) → (B, T, D); `apart` (T, T) is how many steps j lies before i, `buckets` (B, T, T) how long."""
        b, t, d = x.shape
        u, v, q, k = F.silu(self.uvqk(self.before(x))).chunk(4, dim=-1)
        q, k, v = (part.view(b, t, self.heads, d // self.heads).transpose(1, 2) for part in (q, k, v))
        bias = self.position[apart] + self.time[buckets]
        weight = F.silu(q @ k.transpose(-1, -2) + bias[:, None]) * causal / self.length
        mixed = (weight.to(v.dtype) @ v).transpose(1, 2).reshape(b, t, d)
        out: Tensor = x + self.dropout(self.out(u * self.after(mixed)))
        return out


class HSTUSettings(EncoderSettings):
    """Size of the layers."""

    kind: Literal["hstu"] = "hstu"
    layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1, description="Attention heads; must divide the width.")
    dropout: float = Field(0.1, ge=0, lt=1)


@encoder
class HSTU(SequenceEncoder):
    """Gated pointwise attention with biases by distance in steps and in time."""

    kind: ClassVar[str] = "hstu"
    description: ClassVar[str] = "Pointwise (softmax-free) attention that keeps counts."
    Settings: ClassVar[type[EncoderSettings]] = HSTUSettings
    solves: ClassVar[tuple[Claim, ...]] = (Claim("order", margin=0.4, twin={"kind": "bag"}),)

    def __init__(self, width: int, settings: HSTUSettings) -> None:
        super().__init__(width, settings)
        require_heads(width, settings.heads)
        self.layers = nn.ModuleList(HstuLayer(width, settings) for _ in range(settings.layers))
        self.length, self.heads = settings.length, settings.heads
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """States (B, T, D)."""
        step = torch.arange(x.shape[1], device=x.device)
        apart = (step[:, None] - step).clamp(0, self.length - 1)
        causal = (step[:, None] >= step).to(x.dtype)
        buckets = time_buckets(batch["time"])
        for layer in self.layers:
            x = layer(x, causal, apart, buckets)
        out: Tensor = self.norm(x) * batch["mask"][..., None]
        return out
