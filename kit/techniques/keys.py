"""Recipe keys of registered parts, read off the schemas that check recipes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel

from kit.blocks.base import BLOCKS
from kit.kinds import OneOf, TableOf
from kit.models.objectives import OBJECTIVES
from kit.models.sequence import READOUTS
from kit.recipe import schema_in
from kit.registry import Registry

DEEPEST = 6


@cache
def places() -> dict[str, list[tuple[str, str]]]:
    """Noun of a registry → (kind of block, dotted place of the setting; with `=` at its end where a kind is its value and with
    `.` where kinds are keys of a table), the combined block's first."""
    found: dict[str, list[tuple[str, str]]] = {}
    for block, cls in sorted(BLOCKS.loaded().items(), key=lambda item: (item[0] != "combined", item[0])):
        for noun, place in _walk(cls.Settings, "", 0):
            found.setdefault(noun, []).append((block, place))
    found[READOUTS.noun] = [("sequence", "pools[")]
    return found


def _walk(schema: type[BaseModel], prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    for name, field in schema.model_fields.items():
        for item in field.metadata:
            if isinstance(item, OneOf | TableOf) and depth < DEEPEST:
                yield item.registry.noun, f"{prefix}{name}{'=' if isinstance(item, OneOf) else '.'}"
                for kind, inner in item.kinds().items():
                    if isinstance(item, TableOf):
                        yield from _walk(inner, f"{prefix}{name}.{kind}.", depth + 1)
        nested = schema_in(field.annotation)
        if nested is not None and depth < DEEPEST:
            yield from _walk(nested, f"{prefix}{name}.", depth + 1)


def recipe_keys(registry: Registry[Any], kind: str) -> dict[str, Any] | None:
    """What goes under `[blocks.NAME]` to choose a part, as nested tables; None for parts that no recipe chooses (probes)."""
    if registry is BLOCKS:
        return {"kind": kind}
    where = places().get(registry.noun)
    if not where:
        return None
    at = next((pair for pair in where if registry is OBJECTIVES and pair[0] == "sequence"), where[0])
    block, place = at
    path, last = place[:-1].split("."), place[-1]
    value: Any = {"=": {"kind": kind}, ".": {kind: True}, "[": [kind]}[last]
    for name in reversed(path):
        value = {name: value}
    return {"kind": block, **value}


def dotted(table: dict[str, Any], prefix: str = "") -> str:
    """The tables on one line: `kind = "combined", network.trunk.kind = "dlrm"`."""
    parts = []
    for name, value in table.items():
        if isinstance(value, dict):
            parts.append(dotted(value, f"{prefix}{name}."))
        else:
            shown = f'"{value}"' if isinstance(value, str) else str(value).lower().replace("'", '"')
            parts.append(f"{prefix}{name} = {shown}")
    return ", ".join(parts)
