"""Inputs: numbers per client that a part of the combined network reads and that are made outside it."""

from kit.blocks.inputs.base import INPUTS, Input, Kept, input_of

__all__ = ["INPUTS", "Input", "Kept", "input_of"]
