"""What the organisers' evaluator refuses about ids and vectors, in one place and in the same words for whoever asks.

`kit submit` asks before a new submission takes an old one's place, `kit score` before anything is trained, `kit validate`
whenever it is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kit.arrays import read_array
from kit.challenge import MAX_WIDTH
from kit.errors import Finding, KitError, Severity
from kit.store import Store, digest

IDS: Final = "client_ids.npy"
VECTORS: Final = "embeddings.npy"
ROWS_AT_ONCE: Final = 65_536
MISSING_ID: Final = np.iinfo(np.int64).min
"""What a missing id (null, NaN) becomes where it is read as a whole number."""
ONE_CLIENT: Final = (
    "With one client every column is constant: a profile needs two or more. `kit data split` takes all clients with an event "
    "before the cut where the folder brings no input/relevant_clients.npy."
)


@dataclass(frozen=True)
class Statistics:
    """Of vectors (n, d), per column: smallest and largest value (float32) and mean square (float64). `bad`: how many values
    are not finite, `first`: where the first of them is, in words; the columns' numbers mean nothing if there are any."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    power: NDArray[np.float64]
    bad: int
    first: str
    bad_columns: NDArray[np.int64]

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return float(max(-self.low.min(initial=0), self.high.max(initial=0)))


@dataclass(frozen=True)
class Contents:
    """What a submission's folder holds: ids, vectors and their statistics as far as they can be read, and all errors."""

    ids: NDArray[Any] | None
    vectors: NDArray[Any] | None
    statistics: Statistics | None
    errors: list[Finding]


def examine(folder: Path) -> Contents:
    """Read a submission's two files and find all that the evaluator refuses about them by themselves, at once."""
    errors: list[Finding] = []
    ids, vectors = (_read(folder / name, errors) for name in (IDS, VECTORS))
    if ids is not None:
        errors += _id_errors(ids)
    statistics = None
    if vectors is not None:
        errors += _shape_errors(vectors)
        if vectors.ndim == 2 and vectors.size and np.issubdtype(vectors.dtype, np.number):
            statistics = column_statistics(vectors)
            errors += _value_errors(statistics)
    if ids is not None and vectors is not None and ids.ndim and vectors.ndim and len(ids) != len(vectors):
        what = f"{len(ids)} ids for {len(vectors)} vectors"
        errors.append(refusal(what, f"{IDS}, {VECTORS}", "Row i must belong to id i."))
    return Contents(ids, vectors, statistics, errors)


def vectors_digest(submission: Path) -> str:
    """Of the ids and vectors as they are in the folder now."""
    return digest(Store().files_digest([submission / IDS, submission / VECTORS]))


def refusal(what: str, where: str, remedy: str) -> Finding:
    """An error of a submission."""
    return Finding(Severity.ERROR, what, where, remedy)


def client_errors(ids: NDArray[Any], relevant: NDArray[np.int64]) -> list[Finding]:
    """Where ids (n,) are not exactly the relevant clients of the data folder (sorted, distinct)."""
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        return []
    unique = np.unique(ids)
    missing, surplus = np.setdiff1d(relevant, unique), np.setdiff1d(unique, relevant)
    return [
        refusal(f"{len(some)} {name}, such as {some[:3].tolist()}", IDS, "Hold exactly the relevant clients.")
        for name, some in (("relevant clients are missing", missing), ("ids are not relevant clients", surplus))
        if len(some)
    ]


def require_none(errors: Sequence[Finding], submission: Path | str, remedy: str = "") -> None:
    """KitError with the words of the first error, if there is one.

    Args:
        errors: of `examine` and `client_errors`.
        submission: what to call it.
        remedy: instead of the finding's own.
    """
    if not errors:
        return
    first, more = errors[0], len(errors) - 1
    rest = f" and {more} more error{'s' if more > 1 else ''}" if more else ""
    raise KitError(
        f"{submission} is not valid: {first.what} ({first.where}){rest}.",
        f"{remedy or first.remedy} `kit validate` lists everything.",
    )


