"""Everything wrong or odd about a submission, at once: a superset of the organisers' validator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.challenge import EventType
from kit.contract import IDS, MISSING_ID, VECTORS, Statistics, client_errors, examine
from kit.data.contract import inspect
from kit.data.layout import DataFolder
from kit.data.prepare import plan_events
from kit.data.scan import columns_of
from kit.errors import Finding, KitError, Severity
from kit.store import Store
from kit.submission.card import clipped
from kit.submission.submission import Submission

LARGE = 1_000.0
"""Absolute values above this make the unscaled probe's precision matter, and come near float16's limit of 65,504."""
DUPLICATE_PROBE_ROWS = 200_000
"""Duplicate rows and columns are looked for among this many rows."""


def validate(submission: Submission, data: DataFolder) -> list[Finding]:
    """Everything wrong or odd about a submission, at once; a superset of the organisers' validator.

    Errors: missing or unreadable files, wrong shape or dtype, more than 2048 columns, NaN or infinity, duplicate ids, ids that
    are not exactly the relevant clients, lengths that differ, event tables whose clients cannot be read. Warnings: constant or
    duplicate columns, duplicate rows, values near float16's limit, blocks of very different scale, values that were cut, ids
    sorted instead of permuted, negative ids, a manifest of other vectors.
    """
    found = submission.contents
    findings = list(found.errors)
    if found.ids is not None:
        findings += client_errors(found.ids, asked_for(submission.folder, data))
        findings += _odd_ids(found.ids)
    findings += [*client_column_errors(data), *_told(submission)]
    if found.vectors is not None and found.statistics is not None and not found.statistics.bad:
        findings += _oddities(found.vectors, found.statistics)
    return findings


def client_column_errors(data: DataFolder) -> list[Finding]:
    """What `kit data check` calls an error about the clients of the event tables: ids that were read from them all the same are
    not the shop's. Remembered by the tables' content."""
    files = [(kind, path) for kind in EventType for path in (data.input(kind), data.raw(kind)) if path.exists()]
    tables = [inspect(path, columns_of(kind), Store()) for kind, path in files]
    findings = [finding for table in tables for finding in table.findings]
    return [found for found in findings if found.severity is Severity.ERROR and "client_id" in found.where]


def errors_of(folder: Path, data: DataFolder) -> list[Finding]:
    """The errors of `validate` alone, without the search for oddities."""
    found = examine(folder)
    return [*found.errors, *(client_errors(found.ids, asked_for(folder, data)) if found.ids is not None else ())]


def _warning(what: str, where: str, remedy: str) -> Finding:
    return Finding(Severity.WARNING, what, where, remedy)


def asked_for(folder: Path, data: DataFolder) -> NDArray[np.int64]:
    """The clients that a submission must hold, sorted: the relevant ones, or all where its manifest says so."""
    try:
        made = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        everybody = made["data"]["clients"] == "all" and made["data"]["until"] == "end"
    except (OSError, ValueError, TypeError, KeyError):
        everybody = False
    if not everybody:
        return data.clients()
    return plan_events(data, "end", Store(), "keep", "all").clients


def _told(submission: Submission) -> list[Finding]:
    """What a manifest tells, if there is one: blocks of which the assembly cut many values, or that it is of other vectors."""
    try:
        manifest, built = submission.manifest, submission.is_as_built
    except KitError:
        return []
    if not built:
        what = "ids or vectors are others than manifest.json was written for: its recipe and blocks describe those"
        return [
            _warning(what, f"{IDS}, {VECTORS}", "Build the submission again, or remove manifest.json and columns.json.")
        ]
    return [_warning(what, VECTORS, remedy) for what, remedy in clipped(manifest)]


def _odd_ids(ids: NDArray[Any]) -> list[Finding]:
    findings: list[Finding] = []
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        return findings
    if len(ids) > 2 and np.all(ids[:-1] <= ids[1:]):
        remedy = "The probe reads rows in order without shuffling: permute rows once, with a seed."
        findings.append(_warning("ids are sorted", IDS, remedy))
    negative = ids[(ids < 0) & (ids != MISSING_ID)]
    if len(negative):
        what = f"{len(negative)} ids are negative, such as {negative[0]}"
        findings.append(_warning(what, IDS, "-1 often stands for unknown and would be one giant client."))
    return findings


def _oddities(vectors: NDArray[Any], found: Statistics) -> list[Finding]:
    """Valid, but likely not meant: constant, duplicate, huge or unevenly scaled columns, and duplicate rows."""
    where, low, high = VECTORS, found.low, found.high
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
    if found.largest > LARGE:
        findings.append(
            _warning(
                f"values reach {found.largest:,.0f}",
                where,
                "Scale the blocks: the probe does not, and float16 ends at 65,504.",
            )
        )
    scales = np.sqrt(found.power[low != high])
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
