"""What a submission would be made from, known without making it, and whether its folder holds just that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from kit.data.clients import Clients
from kit.data.layout import DataFolder
from kit.data.prepare import EventsPlan, dated, plan_events
from kit.errors import KitError
from kit.profile import plan_block, profile_fingerprint
from kit.profile.learned import FILES
from kit.recipe import Recipe
from kit.store import Plan, Store
from kit.submission.manifest import as_built, read_manifest

Cut = Literal["input", "end"]


@dataclass(frozen=True)
class SubmissionPlan:
    """A submission that is asked for: made once, and passed on to whoever estimates, judges, builds or writes it.

    What follows from it is looked up when it is first asked for and kept: files that change meanwhile change no plan.

    Attributes:
        recipe: what is built.
        data: the data folder.
        folder: where the submission is written.
        cut: `input` or `end`.
        clients: whose vectors; `all` with the cut `end` takes in who is not on a list that our split made.
        store: of the stages.
    """

    recipe: Recipe
    data: DataFolder
    folder: Path
    cut: Cut = "input"
    clients: Clients = "relevant"
    store: Store = field(default_factory=Store)

    @cached_property
    def events(self) -> EventsPlan:
        """The tables that the blocks read.

        Raises:
            KitError: the data folder is not split, or says nothing of its clients. So do the next three.
        """
        return plan_events(self.data, self.cut, self.store, self.recipe.duplicates, self.clients)

    @property
    def history(self) -> str:
        """Fingerprint of the History that the blocks learn from."""
        return dated(self.events.fingerprint, self.events.cut)

    @cached_property
    def blocks(self) -> dict[str, Plan]:
        """Entry → what its output is made from. KitError also for an unknown block or setting."""
        recipe, key = self.recipe, self.events.stage.key
        return {
            name: plan_block(name, entry, recipe.seed, self.history, key, recipe.blocks)
            for name, entry in recipe.blocks.items()
        }

    @property
    def is_fresh(self) -> bool:
        """Whether the folder holds just this submission already."""
        return is_fresh(self.folder, self.recipe, self.history)


def is_fresh(folder: Path, recipe: Recipe, history: str) -> bool:
    """Whether the folder already holds exactly what this recipe, this history (its fingerprint) and the code would give."""
    try:
        manifest = read_manifest(folder)
        held = "content" in manifest and as_built(folder, manifest)
    except (KitError, OSError):
        return False
    return (
        held and manifest.get("fingerprint") == profile_fingerprint(recipe, history) and kept_assembly(folder, manifest)
    )


def kept_assembly(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether what the assembly learned lies beside the vectors, as it was written."""
    recorded = manifest.get("assembly")
    return recorded is not None and recorded == Store().files_digest(folder / name for name in FILES)


def parse_cut(cut: str) -> Cut:
    """The word as a type; KitError if it is another one."""
    if cut == "input":
        return "input"
    if cut == "end":
        return "end"
    raise KitError(f"The cut {cut!r} is unknown.", "Use `input` (local scores) or `end` (all events).")
