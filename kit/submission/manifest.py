"""manifest.json of a submission: what it was made from, and whether it is of the vectors that lie beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kit.contract import IDS, VECTORS
from kit.errors import KitError
from kit.store import Store


def read_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json of a submission; KitError when it is missing, unreadable, or another program's."""
    remedy = "Build it with `kit submit RECIPE --data DIR`."
    try:
        found = dict(json.loads((folder / "manifest.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise KitError(f"{folder} has no readable manifest.json ({error}).", remedy) from error
    if lacking := [name for name in ("fingerprint", "recipe") if name not in found]:
        raise KitError(f"{folder}/manifest.json is no submission's: it has no {' and no '.join(lacking)}.", remedy)
    return found


def as_built(folder: Path, manifest: dict[str, Any]) -> bool:
    """Whether ids and vectors are, byte by byte, those that the manifest was written for; True where an old one does not say."""
    recorded = manifest.get("content")
    return recorded is None or recorded == Store().files_digest(folder / name for name in (IDS, VECTORS))


def describes(folder: Path) -> bool:
    """Whether what lies beside the vectors, such as the names of columns, is of these vectors, as far as a manifest tells."""
    try:
        return as_built(folder, read_manifest(folder))
    except KitError:  # not made by `kit submit`
        return True
