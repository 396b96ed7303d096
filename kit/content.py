"""Digests of files' bytes, and when a file's identity and times may stand in for reading them again.

A stand-in must not lie. Size and modification time do: `touch -d`, `cp -p`, `tar` and `rsync -t` set the time to whatever they
like. The time of the last change of the inode (ctime) is set by the system alone, so device, inode, size, modification time and
ctime together are a good stand-in, in three conditions:

- The file system keeps a true ctime: those of LOCAL do. FAT and what is mounted through FUSE make it up from the modification
  time, network file systems answer from a cache, and tmpfs does not notice writing through a mapping.
- ctime is older than the moment of reading by a margin. A file may change twice within a tick of the clock (Git calls such an
  entry racy), and writing through a mapping moves ctime only at the first write after the page was last written out.
- Nothing changed between the first byte read and the last.

Where one fails, the digest is right but not remembered: the bytes are read again the next time.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import Final

import psutil

LOCAL: Final = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "xfs", "zfs"})
"""Linux file systems whose ctime no program can set. Files elsewhere are read each time."""
MARGIN: Final = 60.0
"""Seconds by which ctime must be older than the reading: Linux writes changed pages out after 35 s at most, as it is set up."""


@dataclass(frozen=True)
class Read:
    """A file's digest and what to know it by.

    Attributes:
        digest: 32 hex digits.
        stamp: device, inode, size, modification time and ctime, both in ns.
        lasting: whether the stamp may stand in for the bytes from now on.
    """

    digest: str
    stamp: str
    lasting: bool


def bytes_digest(path: Path) -> str:
    """32 hex digits of a file's bytes."""
    with path.open("rb") as stream:
        return _digest(stream)


def read_digest(path: Path) -> Read:
    """Read a file whole, and say whether its stamp may be trusted from now on; OSError as `open` raises it."""
    now = time.time_ns()
    with path.open("rb") as stream:
        before = os.fstat(stream.fileno())
        found = _digest(stream)
        same = _text(os.fstat(stream.fileno())) == _text(before)
    old = before.st_ctime_ns + int(MARGIN * 1e9) <= now
    return Read(found, _text(before), same and old and file_system(path.resolve().parent) in LOCAL)


def stamp(path: Path) -> str:
    """What a file is known by without reading it; OSError as `stat` raises it."""
    return _text(path.stat())


def kept_stamp(path: Path) -> str:
    """What a file of an artefact is known by: `stamp` without the device, whose number changes when a disk is mounted again."""
    return _text(path.stat()).partition("|")[2]


@cache
def file_system(folder: Path) -> str:
    """Kind of the file system that a folder lies on; empty where that cannot be told."""
    try:
        mounts = psutil.disk_partitions(all=True)
    except (OSError, RuntimeError):  # no /proc in a bare container
        return ""
    above = [mount for mount in mounts if folder.is_relative_to(mount.mountpoint)]
    return max(enumerate(above), key=lambda at: (len(Path(at[1].mountpoint).parts), at[0]))[1].fstype if above else ""


def _digest(stream: BufferedReader) -> str:
    return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _text(found: os.stat_result) -> str:
    times = f"{found.st_mtime_ns}|{found.st_ctime_ns}"
    return f"{found.st_dev}|{found.st_ino}|{found.st_size}|{times}"
