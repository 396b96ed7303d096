"""A list of clients that somebody asks for, read from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.arrays import read_array
from kit.data.own_ids import clients_called
from kit.errors import KitError

REMEDY = "Give a .npy of whole numbers, a .txt with one id per line, or a .parquet with a column client_id."


def read_asked(path: Path, data: Path) -> NDArray[np.int64]:
    """Ids in the order of the file, int64 (n,), each once.

    Args:
        path: .npy, .txt (the shop's own ids where the data folder numbered them) or .parquet.
        data: the data folder.

    Raises:
        KitError: the file is missing, unreadable, empty, of another sort, or names a client twice.
    """
    try:
        found = _read(path, data)
    except (OSError, ValueError, EOFError, pl.exceptions.PolarsError) as error:
        raise KitError(f"{path} cannot be read as a list of clients ({error}).", REMEDY) from error
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise KitError(f"{path} holds {found.dtype} of shape {found.shape} where ids are expected.", REMEDY)
    if len(found) == 0:
        raise KitError(f"{path} names no client.", REMEDY)
    if found.dtype == np.uint64 and int(found.max()) > np.iinfo(np.int64).max:
        raise KitError(f"{path} holds {int(found.max())}, beyond 64-bit signed numbers.", REMEDY)
    ids = found.astype(np.int64)
    values, first, counts = np.unique(ids, return_index=True, return_counts=True)
    if len(values) < len(ids):
        twice = values[counts > 1][np.argmin(first[counts > 1])]
        raise KitError(f"{path} names client {twice} {counts[values == twice][0]} times.", "Name each client once.")
    return ids


def _read(path: Path, data: Path) -> NDArray[np.generic]:
    if path.suffix == ".npy":
        return np.asarray(read_array(path, mapped=False))
    if path.suffix == ".parquet":
        frame = pl.read_parquet(path)
        if "client_id" not in frame.columns:
            raise KitError(f"{path} has no column client_id (it has {', '.join(frame.columns)}).", REMEDY)
        if frame["client_id"].null_count():
            raise KitError(f"{path} has {frame['client_id'].null_count()} rows without a client_id.", REMEDY)
        return frame["client_id"].to_numpy()
    if path.suffix == ".txt":
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        return np.array(clients_called([line for line in lines if line], data), dtype=np.int64)
    raise KitError(f"{path} is no .npy, .txt or .parquet.", REMEDY)
