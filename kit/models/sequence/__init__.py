"""Sequence encoders behind one interface; `load_encoders` knows them by name."""

from kit.models.sequence.base import Encoder, EncoderSettings, SequenceEncoder, encoder, load_encoders, make_encoder
from kit.models.sequence.client import ClientEncoder
from kit.models.sequence.readouts import Readout, Readouts, known_readouts, load_readouts, pool, readout

__all__ = [
    "ClientEncoder",
    "Encoder",
    "EncoderSettings",
    "Readout",
    "Readouts",
    "SequenceEncoder",
    "encoder",
    "known_readouts",
    "load_encoders",
    "load_readouts",
    "make_encoder",
    "pool",
    "readout",
]
