"""What the boosted-tree probe read: importance of columns and blocks, and each client's margin taken apart.

    SUBMISSION/explain-gbm.json   per task: blocks and columns by gain; for each client asked for its most likely labels, what
                                  every block adds to their margins, and the columns that add most
    SUBMISSION/explain-gbm.npz    per task: all contributions (clients, labels, columns + 1) and the clients' ids

A contribution is exact for the trees (TreeSHAP): base and blocks add up to the margin, the log-odds of the label.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kit.challenge import PROBE_SEED, Task
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.probes.labels import load_targets
from kit.probes.metrics import sigmoid
from kit.probes.registry import Explanation
from kit.probes.score import ScoreReport
from kit.probes.vectors import load_vectors
from kit.store import write_atomically, write_json

FEATURES: Final = 30
"""Columns listed per task."""
LABELS: Final = 3
"""Labels listed per client and task: those with the highest margins."""
REASONS: Final = 10
"""Columns listed per client and label."""
MOST_CLIENTS: Final = 100


def check_explainable(probes: list[str] | None, clients: str | None, *, explain: bool) -> None:
    """KitError unless --explain, --clients and --probe fit each other."""
    if clients is not None and not explain:
        raise KitError("--clients names whose margins to take apart.", "Add --explain.")
    if "gbm" not in (probes or ()):
        raise KitError(
            f"--explain needs the boosted trees, not --probe {' '.join(probes or ['fast'])}.", "Use --probe gbm."
        )


def client_rows(submission: Path, clients: str | None) -> NDArray[np.int64]:
    """Rows of the clients in «1234,5678», ascending; none of them for None.

    Raises:
        KitError: something that is no id, an id that the submission does not hold, or more than 100 of them.
    """
    try:
        wanted = np.array([int(part) for part in (clients or "").split(",") if part.strip()], dtype=np.int64)
    except ValueError as error:
        raise KitError(f"--clients {clients!r} is no list of ids.", "Write them with commas: 1234,5678.") from error
    if len(wanted) > MOST_CLIENTS:
        raise KitError(f"--clients names {len(wanted)} clients.", f"Give {MOST_CLIENTS} or fewer.")
    ids = load_vectors(submission).client_ids
    missing = np.setdiff1d(wanted, ids)
    if len(missing):
        raise KitError(f"{submission} holds no client {int(missing[0])}.", "Take ids from its client_ids.npy.")
    return np.flatnonzero(np.isin(ids, wanted))


def read_columns(submission: Path, width: int) -> tuple[list[str], dict[str, slice]]:
    """Names of all columns, and block → its columns; numbered columns of one block where the submission has no names."""
    path = submission / "columns.json"
    blocks: dict[str, list[str]] = {}
    if path.exists():
        try:
            blocks = {
                str(name): list(columns) for name, columns in json.loads(path.read_text(encoding="utf-8")).items()
            }
        except (ValueError, AttributeError, TypeError) as error:
            raise KitError(f"{path} names no columns ({error!r}).", "Build the submission again.") from error
    if sum(map(len, blocks.values())) != width:
        blocks = {"all": [f"column_{i}" for i in range(width)]}
    ends = np.cumsum([0, *map(len, blocks.values())]).tolist()
    slices = {name: slice(start, stop) for name, start, stop in zip(blocks, ends[:-1], ends[1:], strict=True)}
    return [str(column) for columns in blocks.values() for column in columns], slices


def importance(report: ScoreReport) -> dict[str, dict[str, Any]]:
    """task → blocks by gain, and the columns with the largest gains; shares are of the task's whole gain."""
    out: dict[str, dict[str, Any]] = {}
    for task, explanation in report.explanations.items():
        names, blocks = read_columns(Path(report.submission), len(explanation.gain))
        block_of = [block for block, part in blocks.items() for _ in range(part.stop - part.start)]
        gain = explanation.gain
        whole = max(float(gain.sum()), np.finfo(float).tiny)
        sums = {block: float(gain[part].sum()) for block, part in blocks.items()}
        out[task] = {
            "blocks": {
                block: {"gain": round(sums[block], 4), "share": round(sums[block] / whole, 4)}
                for block in sorted(sums, key=sums.__getitem__, reverse=True)
            },
            "features": [
                {
                    "column": names[i],
                    "block": block_of[i],
                    "gain": round(float(gain[i]), 4),
                    "share": round(float(gain[i]) / whole, 4),
                }
                for i in np.argsort(-gain, kind="stable")[:FEATURES]
                if gain[i] > 0
            ],
        }
    return out


def write_explanation(submission: Path, folder: DataFolder, report: ScoreReport) -> Path:
    """Write explain-gbm.json and explain-gbm.npz; returns the former's path."""
    ids = load_vectors(submission).client_ids
    tasks = importance(report)
    arrays: dict[str, Any] = {}
    for name, explanation in report.explanations.items():
        arrays[f"{name}-clients"] = ids[explanation.rows]
        arrays[f"{name}-contributions"] = explanation.contributions
        tasks[name]["clients"] = {
            str(ids[row]): _client(explanation, place, submission, _label_names(Task(name), folder))
            for place, row in enumerate(explanation.rows)
        }
    path = submission / "explain-gbm.json"

    def save(temporary: Path) -> None:
        with temporary.open("wb") as stream:  # given a name, NumPy would append .npz to it
            np.savez_compressed(stream, **arrays)

    write_atomically(path.with_suffix(".npz"), save)
    write_json(path, {"data": report.data, "seed": PROBE_SEED, "fingerprint": report.fingerprint, "tasks": tasks})
    return path


def _client(explanation: Explanation, place: int, submission: Path, labels: list[str]) -> list[dict[str, Any]]:
    """A client's most likely labels, with base, blocks and columns that their margins are the sum of."""
    parts = explanation.contributions[place]  # (L, d + 1)
    names, blocks = read_columns(submission, parts.shape[1] - 1)
    margins = parts.sum(axis=1)
    return [
        {
            "label": labels[label],
            "margin": float(margins[label]),
            "probability": float(sigmoid(margins[label])),
            "base": float(parts[label, -1]),
            "blocks": {block: float(parts[label, part].sum()) for block, part in blocks.items()},
            "columns": {
                names[i]: float(parts[label, i])
                for i in np.argsort(-np.abs(parts[label, :-1]), kind="stable")[:REASONS]
                if parts[label, i]
            },
        }
        for label in np.argsort(-margins, kind="stable")[:LABELS].tolist()
    ]


def _label_names(task: Task, folder: DataFolder) -> list[str]:
    """Targets of a propensity task; the single label of the others."""
    if not task.is_propensity:
        return ["no purchase"]
    return [f"{task.label_column} {target}" for target in load_targets(folder.targets(task)).tolist()]
