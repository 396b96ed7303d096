"""How many blocks of a trial were found in the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kit.store import Artefact, Plan, Store


class CountingStore(Store):
    """A store that remembers what was asked of it, for the hit rate.

    Attributes:
        asked: artefacts in the order in which they were asked for.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[Artefact] = []

    def make(self, plan: Plan, build: Callable[[Path], None]) -> Artefact:
        """As Store.make, and counted."""
        artefact = super().make(plan, build)
        self.asked.append(artefact)
        return artefact

    def blocks(self) -> tuple[int, int, float]:
        """Blocks that were fresh, blocks asked for, and the seconds it takes to make all of them."""
        blocks = [artefact for artefact in self.asked if artefact.stage.startswith("block-")]
        fresh = sum(not artefact.made_now for artefact in blocks)
        distinct = {artefact.folder: artefact for artefact in blocks}.values()
        return fresh, len(blocks), sum(float(artefact.record()["seconds"]) for artefact in distinct)
