"""Sequence encoders behind one interface; `ENCODERS` knows them by name."""

from kit.models.sequence.base import ENCODERS, Encoder, EncoderSettings, SequenceEncoder, encoder, make_encoder
from kit.models.sequence.client import ClientEncoder
from kit.models.sequence.readouts import READOUTS, Readout, Readouts, known_readouts, pool, readout

__all__ = [
    "ENCODERS",
    "READOUTS",
    "ClientEncoder",
    "Encoder",
    "EncoderSettings",
    "Readout",
    "Readouts",
    "SequenceEncoder",
    "encoder",
    "known_readouts",
    "make_encoder",
    "pool",
    "readout",
]
