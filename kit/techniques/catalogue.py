"""The techniques by name, in order: catalogue.toml."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

from kit.errors import KitError, nearest
from kit.recipe import Strict, parse


class Technique(Strict):
    """A technique as the founding documents name it.

    Attributes:
        id: letter and number.
        name: in words.
        source: of the idea; where a part's docstring names one, that is shown instead.
        tier: 1 core, 2 likely to help, 3 for completeness, 0 neither.
        context: nothing that can be built.
        lacks: what is missing of it, where it is there in part.
        key: recipe keys that choose it (TOML, under `[blocks.NAME]`), where it is no registered part.
    """

    id: str
    name: str
    source: str = ""
    tier: int = 3
    context: bool = False
    lacks: str = ""
    key: str = ""


class TechniqueList(Strict):
    """The file."""

    technique: tuple[Technique, ...]


@cache
def catalogue() -> dict[str, Technique]:
    """By id, in the order of the file."""
    raw = tomllib.loads(files("kit.techniques").joinpath("catalogue.toml").read_text(encoding="utf-8"))
    return {row.id: row for row in parse(TechniqueList, raw, "catalogue.toml").technique}


def rows_named(ids: list[str]) -> list[Technique]:
    """These techniques, all for none.

    Raises:
        KitError: an id that there is not.
    """
    known = catalogue()
    for wanted in ids:
        if wanted.upper() not in known:
            raise KitError(f"There is no technique {wanted!r};", nearest(wanted.upper(), known))
    return [known[wanted.upper()] for wanted in ids] if ids else list(known.values())
