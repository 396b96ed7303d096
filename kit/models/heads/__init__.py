"""Heads: what comes out of the combined network."""

from kit.models.heads.base import Head, Heads, HeadSettings, HeadShape, Names, Shared, head, load_heads

__all__ = ["Head", "HeadSettings", "HeadShape", "Heads", "Names", "Shared", "head", "load_heads"]
