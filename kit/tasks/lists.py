"""Target lists and popularities as they lie in a data folder, also in the official one, whose arrays hold Python numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.arrays import read_numbers
from kit.data.layout import DataFolder
from kit.errors import KitError

Ids = NDArray[np.int64]


def load_targets(path: Path) -> Ids:
    """Targets of a propensity task in label order, int64 (L,); integers stored as floats or Python objects are accepted.

    Raises:
        KitError: the file is missing, unreadable, or holds something that is no list of integers.
    """
    remedy = "It must be a one-dimensional .npy of integers: `kit data split` makes one where there is none."
    if not path.exists():
        raise KitError(f"{path} is missing.", remedy)
    values = _load_plain(path, remedy)
    try:
        numbers = np.asarray(values, dtype=np.float64)
        whole = np.asarray(values).astype(np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise KitError(f"{path} holds something that is no number ({error}).", remedy) from error
    if values.ndim != 1 or not np.array_equal(numbers, whole.astype(np.float64)):
        raise KitError(f"{path} holds {values.dtype} of shape {values.shape}.", remedy)
    return np.asarray(whole, dtype=np.int64)


def load_popularity(task: str, folder: DataFolder, width: int) -> NDArray[np.float64]:
    """Popularity of each of the `width` targets of a task, by its name, float64.

    Raises:
        KitError: its length is not `width`, or it is not a list of finite numbers ≥ 0 of which the largest is above 0.
    """
    path = folder.popularity(task)
    remedy = f"It must give one number per target of {folder.targets(task).name}."
    try:
        values = np.asarray(_load_plain(path, remedy), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise KitError(f"{path} holds something that is no number ({error}).", remedy) from error
    if values.shape != (width,) or not np.isfinite(values).all() or values.min() < 0 or values.max() <= 0:
        raise KitError(f"{path} holds {values.shape} numbers that are no popularities of {width} targets.", remedy)
    return values


def _load_plain(path: Path, remedy: str) -> NDArray[Any]:
    """`read_numbers`, with a KitError that ends in `remedy`."""
    try:
        return read_numbers(path)
    except (ValueError, EOFError, OSError) as error:
        raise KitError(f"{path} cannot be read as a NumPy array ({error}).", remedy) from error