def column_statistics(vectors: NDArray[Any]) -> Statistics:
    """One pass over vectors (n, d) in chunks of rows."""
    width = vectors.shape[1]
    low, high = np.full(width, np.inf, np.float32), np.full(width, -np.inf, np.float32)
    power, bad, first = np.zeros(width), np.zeros(width, dtype=np.int64), ""
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        chunk = np.asarray(vectors[start : start + ROWS_AT_ONCE], dtype=np.float32)
        finite = np.isfinite(chunk)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            first = first or f"the first in row {start + int(row)}, column {int(column)}"
            bad += (~finite).sum(axis=0)
        low, high = np.minimum(low, chunk.min(axis=0)), np.maximum(high, chunk.max(axis=0))
        power += np.einsum("ij,ij->j", chunk, chunk, dtype=np.float64)
    return Statistics(low, high, power / max(len(vectors), 1), int(bad.sum()), first, np.flatnonzero(bad))


def _read(path: Path, errors: list[Finding]) -> NDArray[Any] | None:
    """Memory-mapped array, or None and a finding."""
    if not path.exists():
        errors.append(
            refusal("the file is missing", path.name, "Build the submission with `kit submit RECIPE --data DIR`.")
        )
        return None
    try:
        array: NDArray[Any] = read_array(path)
    except (ValueError, EOFError, OSError) as error:
        what = f"it cannot be read as a NumPy array ({error})"
        errors.append(refusal(what, path.name, "Write it again with numpy.save."))
        return None
    return array


def _id_errors(ids: NDArray[Any]) -> list[Finding]:
    if ids.ndim != 1:
        return [refusal(f"ids have shape {ids.shape}", IDS, "They must be one-dimensional.")]
    errors = []
    if ids.dtype != np.int64:
        errors.append(refusal(f"ids are {ids.dtype}", IDS, "Cast them with .astype(numpy.int64)."))
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        what = f"{len(ids) - len(unique)} duplicate ids, such as {unique[counts > 1][0]}"
        errors.append(refusal(what, IDS, "Keep one row per client."))
    if np.issubdtype(ids.dtype, np.integer) and (ids == MISSING_ID).any():
        what = f"the id {MISSING_ID} is a missing one (null or NaN) that was read as a number"
        remedy = (
            "Mend the event tables (`kit data check DIR` names the rows), run `kit data split DIR`, and build it again."
        )
        errors.append(refusal(what, IDS, remedy))
    return errors


def _shape_errors(vectors: NDArray[Any]) -> list[Finding]:
    if vectors.ndim != 2:
        return [refusal(f"vectors have shape {vectors.shape}", VECTORS, "They must be (clients, columns).")]
    errors = []
    n, width = vectors.shape
    if vectors.dtype != np.float16:
        remedy = "Cast them with .astype(numpy.float16) after scaling."
        errors.append(refusal(f"vectors are {vectors.dtype}", VECTORS, remedy))
    if width > MAX_WIDTH:
        what = f"vectors have {width} columns"
        errors.append(refusal(what, VECTORS, f"Between 1 and {MAX_WIDTH} are accepted; reduce with PCA."))
    if width == 0:
        what = "vectors have no column: constant columns are left out, and all of them were"
        remedy = (
            ONE_CLIENT
            if n == 1
            else "Every client looks the same to these blocks: add blocks, or events to learn from."
        )
        errors.append(refusal(what, VECTORS, remedy))
    if n == 0:
        errors.append(refusal("there is no vector", VECTORS, "Hold exactly the relevant clients."))
    return errors


def _value_errors(found: Statistics) -> list[Finding]:
    if not found.bad:
        return []
    what = f"{found.bad} values are NaN or infinite, {found.first}"
    return [
        refusal(what, VECTORS, "Impute and scale before the cast to float16: what is above 65,504 becomes infinite.")
    ]
