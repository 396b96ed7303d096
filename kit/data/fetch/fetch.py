"""From a name to a checked data folder: disk space, download, unpacking, and a note of what was fetched, written last."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any, Final

from kit.data.fetch.archives import BASE_URL, LICENCE, LICENCE_NAME, Archive
from kit.data.fetch.download import Patience, download
from kit.data.fetch.unpack import ANCHOR, Damaged, unpack
from kit.errors import KitError
from kit.progress import say, stage
from kit.store import write_json

NOTE: Final = "fetched.json"
"""Written last: which archive the folder came from, and its licence. `CARD.md` quotes it."""
WORKSHOP: Final = ".fetch"
UNPACKED: Final = 1.5
"""Bytes unpacked per byte of the archive, for the check of disk space: 2.6 GB came out of 2.06 GB."""


def fetch(
    root: Path,
    archive: Archive,
    base_url: str = BASE_URL,
    *,
    unverified: bool = False,
    keep_archive: bool = False,
    patience: Patience | None = None,
) -> bool:
    """Download, verify and unpack an archive into `root`. The caller has shown the licence and had it accepted.

    A run that was killed at any moment is continued by the same call.

    Args:
        root: the data folder to make.
        archive: which.
        base_url: folder that the archive lies in.
        unverified: accept another size or checksum than the recorded ones.
        keep_archive: keep the archive in `root`/.fetch after unpacking.
        patience: how often to try.

    Returns:
        True if it was fetched, False if the folder holds it already.

    Raises:
        KitError: not enough disk space, another data folder in the way, or what `download` and `unpack` raise.
    """
    workshop = root / WORKSHOP
    note = read_note(root)
    if note is not None and note.get("archive") == archive.name:
        return False
    if (root / ANCHOR).exists() and not workshop.exists():
        raise KitError(f"{root} already holds a data folder.", "Give the name of a new folder.")
    size, sha256 = (None, None) if unverified else (archive.size, archive.sha256)
    kept = workshop / archive.name
    require_space(root, archive, kept)
    url = base_url.rstrip("/") + "/" + archive.name
    say(f"  {url} → {root}")
    with stage("download"):
        download(url, kept, size, sha256, patience)
    found = kept.stat().st_size
    try:
        with stage("unpacking"):
            files = unpack(kept, root)
    except Damaged:
        kept.unlink()  # nothing can be continued from it
        raise
    _write_note(root, {"archive": archive.name, "url": url, "bytes": found, "sha256": sha256}, files)
    if not keep_archive:
        shutil.rmtree(workshop)
    return True


def _write_note(root: Path, origin: dict[str, Any], files: list[Path]) -> None:
    """The licence's text beside the data, then fetched.json: its being there says that everything else is."""
    (root / "LICENCE-DATA.txt").write_text(LICENCE, encoding="utf-8")
    note = {
        "licence": LICENCE_NAME,
        "owner": "Synerise SA",
        "files": [path.relative_to(root).as_posix() for path in files],
        "fetched": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    write_json(root / NOTE, origin | note)


def read_note(root: Path) -> dict[str, Any] | None:
    """fetched.json of a data folder; None if it was not fetched, or not to the end."""
    path = root / NOTE
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
    except ValueError as error:
        raise KitError(f"{path} is not JSON ({error}).", "Delete it and fetch again.") from error


def licence(root: Path) -> str:
    """What is known of the licence of a data folder: fetched archives and synthetic shops say; anybody's own log does not."""
    try:
        note = read_note(root)
    except KitError:
        note = None
    if note is not None:
        return f"{note['licence']}, © {note['owner']} (`{note['archive']}`): attribution, no commercial use"
    if (root / "truth" / "shop.json").exists():
        return "none needed: a synthetic shop made by `kit data synth`"
    return "not recorded: state it before you pass the vectors on"


def require_space(root: Path, archive: Archive, kept: Path) -> None:
    """KitError unless the rest of the download and the unpacked files fit on the disk."""
    if archive.size is None:
        return
    parts = (kept, kept.with_name(kept.name + ".part"))
    have = sum(path.stat().st_size for path in parts if path.exists())
    needed = max(0, archive.size - have) + int(archive.size * UNPACKED)
    place = root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise KitError(
            f"{place.resolve()} has {free / 1e9:.1f} GB free; {archive.name} needs {needed / 1e9:.1f} GB while unpacking.",
            "Free some space, or choose a folder on another disk.",
        )
