"""Parts: what goes into the combined network."""

from kit.models.parts.base import PARTS, Part, Parts, PartSettings, part

__all__ = ["PARTS", "Part", "PartSettings", "Parts", "part"]
