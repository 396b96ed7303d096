"""From batches of tokens to one state per client: event embedding, encoder and pooling, ready to sit in a larger model."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from kit.models.events import Batch, EventEmbedding, EventSettings, to_tensors
from kit.models.sequence.base import EncoderSettings, make_encoder
from kit.models.sequence.readouts import pool
from kit.tokens import SequenceBatch, Tokens, Vocabulary, length_buckets, sequence_batch
from kit.tokens.vocabulary import Int64s


class ClientEncoder(nn.Module):
    """EventEmbedding and a sequence encoder together.

    Args:
        vocabulary: words and catalogue of the tokens.
        events: width and fields.
        encoder: kind and size of the sequence encoder.

    Attributes:
        embedding: EventEmbedding; `embedding.items` is the product tower that shares its table.
        encoder: SequenceEncoder.
    """

    def __init__(self, vocabulary: Vocabulary, events: EventSettings, encoder: EncoderSettings) -> None:
        super().__init__()
        self.embedding = EventEmbedding(vocabulary, events)
        self.encoder = make_encoder(events.width, encoder)
        self.length, self.anchor = encoder.length, encoder.anchor

    def forward(self, batch: Batch, hidden: Tensor | None = None) -> Tensor:
        """States of all tokens, (B, T, D), zero in the padding; `hidden` as in EventEmbedding."""
        return cast(Tensor, self.encoder(self.embedding(batch, hidden), batch))

    def pooled(self, batch: Batch, how: tuple[str, ...] = ("last", "mean"), cut: Tensor | int | None = None) -> Tensor:
        """One vector per client, (B, len(how) · D); gradients flow."""
        return pool(self(batch), batch, how, cut)

    def batch(self, tokens: Tokens, rows: Int64s, cut: int | Int64s | None = None) -> Batch:
        """Tensors for these clients at the cut(s), at this encoder's length."""
        arrays: SequenceBatch = sequence_batch(tokens, rows, cut, self.length, anchor=self.anchor)
        return to_tensors(arrays)

    @torch.inference_mode()
    def embed(
        self, tokens: Tokens, cut: int | None = None, how: tuple[str, ...] = ("last", "mean"), budget: int = 32_768
    ) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """Pooled states of all clients of `tokens` at one cut, float32 (n, len(how) · D); NaN for clients without tokens."""
        self.eval()
        sizes = np.minimum(tokens.lengths(cut), self.length)
        width = len(how) * self.encoder.width
        out = np.full((len(tokens.clients), width), np.nan, dtype=np.float32)
        device = next(self.parameters()).device
        instant = tokens.cut if cut is None else cut
        for rows in length_buckets(sizes, budget):
            batch = {key: value.to(device) for key, value in self.batch(tokens, rows, cut).items()}
            out[rows] = self.pooled(batch, how, instant).float().cpu().numpy()
        return out
