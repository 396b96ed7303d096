"""What a probe read: importance of columns and blocks, and each client's margin taken apart.

    SUBMISSION/explain-<probe>.json   per task: blocks and columns by weight; for each client asked for its most likely labels,
                                      what every block adds to their margins, and the columns that add most
    SUBMISSION/explain-<probe>.npz    per task: all contributions (clients, labels, columns + 1) and the clients' ids

For the boosted trees (gbm) the weight is the gain of the splits, and a contribution is exact (TreeSHAP): base and blocks add
up to the margin, the log-odds of the label. For the network (fast) the weight is the mean size of the contributions to the most
likely labels of a sample of clients, and these are expected gradients: what the draws leave of the margin is `unexplained`.

Technique I6.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kit.challenge import PROBE_SEED
from kit.data.layout import DataFolder
from kit.data.own_ids import clients_called
from kit.errors import KitError
from kit.probes.registry import PROBES, Explanation, Options
from kit.scoring.results import PRINT, ScoreReport
from kit.store import write_atomically, write_json
from kit.submission.submission import Submission
from kit.tasks import Task, find_task
from kit.tasks.labels import UndefinedTask, load_targets, load_task
from kit.tasks.metrics import sigmoid

FEATURES: Final = 30
"""Columns listed per task."""
LABELS: Final = 3
"""Labels listed per client and task: those with the highest margins."""
REASONS: Final = 10
"""Columns listed per client and label."""
MOST_CLIENTS: Final = 100


def check_explainable(probes: list[str] | None, clients: str | None, *, explain: bool) -> None:
    """KitError unless --explain, --clients and --probe fit each other, and what they need is installed."""
    if clients is not None and not explain:
        raise KitError("--clients names whose margins to take apart.", "Add --explain.")
    known = PROBES.loaded()
    wanted = [known[name] for name in probes or ["fast"]]
    able = [probe.explaining for probe in wanted if probe.explaining is not None]
    if not able:
        can = [f"--probe {name} ({probe.explaining.reader})" for name, probe in known.items() if probe.explaining]
        raise KitError(
            f"--explain cannot look into --probe {' '.join(probe.name for probe in wanted)}.",
            f"Use {', or '.join(can)}.",
        )
    for explaining in able:
        explaining.require()


def client_rows(submission: Submission, clients: str | None, data: Path | None = None) -> NDArray[np.int64]:
    """Rows of the clients in `1234,5678`, ascending; none of them for None. With `data`, its own ids where it has such.

    Raises:
        KitError: something that is no id, an id that the submission does not hold, or more than 100 of them.
    """
    given = [part.strip() for part in (clients or "").split(",") if part.strip()]
    wanted = np.array(clients_called(given, data), dtype=np.int64)
    if len(wanted) > MOST_CLIENTS:
        raise KitError(f"--clients names {len(wanted)} clients.", f"Give {MOST_CLIENTS} or fewer.")
    missing = np.setdiff1d(wanted, submission.ids)
    if len(missing):
        raise KitError(f"{submission} holds no client {int(missing[0])}.", "Take ids from its client_ids.npy.")
    return np.flatnonzero(np.isin(submission.ids, wanted))


def importance(report: ScoreReport, submission: Submission) -> dict[str, dict[str, Any]]:
    """task → blocks and columns by weight, the heaviest columns only; a share is of the weights of all blocks, or of all columns.

    The weight is called `gain` for trees and `attribution` for networks. A block's gain is the sum of its columns' gains. A
    block's attribution is the mean size of its columns' sum, client by client: columns that cancel each other push nobody.
    """
    out: dict[str, dict[str, Any]] = {}
    for task, explanation in report.explanations.items():
        names, blocks = submission.columns(len(explanation.gain))
        block_of = [block for block, part in blocks.items() for _ in range(part.stop - part.start)]
        word = "gain" if explanation.sample is None else "attribution"
        rows = explanation.gain[None] if explanation.sample is None else explanation.sample
        gain = explanation.gain
        sums = {block: float(np.abs(rows[:, part].sum(axis=1)).mean()) for block, part in blocks.items()}
        whole = max(float(gain.sum()), np.finfo(float).tiny)
        whole_blocks = max(sum(sums.values()), np.finfo(float).tiny)
        out[task] = {
            "blocks": {
                block: {word: round(sums[block], 4), "share": round(sums[block] / whole_blocks, 4)}
                for block in sorted(sums, key=sums.__getitem__, reverse=True)
            },
            "features": [
                {
                    "column": names[i],
                    "block": block_of[i],
                    word: round(float(gain[i]), 4),
                    "share": round(float(gain[i]) / whole, 4),
                }
                for i in np.argsort(-gain, kind="stable")[:FEATURES]
                if gain[i] > 0
            ],
        }
    return out


def explain_report(report: ScoreReport, submission: Submission, folder: DataFolder, options: Options) -> ScoreReport:
    """Explain a scored submission and write the files; returns the report with explanations and `importance`.

    A probe whose runs have explanations was asked for them while it was scored; another one trains once more here, whether its
    scores were known or not.

    Args:
        report: its scores.
        submission: which was scored.
        folder: on what.
        options: of the scoring; `explain` has the rows of the clients asked for.

    Raises:
        KitError: the probe cannot be explained, or what that needs is not installed.
    """
    explaining = PROBES.loaded()[report.probe].explaining
    if explaining is None:
        raise KitError(f"The {report.probe} probe does not say what it read.", "Leave --explain out.")
    if explaining.explain is not None:
        defined = []
        for name in report.tasks:
            try:
                defined.append(load_task(find_task(name), submission.ids, folder))
            except UndefinedTask:
                continue
        found = explaining.explain(submission.vectors, defined, options)
        report = replace(report, explanations={task.name: explanation for task, explanation in found.items()})
    report = replace(report, importance=importance(report, submission))
    _write(submission, folder, report)
    return report


def _write(submission: Submission, folder: DataFolder, report: ScoreReport) -> None:
    """Write explain-<probe>.json and explain-<probe>.npz."""
    ids, tasks = submission.ids, {name: dict(part) for name, part in report.importance.items()}
    arrays: dict[str, Any] = {PRINT: np.array(report.fingerprint)}
    for name, explanation in report.explanations.items():
        arrays[f"{name}-clients"] = ids[explanation.rows]
        arrays[f"{name}-contributions"] = explanation.contributions
        if explanation.labels is not None:
            arrays[f"{name}-labels"] = explanation.labels
        tasks[name]["clients"] = {
            str(ids[row]): _client(explanation, place, submission, _label_names(find_task(name), folder))
            for place, row in enumerate(explanation.rows)
        }
    path = explanation_file(submission.folder, report.probe)

    def save(temporary: Path) -> None:
        with temporary.open("wb") as stream:  # given a name, NumPy would append .npz to it
            np.savez_compressed(stream, **arrays)

    write_atomically(path.with_suffix(".npz"), save)
    write_json(path, {"data": report.data, "seed": PROBE_SEED, "fingerprint": report.fingerprint, "tasks": tasks})


def explanation_file(submission: Path, probe: str) -> Path:
    """Where the explanation of a probe is kept; the contributions lie beside it with the suffix .npz."""
    return submission / f"explain-{probe}.json"


def _client(explanation: Explanation, place: int, submission: Submission, labels: list[str]) -> list[dict[str, Any]]:
    """A client's most likely labels, with base, blocks and columns that their margins are the sum of."""
    parts = explanation.contributions[place]  # (L, d + 1)
    names, blocks = submission.columns(parts.shape[1] - 1)
    sums = parts.sum(axis=1)
    margins = sums if explanation.margins is None else explanation.margins[place]
    which = np.arange(len(parts)) if explanation.labels is None else explanation.labels[place]
    noise = {} if explanation.margins is None else {"unexplained": margins - sums}
    return [
        {
            "label": labels[which[label]],
            "margin": float(margins[label]),
            "probability": float(sigmoid(margins[label])),
            "base": float(parts[label, -1]),
            "blocks": {block: float(parts[label, part].sum()) for block, part in blocks.items()},
            "columns": {
                names[i]: float(parts[label, i])
                for i in np.argsort(-np.abs(parts[label, :-1]), kind="stable")[:REASONS]
                if parts[label, i]
            },
            **{word: float(values[label]) for word, values in noise.items()},
        }
        for label in np.argsort(-margins, kind="stable")[:LABELS].tolist()
    ]


def _label_names(task: Task, folder: DataFolder) -> list[str]:
    """What each label of a task stands for."""
    if task.column is None:
        return [task.label]
    return [f"{task.column} {target}" for target in load_targets(folder.targets(task.name)).tolist()]
