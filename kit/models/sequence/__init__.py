"""Sequence encoders behind one interface; `load_encoders` knows them by name."""

from kit.models.sequence.base import EncoderSettings, SequenceEncoder, encoder, load_encoders, make_encoder
from kit.models.sequence.client import ClientEncoder, pool

__all__ = [
    "ClientEncoder",
    "EncoderSettings",
    "SequenceEncoder",
    "encoder",
    "load_encoders",
    "make_encoder",
    "pool",
]
