"""Inputs: numbers per client that a part of the combined network reads and that are made outside it."""

from kit.blocks.inputs.base import Input, Kept, input_of, load_inputs

__all__ = ["Input", "Kept", "input_of", "load_inputs"]
