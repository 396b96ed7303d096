"""Long histories by compression. Technique B9: KuaiFormer (arXiv 2411.10057).

The history is split by age: events of long ago become one token per `coarse`, those before the recent ones one per `fine`,
recent ones stay as they are. A token is the mean of what a small transformer says of its group.

NOTE[DIFF]: every event has a state, not the last alone, so groups are cut at fixed places from the first event on and an
event sees whole groups that ended before its recent ones: a causal mask over a memory that is made once. Several query tokens
per client (max over interests) are not here: a client is one vector for a probe.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from kit.claims import Claim
from kit.models.events import Batch
from kit.models.sequence.base import EncoderSettings, SequenceEncoder, encoder, require_heads


class KuaiFormerSettings(EncoderSettings):
    """Sizes of groups and of the layers."""

    kind: Literal["kuaiformer"] = "kuaiformer"
    length: int = Field(512, ge=1, description="Longest sequence: the last so many events before the cut.")
    fine: int = Field(16, ge=2, description="Events per token before the recent ones.")
    coarse: int = Field(64, ge=2, description="Events per token of long ago; a multiple of `fine`.")
    recent: int = Field(2, ge=1, description="Groups of `fine` events before the running one that stay as they are.")
    middle: int = Field(
        4, ge=0, description="Finest groups of long ago: so many of `coarse` events are seen by `fine`."
    )
    compress: bool = Field(True, description="The tokens of groups; false: what is not recent is forgotten.")
    layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1, description="Attention heads; must divide the width.")
    dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _whole(self) -> KuaiFormerSettings:
        if self.coarse % self.fine:
            raise ValueError(f"`coarse` ({self.coarse}) is a multiple of `fine` ({self.fine})")
        return self


def visible(steps: int, fine: int, coarse: int, recent: int, middle: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which raw events, fine and coarse groups each of `steps` events sees: bool (T, T), (T, T / fine), (T, T / coarse)."""
    at = torch.arange(steps)
    start = (at // fine - recent).clamp(min=0) * fine  # of what is recent
    old = (start // coarse - middle).clamp(min=0) * coarse  # what lies before is seen by coarse groups
    raw = (at[None] <= at[:, None]) & (at[None] >= start[:, None])
    first = torch.arange(0, steps, fine)
    small = (first[None] >= old[:, None]) & (first[None] + fine <= start[:, None])
    ends = torch.arange(0, steps, coarse) + coarse
    return raw, small, ends[None] <= old[:, None]


class Grouped(nn.Module):
    """Groups of `size` events → one vector each: the mean of one attention layer over the group."""

    def __init__(self, width: int, heads: int, size: int) -> None:
        super().__init__()
        self.size, self.heads = size, heads
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out, self.place = nn.Linear(width, width), nn.Parameter(0.02 * torch.randn(size, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, G · size, D) → (B, G, D)."""
        b, t, d = x.shape
        groups = x.reshape(b * (t // self.size), self.size, d)
        qkv = self.qkv(self.norm(groups + self.place)).view(*groups.shape[:2], 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(groups.shape)
        pooled: Tensor = (groups + self.out(mixed)).mean(dim=1).view(b, -1, d)
        return pooled


class KuaiLayer(nn.Module):
    """Attention over raw events and memory, then a feed-forward part; root-mean-square norms before both."""

    def __init__(self, width: int, settings: KuaiFormerSettings) -> None:
        super().__init__()
        self.heads = settings.heads
        self.before_attention, self.before_feed = nn.RMSNorm(width), nn.RMSNorm(width)
        self.query, self.pairs, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, memory: Tensor, seen: Tensor) -> Tensor:
        """x (B, T, D), memory (B, M, D), seen bool (T, T + M) → (B, T, D)."""
        b, t, d = x.shape
        ready = self.before_attention(torch.cat([x, memory], dim=1))
        q = self.query(ready[:, :t]).view(b, t, self.heads, -1).transpose(1, 2)
        k, v = (
            part.view(b, -1, self.heads, d // self.heads).transpose(1, 2) for part in self.pairs(ready).chunk(2, -1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).reshape(b, t, d)
        x = x + self.dropout(self.out(mixed))
        out: Tensor = x + self.dropout(self.feed(self.before_feed(x)))
        return out


@encoder
class KuaiFormer(SequenceEncoder):
    """Attention over recent events and over tokens of groups of older ones."""

    kind: ClassVar[str] = "kuaiformer"
    description: ClassVar[str] = "Transformer over recent events and compressed groups of older ones."
    Settings: ClassVar[type[EncoderSettings]] = KuaiFormerSettings
    solves: ClassVar[tuple[Claim, ...]] = (
        Claim(
            "interests",
            margin=0.3,
            twin={"compress": False},
            given={"fine": 4, "coarse": 8, "recent": 1, "middle": 1},
        ),
    )

    def __init__(self, width: int, settings: KuaiFormerSettings) -> None:
        super().__init__(width, settings)
        require_heads(width, settings.heads)
        self.sizes = (settings.fine, settings.coarse, settings.recent, settings.middle)
        self.compress, self.span = settings.compress, (settings.recent + 1) * settings.fine
        self.place = nn.Parameter(0.02 * torch.randn(self.span, width))
        self.fine = Grouped(width, settings.heads, settings.fine)
        self.coarse = Grouped(width, settings.heads, settings.coarse)
        self.layers = nn.ModuleList(KuaiLayer(width, settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """States (B, T, D)."""
        if not len(x):
            return torch.zeros_like(x)
        steps, coarse = x.shape[1], self.sizes[1]
        padded = F.pad(x * batch["mask"][..., None], (0, 0, 0, -steps % coarse))
        masks = [mask.to(x.device) for mask in visible(padded.shape[1], *self.sizes)]
        memory = torch.cat([self.fine(padded), self.coarse(padded)], dim=1)
        seen = torch.cat([masks[0][:, :steps], masks[1], masks[2]], dim=1)[:steps]
        if not self.compress:
            memory, seen = memory[:, :0], seen[:, :steps]
        x = x + self.place[torch.arange(steps, device=x.device) % self.span]
        for layer in self.layers:
            x = layer(x, memory, seen)
        out: Tensor = self.norm(x) * batch["mask"][..., None]
        return out
