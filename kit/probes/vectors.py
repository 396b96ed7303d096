"""Reading a submission's vectors for scoring, and the conditions under which the evaluator's score would differ from ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.challenge import MAX_WIDTH, Task
from kit.data.layout import DataFolder, load_ids
from kit.errors import KitError
from kit.probes.labels import labels_from_window
from kit.probes.metrics import auroc
from kit.probes.registry import Vectors

ROWS = 65_536
SAMPLE = 20_000
NORMS = (1.0, 30.0)
"""Median row norms between these are what the unscaled probe handles well."""
LARGE = 1000.0
ORDERED = 0.05
"""AUROC of the row number for buying may differ from 0.5 by this much; more, and five standard errors, is no accident."""


@dataclass(frozen=True)
class Scorable:
    """A submission as a probe needs it: ids (n,) int64 and vectors (n, d), memory-mapped, proven finite."""

    client_ids: NDArray[np.int64]
    vectors: Vectors
    largest: float


def load_vectors(submission: Path) -> Scorable:
    """Client ids and memory-mapped vectors of a submission folder.

    Raises:
        KitError: a file is missing or unreadable, shapes do not fit each other, the width is not in 1 … 2048, values are
            not floating point or not finite, or an id occurs twice.
    """
    remedy = f"`kit validate {submission}` lists everything; `kit submit RECIPE` builds a sound one."
    if not submission.is_dir():
        raise KitError(f"There is no submission {str(submission)!r}.", "Build one with `kit submit RECIPE --data DIR`.")
    ids = load_ids(submission / "client_ids.npy", remedy)
    path = submission / "embeddings.npy"
    if not path.exists():
        raise KitError(f"{path} is missing.", remedy)
    try:
        vectors: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise KitError(f"{path} cannot be read as a NumPy array ({error}).", remedy) from error
    if vectors.ndim != 2 or len(vectors) != len(ids) or not 1 <= vectors.shape[1] <= MAX_WIDTH:
        raise KitError(f"{path} holds shape {vectors.shape} for {len(ids)} ids; (ids, 1 … {MAX_WIDTH}) fits.", remedy)
    if not np.issubdtype(vectors.dtype, np.floating):
        raise KitError(f"{path} holds {vectors.dtype}, not floating point numbers.", remedy)
    if len(np.unique(ids)) != len(ids):
        raise KitError(f"{len(ids) - len(np.unique(ids))} ids of {submission} occur twice.", remedy)
    return Scorable(ids, vectors, _largest(vectors, path))


def conditions(scorable: Scorable, folder: DataFolder) -> list[str]:
    """Why the organisers' evaluator would refuse the submission or score it otherwise than we do; empty when it would not.

    Raises:
        KitError: not a single id is a relevant client: this is another data folder's submission.
    """
    notes = _client_notes(scorable.client_ids, folder) + _order_notes(scorable.client_ids, folder)
    vectors = scorable.vectors
    if vectors.dtype != np.float16:
        notes.append(f"The vectors are {vectors.dtype}; the evaluator accepts float16 only and sees rounded values.")
    rows = np.linspace(0, len(vectors) - 1, min(len(vectors), SAMPLE)).astype(np.int64)
    norm = float(np.median(np.linalg.norm(np.asarray(vectors[rows], dtype=np.float32), axis=1)))
    if not NORMS[0] <= norm <= NORMS[1]:
        notes.append(
            f"The vectors look unscaled: the median norm is {norm:.3g}, and the probe, which does not scale, "
            f"works best between {NORMS[0]:g} and {NORMS[1]:g}."
        )
    if scorable.largest > LARGE:
        notes.append(f"Values reach {scorable.largest:,.0f}: raw counts? bf16 scores may then be off by .01.")
    return notes


def _largest(vectors: Vectors, path: Path) -> float:
    largest, bad = 0.0, 0
    for start in range(0, len(vectors), ROWS):
        chunk = np.asarray(vectors[start : start + ROWS])
        finite = np.isfinite(chunk)
        bad += chunk.size - int(np.count_nonzero(finite))
        if not bad and chunk.size:
            largest = max(largest, float(np.abs(chunk).max()))
    if bad:
        raise KitError(
            f"{path} holds {bad} values that are NaN or infinite.", "Impute and scale before the cast to float16."
        )
    return largest


def _client_notes(ids: NDArray[np.int64], folder: DataFolder) -> list[str]:
    relevant = folder.clients()
    known = int(np.isin(ids, relevant).sum())
    if not known:
        raise KitError(
            f"None of the {len(ids)} ids is a relevant client of {folder.root}.",
            "Score a submission on the data folder that it was built from.",
        )
    notes = []
    if known < len(relevant):
        notes.append(
            f"{len(relevant) - known} of {len(relevant)} relevant clients have no vector: it would be refused."
        )
    if known < len(ids):
        notes.append(f"{len(ids) - known} ids are not relevant clients: it would be refused.")
    return notes


def _order_notes(ids: NDArray[np.int64], folder: DataFolder) -> list[str]:
    if len(ids) > 2 and (np.all(np.diff(ids) > 0) or np.all(np.diff(ids) < 0)):
        return ["Rows are sorted by id: the evaluator does not shuffle, so batches follow the ids; permute rows once."]
    absent = labels_from_window(folder.window("train"), Task.CONVERSION, ids, folder).toarray()[:, 0]
    buyers = int((absent == 0).sum())
    if min(buyers, len(ids) - buyers) == 0:
        return []
    lean = abs(auroc(np.arange(len(ids)), absent) - 0.5)
    noise = np.sqrt((len(ids) + 1) / (12 * buyers * (len(ids) - buyers)))
    if lean < max(ORDERED, 5 * noise):
        return []
    return ["Rows are ordered by purchases: the evaluator does not shuffle and its batches would be lopsided; permute."]
