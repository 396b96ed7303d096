"""Everything wrong or odd about a submission, at once: a superset of the organisers' validator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.arrays import read_array
from kit.challenge import MAX_WIDTH
from kit.data.layout import DataFolder
from kit.errors import Finding, Severity

ROWS_AT_ONCE = 65_536
LARGE = 1_000.0
"""Absolute values above this make the unscaled probe's precision matter, and come near float16's limit of 65,504."""
DUPLICATE_PROBE_ROWS = 200_000
"""Duplicate rows and columns are looked for among this many rows."""


def validate(folder: Path, data: DataFolder) -> list[Finding]:
    """Everything wrong or odd about a submission, at once; a superset of the organisers' validator.

    Errors: missing or unreadable files, wrong shape or dtype, more than 2048 columns, NaN or infinity, duplicate ids, ids that
    are not exactly the relevant clients, lengths that differ. Warnings: constant or duplicate columns, duplicate rows, values
    near float16's limit, blocks of very different scale, ids sorted instead of permuted.
    """
    findings: list[Finding] = []
    ids = _load(folder / "client_ids.npy", findings)
    vectors = _load(folder / "embeddings.npy", findings)
    if ids is not None:
        findings += _check_ids(ids, data)
    if vectors is not None:
        findings += _check_vectors(vectors)
    if ids is not None and vectors is not None and ids.ndim and vectors.ndim and len(ids) != len(vectors):
        findings.append(
            _error(
                f"{len(ids)} ids for {len(vectors)} vectors",
                "client_ids.npy, embeddings.npy",
                "Row i must belong to id i.",
            )
        )
    return findings


def _error(what: str, where: str, remedy: str) -> Finding:
    return Finding(Severity.ERROR, what, where, remedy)


def _warning(what: str, where: str, remedy: str) -> Finding:
    return Finding(Severity.WARNING, what, where, remedy)


def _load(path: Path, findings: list[Finding]) -> NDArray[Any] | None:
    """Memory-mapped array, or None and a finding."""
    if not path.exists():
        findings.append(
            _error("the file is missing", path.name, "Build the submission with `kit submit RECIPE --data DIR`.")
        )
        return None
    try:
        array: NDArray[Any] = read_array(path)
    except (ValueError, EOFError, OSError) as error:
        findings.append(
            _error(f"it cannot be read as a NumPy array ({error})", path.name, "Write it again with numpy.save.")
        )
        return None
    return array


def _check_ids(ids: NDArray[Any], data: DataFolder) -> list[Finding]:
    where = "client_ids.npy"
    if ids.ndim != 1:
        return [_error(f"ids have shape {ids.shape}", where, "They must be one-dimensional.")]
    findings = []
    if ids.dtype != np.int64:
        findings.append(_error(f"ids are {ids.dtype}", where, "Cast them with .astype(numpy.int64)."))
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        findings.append(
            _error(
                f"{len(ids) - len(unique)} duplicate ids, such as {unique[counts > 1][0]}",
                where,
                "Keep one row per client.",
            )
        )
    relevant = data.clients()
    missing, surplus = np.setdiff1d(relevant, unique), np.setdiff1d(unique, relevant)
    for name, some in (("relevant clients are missing", missing), ("ids are not relevant clients", surplus)):
        if len(some):
            findings.append(
                _error(f"{len(some)} {name}, such as {some[:3].tolist()}", where, "Hold exactly the relevant clients.")
            )
    if len(ids) > 2 and np.all(ids[:-1] <= ids[1:]):
        findings.append(
            _warning(
                "ids are sorted",
                where,
                "The probe reads rows in order without shuffling: permute rows once, with a seed.",
            )
        )
    return findings


def _check_vectors(vectors: NDArray[Any]) -> list[Finding]:
    where = "embeddings.npy"
    if vectors.ndim != 2:
        return [_error(f"vectors have shape {vectors.shape}", where, "They must be (clients, columns).")]
    findings = []
    n, width = vectors.shape
    if vectors.dtype != np.float16:
        findings.append(
            _error(f"vectors are {vectors.dtype}", where, "Cast them with .astype(numpy.float16) after scaling.")
        )
    if width > MAX_WIDTH or width == 0:
        findings.append(
            _error(f"vectors have {width} columns", where, f"Between 1 and {MAX_WIDTH} are accepted; reduce with PCA.")
        )
    if n == 0 or width == 0:
        return findings if n else [*findings, _error("there is no vector", where, "Hold exactly the relevant clients.")]
    low, high, power, bad = column_statistics(vectors)
    if bad:
        findings.append(
            _error(f"{bad} values are NaN or infinite", where, "Impute before the cast to float16; 65,504 overflows.")
        )
        return findings
    findings += _oddities(vectors, low, high, power)
    return findings


def column_statistics(
    vectors: NDArray[Any],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64], int]:
    """Per column: minimum, maximum, mean square; and how many values are not finite. One pass in row chunks."""
    width = vectors.shape[1]
    low, high = np.full(width, np.inf, np.float32), np.full(width, -np.inf, np.float32)
    power, bad = np.zeros(width), 0
    for first in range(0, len(vectors), ROWS_AT_ONCE):
        chunk = np.asarray(vectors[first : first + ROWS_AT_ONCE], dtype=np.float32)
        bad += int(chunk.size - np.isfinite(chunk).sum())
        low, high = np.minimum(low, chunk.min(axis=0)), np.maximum(high, chunk.max(axis=0))
        power += np.einsum("ij,ij->j", chunk, chunk, dtype=np.float64)
    return low, high, power / len(vectors), bad


def _oddities(
    vectors: NDArray[Any], low: NDArray[np.float32], high: NDArray[np.float32], power: NDArray[np.float64]
) -> list[Finding]:
    """Valid, but likely not meant: constant, duplicate, huge or unevenly scaled columns, and duplicate rows."""
    where = "embeddings.npy"
    findings = []
    constant = np.flatnonzero(low == high)
    if len(constant):
        findings.append(
            _warning(f"{len(constant)} constant columns, such as {constant[:3].tolist()}", where, "Drop them.")
        )
    doubles = count_duplicates(np.ascontiguousarray(vectors[:DUPLICATE_PROBE_ROWS].T)) - max(len(constant) - 1, 0)
    if doubles > 0:
        findings.append(_warning(f"{doubles} columns repeat another one", where, "Drop them: width costs probe steps."))
    rows = count_duplicates(vectors[:DUPLICATE_PROBE_ROWS])
    if rows > 0:
        findings.append(
            _warning(
                f"{rows} rows repeat another row",
                where,
                "Expected for clients without events; otherwise look at the join.",
            )
        )
    largest = float(max(-low.min(), high.max()))
    if largest > LARGE:
        findings.append(
            _warning(
                f"values reach {largest:,.0f}",
                where,
                "Scale the blocks: the probe does not, and float16 ends at 65,504.",
            )
        )
    scales = np.sqrt(power[low != high])
    if len(scales) and scales.max() > 100 * max(float(np.median(scales)), 1e-6):
        findings.append(
            _warning(
                f"one column's scale is {scales.max() / np.median(scales):,.0f} × the median's",
                where,
                "Scale every block.",
            )
        )
    return findings


def count_duplicates(rows: NDArray[Any]) -> int:
    """How many rows of a 2-d array equal an earlier one, byte for byte."""
    packed = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    keys = np.fromiter((hash(row.tobytes()) for row in packed), dtype=np.int64, count=len(packed))
    return len(keys) - len(np.unique(keys))
