"""Parts: what goes into the combined network."""

from kit.models.parts.base import Part, Parts, PartSettings, load_parts, part

__all__ = ["Part", "PartSettings", "Parts", "load_parts", "part"]
