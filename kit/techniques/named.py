"""Who implements what: docstrings that say `Technique B5` (or `Techniques F4, F5`), of modules and of registered parts."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from kit.blocks.base import BLOCKS
from kit.claims import Claim, claims_of
from kit.fingerprint import module_of
from kit.models.balances import BALANCES
from kit.models.heads import HEADS
from kit.models.items import ITEMS
from kit.models.losses.base import LOSSES
from kit.models.negatives import SAMPLERS
from kit.models.objectives import OBJECTIVES
from kit.models.parts.base import PARTS
from kit.models.parts.numeric import NUMERIC
from kit.models.sequence import ENCODERS, READOUTS
from kit.models.trunks import TRUNKS
from kit.probes.registry import PROBES
from kit.registry import Registry

REGISTRIES: Final[tuple[Registry[Any], ...]] = (
    ENCODERS, READOUTS, OBJECTIVES, TRUNKS, PARTS, NUMERIC, HEADS, ITEMS, BALANCES, LOSSES, SAMPLERS, BLOCKS, PROBES,
)  # fmt: skip
SAYS: Final = re.compile(r"\bTechniques? ((?:[A-K]\d+)(?:(?:, | and )[A-K]\d+)*)")
ARXIV: Final = re.compile(r"arXiv \d{4}\.\d{5}")
DIFF: Final = re.compile(r"NOTE\[DIFF\]: (.*?)(?:\n\s*\n|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Home:
    """Where a technique lives.

    Attributes:
        module: dotted name.
        text: the docstring that names it.
        registry, kind: of the registered part; None for a module that registers none.
        claims: what the part claims to solve.
    """

    module: str
    text: str
    registry: Registry[Any] | None = None
    kind: str = ""
    claims: tuple[Claim, ...] = ()

    @property
    def source(self) -> str:
        """What the docstring cites, if it is on arXiv."""
        found = ARXIV.search(self.text)
        return found[0] if found else ""

    @property
    def variant(self) -> str:
        """How it differs from its source; empty if it says nothing."""
        return " ".join(" ".join(found.split()) for found in DIFF.findall(self.text))


def techniques_in(text: str) -> list[str]:
    """Ids that a docstring names."""
    return [each for found in SAYS.findall(text) for each in re.findall(r"[A-K]\d+", found)]


def registered() -> Iterator[tuple[Registry[Any], str, Any]]:
    """Every part of every registry, plugins' included."""
    for registry in REGISTRIES:
        yield from ((registry, kind, part) for kind, part in registry.loaded().items())


@cache
def homes() -> dict[str, list[Home]]:
    """Technique → parts and modules that name it. A part's own docstring counts, or its module's where it names none."""
    found: dict[str, list[Home]] = {}
    taken: set[str] = set()
    for registry, kind, part in registered():
        module = module_of(part)
        own, shared = inspect.getdoc(part) if inspect.isclass(part) else "", _module_text(module)
        text = own if own and techniques_in(own) else shared
        taken.add(module)
        for each in dict.fromkeys(techniques_in(text)):
            home = Home(module, f"{shared}\n\n{own}", registry, kind, claims_of(part) if inspect.isclass(part) else ())
            found.setdefault(each, []).append(home)
    for module, text in _texts():
        if module not in taken and not module.startswith("kit.techniques"):
            for each in dict.fromkeys(techniques_in(text)):
                found.setdefault(each, []).append(Home(module, text))
    return found


def _module_text(module: str) -> str:
    return inspect.getdoc(sys.modules[module]) or ""


def _texts() -> Iterator[tuple[str, str]]:
    """(module, docstrings of the module and its classes and functions) of the whole kit, without importing any."""
    root = Path(__file__).parents[1]
    for file in sorted(root.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        nodes = [tree, *(n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef))]
        text = "\n\n".join(ast.get_docstring(node) or "" for node in nodes)
        yield ".".join(file.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__"), text
