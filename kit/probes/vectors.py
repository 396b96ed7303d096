"""Reading a submission's vectors for scoring: shapes, types, ids and values are proven before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.arrays import read_array
from kit.challenge import MAX_WIDTH
from kit.data.layout import load_ids
from kit.errors import KitError
from kit.probes.registry import Vectors

ROWS = 65_536


@dataclass(frozen=True)
class Scorable:
    """A submission as a probe needs it.

    Attributes:
        client_ids: (n,) int64, distinct.
        vectors: (n, d), memory-mapped, proven finite.
        largest: the largest magnitude.
        scales: (d,) root mean square of each column.
    """

    client_ids: NDArray[np.int64]
    vectors: Vectors
    largest: float
    scales: NDArray[np.float64]


def require_submission(submission: Path) -> None:
    """KitError if there is no such folder; the one of that name under submissions/ is suggested."""
    if not submission.is_dir():
        beside = Path("submissions") / submission
        hint = f"Did you mean {beside}?" if beside.is_dir() else "Build one with `kit submit RECIPE --data DIR`."
        raise KitError(f"There is no submission {str(submission)!r}.", hint)


def load_vectors(submission: Path) -> Scorable:
    """Client ids and memory-mapped vectors of a submission folder.

    Raises:
        KitError: a file is missing or unreadable, shapes do not fit each other, the width is not in 1 … 2048, values are
            not floating point or not finite, or an id occurs twice.
    """
    remedy = f"`kit validate {submission}` lists everything; `kit submit RECIPE` builds a sound one."
    require_submission(submission)
    ids = load_ids(submission / "client_ids.npy", remedy)
    path = submission / "embeddings.npy"
    if not path.exists():
        raise KitError(f"{path} is missing.", remedy)
    try:
        vectors: NDArray[Any] = read_array(path)
    except (ValueError, EOFError, OSError) as error:
        raise KitError(f"{path} cannot be read as a NumPy array ({error}).", remedy) from error
    if vectors.ndim != 2 or len(vectors) != len(ids) or not 1 <= vectors.shape[1] <= MAX_WIDTH:
        raise KitError(f"{path} holds shape {vectors.shape} for {len(ids)} ids; (ids, 1 … {MAX_WIDTH}) fits.", remedy)
    if not np.issubdtype(vectors.dtype, np.floating):
        raise KitError(f"{path} holds {vectors.dtype}, not floating point numbers.", remedy)
    if len(np.unique(ids)) != len(ids):
        raise KitError(f"{len(ids) - len(np.unique(ids))} ids of {submission} occur twice.", remedy)
    return Scorable(ids, vectors, *_scan(vectors, path))


def _scan(vectors: Vectors, path: Path) -> tuple[float, NDArray[np.float64]]:
    """Largest magnitude, and the root mean square of each column, in one pass.

    Raises:
        KitError: a value is NaN or infinite; the message says how many of each and where the first is.
    """
    largest, squares, nans, infinite, first = 0.0, np.zeros(vectors.shape[1]), 0, 0, ""
    for start in range(0, len(vectors), ROWS):
        chunk = np.asarray(vectors[start : start + ROWS])
        finite = np.isfinite(chunk)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            first = first or f"the first in row {start + int(row)}, column {int(column)}"
            nans += int(np.isnan(chunk).sum())
            infinite += int(np.isinf(chunk).sum())
        elif chunk.size:
            largest = max(largest, float(np.abs(chunk).max()))
            squares += np.square(chunk, dtype=np.float64).sum(axis=0)
    if nans:
        raise KitError(
            f"{path} holds {nans + infinite} values that are NaN or infinite, {first}.",
            "Impute and scale before the cast to float16.",
        )
    if infinite:
        raise KitError(
            f"{path} holds {infinite} infinite values, {first}: float16 overflows above 65,504.",
            "Scale or clip before the cast to float16.",
        )
    return largest, np.sqrt(squares / max(len(vectors), 1))
