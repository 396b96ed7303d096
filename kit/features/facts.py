"""What the families of a fitted block learned of everybody: measured once, kept in a file, given to later histories."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kit.arrays import digest_of, read_arrays
from kit.features.registry import FAMILIES, Fact, FeatureSettings
from kit.history import History
from kit.store import digest

FILE: Final = "facts.npz"


@dataclass(frozen=True)
class Facts:
    """Values by fact, as the History's memo would hold them.

    Attributes:
        settings: of the families.
        values: (fact, its value) in the order of the facts' names.
    """

    settings: FeatureSettings
    values: tuple[tuple[Fact, Any], ...]

    @classmethod
    def learn(
        cls, history: History, families: Iterable[str], settings: FeatureSettings, *, timeless: bool = False
    ) -> Facts:
        """What the families go by at the history's cut; only what carries no time if `timeless`."""
        chosen = [fact for fact in _of(families) if fact.timeless or not timeless]
        return cls(settings, tuple((fact, fact.learn(history, settings)) for fact in chosen))

    def given_to(self, history: History) -> History:
        """The same History, in which these facts are known rather than measured. Asked again for any view of the cut, it is
        one that shares what was computed meanwhile."""
        at_cut = {fact.key(self.settings): value for fact, value in self.values if not fact.timeless}
        timeless = {fact.key(self.settings): value for fact, value in self.values if fact.timeless}
        known = history.knowing(at_cut, timeless)
        if known is history:
            return history
        return history.once(f"facts.{self.digest}", lambda: known).among(history.clients)

    @cached_property
    def digest(self) -> str:
        """Of the names and bytes of all of them."""
        arrays = self._arrays()
        return digest([self.settings.model_dump(mode="json"), list(arrays), digest_of(*arrays.values())])

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        return {f"{fact.name}.{name}": array for fact, value in self.values for name, array in fact.pack(value).items()}

    def save(self, folder: Path, file: str = FILE) -> None:
        """All of them in one file; none where nothing was learned."""
        if arrays := self._arrays():
            np.savez(folder / file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(
        cls,
        folder: Path,
        families: Iterable[str],
        settings: FeatureSettings,
        *,
        timeless: bool = False,
        file: str = FILE,
    ) -> Facts:
        """What `save` wrote for the same families.

        Raises:
            KitError: the file is missing or damaged.
        """
        chosen = [fact for fact in _of(families) if fact.timeless or not timeless]
        if not chosen:
            return cls(settings, ())
        stored = read_arrays(folder / file)
        values = []
        for fact in chosen:
            own = f"{fact.name}."
            arrays = {name.removeprefix(own): array for name, array in stored.items() if name.startswith(own)}
            values.append((fact, fact.unpack(arrays)))
        return cls(settings, tuple(values))


def _of(families: Iterable[str]) -> list[Fact]:
    """The facts that some families go by, each once, by name."""
    known = FAMILIES.loaded()
    found = {fact.name: fact for name in families for fact in known[name].facts}
    return [found[name] for name in sorted(found)]
