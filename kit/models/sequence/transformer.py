"""Pre-norm causal transformer on scaled_dot_product_attention, with rotary or learned positions.

Technique B1.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from kit.claims import Claim
from kit.models.events import Batch
from kit.models.sequence.base import EncoderSettings, SequenceEncoder, encoder, require_heads


def rotations(steps: int, size: int, device: torch.device) -> Tensor:
    """Complex (steps, size / 2): pair i turns by 10000^(−2i/size) per step (Su et al. 2021, RoFormer)."""
    rate = 10_000.0 ** (-torch.arange(0, size, 2, device=device, dtype=torch.float32) / size)
    angle = torch.arange(steps, device=device, dtype=torch.float32)[:, None] * rate
    return torch.polar(torch.ones_like(angle), angle)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turn neighbouring pairs of (…, T, size) by their step's angles."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], x.shape[-1] // 2, 2))
    return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)


class LayerSettings(EncoderSettings):
    """What encoders made of transformer layers share."""

    layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1, description="Attention heads; must divide the width.")
    expand: int = Field(4, ge=1, description="Inner width of the feed-forward part as a multiple of the width.")
    dropout: float = Field(0.1, ge=0, lt=1)


class TransformerLayer(nn.Module):
    """x + attention(norm x), then x + feed-forward(norm x)."""

    def __init__(self, width: int, settings: LayerSettings, *, rotary: bool = True) -> None:
        super().__init__()
        self.heads = settings.heads
        self.rotary = rotary
        self.before_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.before_feed = nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, settings.expand * width), nn.GELU(), nn.Linear(settings.expand * width, width)
        )
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, turns: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, D) → (B, T, D).

        Args:
            turns: `rotations` of the T places.
            mask: which places see which (T, T), or what is added to the logits (B or 1, 1, T, T); causal if None.
        """
        b, t, d = x.shape
        qkv = self.qkv(self.before_attention(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, k = (rotate(qkv[:2], turns) if self.rotary else qkv[:2]).unbind()
        v = qkv[2]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).reshape(b, t, d)))
        out: Tensor = x + self.dropout(self.feed(self.before_feed(x)))
        return out


class TransformerSettings(LayerSettings):
    """Size of the layers, and how positions are told."""

    kind: Literal["transformer"] = "transformer"
    positions: Literal["rotary", "learned"] = "rotary"


@encoder
class Transformer(SequenceEncoder):
    """Causal self-attention; dropout on the residual branches."""

    kind: ClassVar[str] = "transformer"
    description: ClassVar[str] = "Pre-norm causal transformer."
    Settings: ClassVar[type[EncoderSettings]] = TransformerSettings
    solves: ClassVar[tuple[Claim, ...]] = (Claim("order", margin=0.4, twin={"kind": "bag"}),)

    def __init__(self, width: int, settings: TransformerSettings) -> None:
        super().__init__(width, settings)
        require_heads(width, settings.heads, even=True)
        self.layers = nn.ModuleList(
            TransformerLayer(width, settings, rotary=settings.positions == "rotary") for _ in range(settings.layers)
        )
        self.position = nn.Embedding(settings.length, width) if settings.positions == "learned" else None
        if self.position is not None:
            nn.init.normal_(self.position.weight, std=0.02)
        self.length, self.heads = settings.length, settings.heads
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """States (B, T, D); `time` enters through the tokens' own vectors."""
        steps = x.shape[1]
        if self.position is not None:
            x = x + self.position(torch.arange(steps, device=x.device).clamp(max=self.length - 1))
        turns = rotations(steps, self.width // self.heads, x.device)
        for layer in self.layers:
            x = layer(x, turns)
        out: Tensor = self.norm(x) * batch["mask"][..., None]
        return out
