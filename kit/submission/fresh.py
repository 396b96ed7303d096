"""Whether a submission is what a recipe would give, and which of its two cuts it was made for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from kit.errors import KitError
from kit.profile import profile_fingerprint
from kit.profile.learned import FILES
from kit.recipe import Recipe
from kit.store import Store
from kit.submission.manifest import as_built, read_manifest

Cut = Literal["input", "end"]


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
