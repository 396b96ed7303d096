"""What can be deleted from the store and beside submissions, and deleting it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from kit.errors import KitError
from kit.store import Store, is_whole, read_record, remove_tree
from kit.submission.manifest import read_manifest

ARTEFACT = re.compile(r"[0-9a-f]{16}(\.tmp|\.scratch)?")
"""How the store names folders of artefacts, and of those in the making."""
KEPT_FOLDERS = ("calibration", "contract", "digests", "submissions", "locks", "runs", "users")
"""Folders of the store that hold no artefacts: small, and gone only with everything."""


@dataclass(frozen=True)
class Removal:
    """Something that can be deleted by whoever holds its lock; None where nobody can be writing any more."""

    path: Path
    bytes: int
    why: str
    lock: Path | None

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"path": str(self.path), "bytes": self.bytes, "why": self.why}


def plan_removals(store: Store, submissions: Path = Path("submissions"), everything: bool = False) -> list[Removal]:
    """What no current submission was made from, and what killed runs left. Nothing is deleted here.

    Current are the submissions in the folder `submissions` and those that the store remembers to have served elsewhere, as far
    as they still exist. What a run is writing at this moment is left out.

    Args:
        store: where to look.
        submissions: folder of submissions.
        everything: all artefacts, whoever uses them; submissions stay.
    """
    folders = _submissions(store, submissions)
    needed = set() if everything else _needed(store, folders)
    found = []
    for place in sorted(store.root.glob("*/*")):
        lock = place.with_name(place.name.removesuffix(".tmp").removesuffix(".scratch") + ".lock")
        if (
            not place.is_dir()
            or not ARTEFACT.fullmatch(place.name)
            or place.parent.name in KEPT_FOLDERS
            or _locked(lock)
        ):
            continue  # the store's root may be a folder that holds other things, too
        if place.suffix == ".tmp":
            why = "left by a run that was killed"
        elif place.suffix == ".scratch":
            why = "half of a stage: the run that was stopped here could go on from it"
        elif not is_whole(place):
            why = "cut short or altered"
        elif f"{place.parent.name}/{place.name}" not in needed:
            why = "everything goes" if everything else "no submission is made from it"
        else:
            continue
        found.append(Removal(place, _size(place), why, lock))
    for file in [*sorted(store.root.rglob(".*.tmp")), *(file for folder in folders for file in folder.glob(".*.tmp"))]:
        writer = file.suffixes[-2].removeprefix(".") if len(file.suffixes) > 1 else ""
        if file.is_file() and writer.isdigit() and not psutil.pid_exists(int(writer)):
            found.append(Removal(file, file.stat().st_size, "left by a run that was killed", None))
    for folder in folders:
        lock = store.submission_file(folder).with_suffix(".lock")
        place = folder.resolve() if folder.is_symlink() else folder  # what is left lies behind a link
        for path in () if _locked(lock) else (place.with_name(f".{place.name}{end}") for end in (".tmp", ".old")):
            # .old goes only where the new submission took its place; else the next run puts it back
            if path.exists() and (folder.exists() or path.suffix == ".tmp"):
                found.append(Removal(path, _size(path), "left by a run that was killed", lock))
    return found


def remove(store: Store, removals: list[Removal]) -> int:
    """Delete what `plan_removals` found, unless a run has begun to write there since; how many bytes that freed.

    Raises:
        KitError: a run is making a submission, or a search is going on, and may be reading what is to be deleted.
    """
    if users := store.users():
        raise KitError(f"{users[0]} is going on at this moment.", "Wait for its end; nothing was deleted.")
    for known in sorted((store.root / "submissions").glob("*.json")):
        if _locked(known.with_suffix(".lock")):
            folder = json.loads(known.read_text(encoding="utf-8"))["folder"]
            raise KitError(f"A run is making {folder} at this moment.", "Wait for its end; nothing was deleted.")
    freed = 0
    for removal in removals:
        if removal.lock is None:
            removal.path.unlink(missing_ok=True)
            freed += removal.bytes
            continue
        lock = FileLock(removal.lock)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        try:
            remove_tree(removal.path)
            freed += removal.bytes
            if removal.lock.parent == removal.path.parent:
                removal.lock.unlink(missing_ok=True)  # who waits for it notices and takes a new one
        finally:
            lock.release()
    return freed


def _submissions(store: Store, root: Path) -> list[Path]:
    """Folders that exist or are about to: in `root`, and remembered by the store."""
    remembered = [
        Path(json.loads(path.read_text(encoding="utf-8"))["folder"])
        for path in sorted((store.root / "submissions").glob("*.json"))
    ]
    here = [path for path in sorted(root.glob("*")) if path.is_dir() and not path.name.startswith(".")]
    return list(dict.fromkeys(path.resolve() for path in [*here, *remembered]))


def _needed(store: Store, submissions: list[Path]) -> set[str]:
    """Keys of the artefacts that the submissions name, and of what those were made from."""
    todo: list[str] = []
    for folder in submissions:
        try:
            made_of = read_manifest(folder).get("artefacts", {})
        except KitError:
            continue
        todo += [made_of.get("events", ""), *made_of.get("blocks", {}).values()]
    needed: set[str] = set()
    while todo:
        key = todo.pop()
        folder = store.root / key
        if key and key not in needed and (folder / "artefact.json").exists():
            needed.add(key)
            todo += read_record(folder).get("parents", [])
    return needed


def _locked(path: Path) -> bool:
    """Whether a run holds this lock right now."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
