"""A tar archive from somebody else: regular files and folders only, nothing outside the destination, all or nothing."""

from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from kit.challenge import EventType
from kit.errors import KitError

MOST_TIMES = 40
"""An archive may unpack to at most so many times its size; parquet hardly compresses at all."""
LEAST_LIMIT = 1 << 24
"""Bytes that any archive may unpack to, however small."""
ANCHOR = f"{EventType.BUY.value}.parquet"
"""The file by whose place the data folder inside an archive is known."""


class Damaged(KitError):
    """The archive cannot be read to its end: downloading it again is the only way on."""


def unpack(archive: Path, root: Path) -> list[Path]:
    """Unpack into a folder beside the archive, then move the data folder's files under `root`.

    A folder around the data (`dataset/…`) is taken off. Files of a killed run are unpacked anew.

    Returns:
        the files under `root`, sorted.

    Raises:
        Damaged: the archive is damaged or cut short.
        KitError: it leaves its folder, or holds links or devices, or no data; `root` is untouched in all cases.
    """
    room = archive.with_name(archive.name + ".unpacked")
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir(parents=True)
    try:
        _extract(archive, room)
        top = _data_folder(room, archive)
        files = sorted(path.relative_to(top) for path in top.rglob("*") if path.is_file())
        for name in files:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(top / name, root / name)
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return [root / name for name in files]


def _extract(archive: Path, room: Path) -> None:
    """Every member is judged before a byte of it is written, by our own rules: the Python of Debian 12 has no data filter."""
    left = max(LEAST_LIMIT, MOST_TIMES * archive.stat().st_size)
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                if _is_litter(member):
                    continue
                left -= member.size
                if left < 0:
                    raise _refuse(archive, f"{member.name!r} would make it more than {MOST_TIMES} times its size")
                if not (member.isreg() or member.isdir()):
                    raise _refuse(archive, f"{member.name!r} is neither a file nor a folder")
                place = _place(member, room, archive)
                if member.isdir():
                    place.mkdir(parents=True, exist_ok=True)
                elif (source := tar.extractfile(member)) is not None:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with source, place.open("wb") as file:
                        shutil.copyfileobj(source, file)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise KitError(
                f"{archive.name} could not be unpacked: {error}.", "Free some space and run again."
            ) from error
        raise Damaged(f"{archive.name} is damaged or cut short ({error}).", "Run again to download it anew.") from error


def _place(member: tarfile.TarInfo, room: Path, archive: Path) -> Path:
    """Where a member goes: under `room`, a leading slash taken off; owners, modes and times are not taken over."""
    parts = [part for part in PurePosixPath(member.name).parts if part.strip("/")]
    place = room.joinpath(*parts)
    if ".." in parts or not place.resolve().is_relative_to(room.resolve()):
        raise _refuse(archive, f"{member.name!r} would lie outside the folder that it is unpacked into")
    return place


def _is_litter(member: tarfile.TarInfo) -> bool:
    """What macOS leaves in archives: `._x` beside each x, and .DS_Store."""
    name = PurePosixPath(member.name).name
    return name.startswith("._") or name == ".DS_Store"


def _data_folder(room: Path, archive: Path) -> Path:
    """The topmost folder that holds the purchases."""
    found = sorted(room.rglob(ANCHOR), key=lambda path: (len(path.parts), path))
    if not found:
        names = sorted(path.name for path in room.rglob("*") if path.is_file())[:5]
        raise KitError(
            f"{archive.name} holds no {ANCHOR} but {names}.", "It is not an archive of the challenge's data."
        )
    return found[0].parent


def _refuse(archive: Path, why: str) -> KitError:
    return KitError(
        f"{archive.name} is refused: {why}. Nothing was written to the data folder.",
        "A data archive has no need of that: get it from the publisher, and check the address.",
    )
