"""A submission: client_ids.npy, embeddings.npy, manifest.json (and later scores) in one folder, written as a whole."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import sys
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from kit import __version__
from kit.data.layout import DataFolder
from kit.errors import KitError, Severity
from kit.history import History
from kit.profile import Profile, profile_fingerprint
from kit.recipe import Recipe
from kit.store import Store, code_digest
from kit.submission.validate import validate

LIBRARIES = ("implicit", "lightgbm", "numpy", "polars", "scikit-learn", "scipy", "torch")


def is_fresh(folder: Path, recipe: Recipe, history: History) -> bool:
    """Whether the folder already holds exactly what this recipe, history and code would give."""
    try:
        manifest = read_manifest(folder)
        sizes = {name: (folder / name).stat().st_size for name in ("client_ids.npy", "embeddings.npy")}
    except (KitError, OSError):
        return False
    return manifest.get("fingerprint") == profile_fingerprint(recipe, history) and manifest.get("bytes") == sizes


def read_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json of a submission; KitError when it is missing or unreadable."""
    try:
        return dict(json.loads((folder / "manifest.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise KitError(
            f"{folder} has no readable manifest.json ({error}).", "Build it with `kit submit RECIPE --data DIR`."
        ) from error


def write_submission(
    folder: Path, profile: Profile, recipe: Recipe, history: History, data: Path, began: float
) -> None:
    """Write the folder beside its place, then swap it in: readers see the old submission or the new one, whole.

    Args:
        folder: submissions/NAME.
        profile: what to write.
        recipe: goes into the manifest, resolved.
        history: its fingerprint goes into the manifest.
        data: data folder, for the manifest.
        began: time.perf_counter() when the work started.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        np.save(fresh / "client_ids.npy", profile.clients)
        np.save(fresh / "embeddings.npy", profile.matrix)
        columns = {row.name: list(row.columns) for row in profile.blocks}
        (fresh / "columns.json").write_text(json.dumps(columns, indent=1) + "\n", encoding="utf-8")
        manifest = _manifest(fresh, profile, recipe, history, data, time.perf_counter() - began)
        (fresh / "manifest.json").write_text(json.dumps(manifest, indent=2, default=str) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    except OSError as error:
        raise KitError(
            f"{folder} could not be written: {error}.", "Free some space or choose another --out; nothing was lost."
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)  # the swap failed half-way: the old submission goes back to its place
        shutil.rmtree(old, ignore_errors=True)


def _manifest(
    folder: Path, profile: Profile, recipe: Recipe, history: History, data: Path, seconds: float
) -> dict[str, Any]:
    blocks = [{key: value for key, value in asdict(row).items() if key != "columns"} for row in profile.blocks]
    return {
        "name": recipe.name,
        "fingerprint": profile.fingerprint,
        "kit": __version__,
        "code": code_digest("."),
        "data": {"folder": str(data), "history": history.fingerprint, "cut": history.cut.isoformat()},
        "seed": recipe.seed,
        "clients": len(profile.clients),
        "width": int(profile.matrix.shape[1]),
        "blocks": blocks,
        "recipe": recipe.model_dump(mode="json"),
        "seconds": round(seconds, 2),
        "peak_memory_mib": round(_peak_mib()),
        "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "bytes": {name: (folder / name).stat().st_size for name in ("client_ids.npy", "embeddings.npy")},
    }


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def submit(recipe: Recipe, data: Path, folder: Path, cut: str = "input", store: Store | None = None) -> bool:
    """The main job: blocks → profile → submission, validated.

    Returns:
        True if it was built, False if the folder was fresh already.

    Raises:
        KitError: bad data or recipe, or the result does not pass validation.
    """
    from kit.profile import build_profile

    began = time.perf_counter()
    store = store or Store()
    source = DataFolder(data)
    if cut not in ("input", "end"):
        raise KitError(f"The cut {cut!r} is unknown.", "Use `input` (local scores) or `end` (all events).")
    history = History.open(source, "input" if cut == "input" else "end", store=store, duplicates=recipe.duplicates)
    if is_fresh(folder, recipe, history):
        return False
    profile = build_profile(recipe, history, store)
    write_submission(folder, profile, recipe, history, data, began)
    errors = [finding for finding in validate(folder, source) if finding.severity is Severity.ERROR]
    if errors:
        raise KitError(f"The submission was written but is not valid: {errors[0].what}.", errors[0].remedy)
    return True
