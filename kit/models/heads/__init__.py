"""Heads: what comes out of the combined network."""

from kit.models.heads.base import HEADS, Head, Heads, HeadSettings, HeadShape, Names, Shared, head

__all__ = ["HEADS", "Head", "HeadSettings", "HeadShape", "Heads", "Names", "Shared", "head"]
