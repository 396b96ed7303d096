"""Named parts (families, blocks, probes …): a duplicate name is an error, an unknown one lists what exists.

Parts of the kit are found by looking through a folder, those of others by their plugins (`kit.plugins`).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from typing import Generic, Self, TypeVar

from kit.errors import KitError, nearest
from kit.fingerprint import module_of, note_loaded
from kit.plugins import use_known

T = TypeVar("T")


class Registry(Generic[T]):
    """A dictionary that refuses duplicates and explains misses.

    Args:
        noun: what is registered, for messages (`feature family`, `block` …).
        package: dotted name of the folder whose modules register the kit's own parts (`kit.blocks`).
    """

    def __init__(self, noun: str, package: str | None = None) -> None:
        self.noun = noun
        self._package = package
        self._complete = package is None
        self._parts: dict[str, T] = {}
        self._modules: dict[str, str] = {}

    def add(self, name: str, part: T, module: str | None = None) -> T:
        """Register `part` under `name`.

        Args:
            name: the key in recipes or on the command line.
            part: a class or a function, or an object about one.
            module: where it was written, if `part` does not say so itself; its code is that of the part.

        Raises:
            KitError: the name is taken.
        """
        module = module or module_of(part)
        if name in self._parts:
            raise KitError(
                f"The {self.noun} {name!r} is registered twice: by {self._modules[name]} and by {module}.",
                "Give one of them another name.",
            )
        note_loaded(module)
        self._parts[name] = part
        self._modules[name] = module
        return part

    def loaded(self) -> Self:
        """The registry with all of its parts: the modules of its package and the plugins are imported the first time.

        Raises:
            KitError: a plugin cannot be imported, or brings a name that is taken.
        """
        if not self._complete and self._package is not None:
            import_modules(self._package)
            self._complete = True
        return self

    def find(self, name: str) -> T:
        """One part. A module of the package named after it is imported alone: the others, and plugins, may be slow to import.

        Raises:
            KitError: there is none of this name, or as `loaded`.
        """
        if name not in self._parts and self._package is not None:
            import_modules(self._package, only=name)
        return self._parts[name] if name in self._parts else self.loaded()[name]

    def __getitem__(self, name: str) -> T:
        self.require(name)
        return self._parts[name]

    def require(self, name: str) -> None:
        """KitError at a name that does not exist."""
        if name not in self._parts:
            raise KitError(f"There is no {self.noun} called {name!r};", nearest(name, self._parts))

    def modules(self, names: Iterable[str]) -> list[str]:
        """Where the parts of these names were written: what `Block.parts` returns. KitError at a name that does not exist."""
        known = list(names)
        for name in known:
            self.require(name)
        return [self._modules[name] for name in known]

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
    """Import a package's modules, so that whatever they register is known; then the plugins.

    Args:
        package: dotted name (`kit.blocks`).
        only: the module of this name alone, if there is one, and no plugins.

    Raises:
        KitError: a plugin cannot be imported, or brings a name that is taken.
    """
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if only in (None, module.name):
            importlib.import_module(f"{package}.{module.name}")
    if only is None:
        use_known()
