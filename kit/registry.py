"""Named parts (families, blocks, probes …): a duplicate name is an error, an unknown one lists what exists."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Generic, TypeVar

from kit.errors import KitError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """A dictionary that refuses duplicates and explains misses.

    Args:
        noun: what is registered, for messages («feature family», «block» …).
    """

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self._parts: dict[str, T] = {}

    def add(self, name: str, part: T) -> T:
        """Register `part` under `name`; ValueError if the name is taken (a programming error, so no KitError)."""
        if name in self._parts:
            raise ValueError(f"{self.noun} {name!r} is registered twice: {self._parts[name]!r} and {part!r}")
        self._parts[name] = part
        return part

    def __getitem__(self, name: str) -> T:
        if name not in self._parts:
            raise KitError(f"There is no {self.noun} called {name!r};", nearest(name, self._parts))
        return self._parts[name]

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._parts))

    def __len__(self) -> int:
        return len(self._parts)

    def items(self) -> list[tuple[str, T]]:
        """(name, part) pairs by name."""
        return sorted(self._parts.items(), key=lambda pair: pair[0])


def import_modules(package: str, only: str | None = None) -> None:
    """Import a package's modules, so that whatever they register is known.

    Args:
        package: dotted name («kit.blocks»).
        only: the module of this name alone, if there is one.
    """
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if only in (None, module.name):
            importlib.import_module(f"{package}.{module.name}")
