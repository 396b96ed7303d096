"""Room for predictions on disk, so that memory does not grow with the number of clients.

Metrics need all of a task's logits at once, label by label. They are written to a file without a name, mapped into memory: the
system keeps in memory what fits and gives the file back when nobody holds the array any more, however the process ends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from kit.errors import KitError

ON_DISK: Final = Path("/var/tmp")
"""Where large temporary files belong on Linux and macOS; /tmp is memory on many systems. TMPDIR comes first."""
PIECE: Final = 2**24
"""Bytes written at a time where the system cannot reserve space."""


def scratch(rows: int, columns: int) -> NDArray[np.float32]:
    """An array (rows, columns) of float32 zeros in a nameless file; a column is contiguous, since metrics read by label.

    Raises:
        KitError: the disk has no room for it.
    """
    size = rows * columns * np.dtype(np.float32).itemsize
    if not size:
        return np.zeros((rows, columns), dtype=np.float32)
    folder = scratch_folder()
    with no_room(folder, f"{size / 2**20:,.1f} MiB of predictions"), tempfile.TemporaryFile(dir=folder) as file:
        _reserve(file, size)  # a write into a mapped hole would kill the process when the disk is full
        mapped = np.memmap(file, dtype=np.float32, mode="r+", shape=(columns, rows))
    return np.asarray(mapped).T


@contextmanager
def no_room(folder: Path, what: str) -> Iterator[None]:
    """What a disk refuses while `what` is written to `folder`, as a KitError."""
    try:
        yield
    except OSError as error:
        raise KitError(
            f"{folder} has no room for {what} ({error.strerror or error}).",
            "Make room there, or set TMPDIR to a folder on a larger disk.",
        ) from error


def scratch_folder() -> Path:
    """TMPDIR if it is set, else /var/tmp where there is one, else the system's folder for temporary files."""
    usable = ON_DISK.is_dir() and os.access(ON_DISK, os.W_OK)
    return ON_DISK if usable and not os.environ.get("TMPDIR") else Path(tempfile.gettempdir())


def _reserve(file: BinaryIO, size: int) -> None:
    """Make the file `size` bytes long with all of its space on the disk; OSError if there is too little."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, PIECE):
        file.write(bytes(min(PIECE, size - start)))
    file.flush()
