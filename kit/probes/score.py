"""Scoring a submission: probes on the tasks that the data define, one report, remembered beside the submission."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from filelock import FileLock

from kit.challenge import Task
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.probes.labels import TaskData, UndefinedTask, load_task
from kit.probes.registry import Options, Precision, Probe, TaskRun, load_probes
from kit.probes.vectors import conditions, load_vectors
from kit.store import DEFAULT_ROOT, PACKAGE, Store, code_digest, digest, write_json

SHARED_CODE: Final = ("probes/labels.py", "probes/metrics.py", "probes/mlp.py", "probes/network.py")
"""Sources that decide scores, besides the probe's own file."""
FIELDS: Final = ("score", "auroc", "novelty", "diversity", "auroc_defined", "labels_without_positives")


@dataclass(frozen=True)
class ScoreReport:
    """Scores of one submission by one probe.

    Attributes:
        submission: its folder.
        data: the data folder.
        probe: name of the probe.
        precision: of matrix products.
        seeds: runs per task.
        fingerprint: of everything that decides the numbers.
        tasks: task → fields of the command contract; an undefined task has nulls and «undefined».
        notes: why the organisers' evaluator would print something else.
        reused: whether all of it was found in scores.json.
    """

    submission: str
    data: str
    probe: str
    precision: str
    seeds: int
    fingerprint: str
    tasks: dict[str, dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    reused: bool = False

    @property
    def sum(self) -> float:
        """Sum of the scores of all defined tasks."""
        return total(self.tasks)

    def as_json(self) -> dict[str, Any]:
        """The shape relied on from outside."""
        return asdict(self) | {"sum": self.sum, "undefined_tasks": sum("undefined" in e for e in self.tasks.values())}


def total(tasks: dict[str, dict[str, Any]]) -> float:
    """Sum of the scores of all defined tasks."""
    return round(float(sum(entry["score"] for entry in tasks.values() if entry["score"] is not None)), 4)


def score_submission(
    submission: Path,
    folder: DataFolder,
    probe: str = "fast",
    tasks: Sequence[Task] | None = None,
    seeds: int = 1,
    precision: Precision = "fp32",
    threads: int | None = None,
    progress: bool = False,
    force: bool = False,
    device: str = "auto",
) -> ScoreReport:
    """Score a submission with one probe; what scores.json already holds for the same bytes is not computed again.

    Args:
        submission: folder with client_ids.npy and embeddings.npy.
        folder: a split data folder.
        probe: a registered probe.
        tasks: None for all six.
        seeds: runs per task; the first has the official seed, and its score is the one reported.
        precision: fp32 or bf16; a probe that has only one uses that.
        threads: None for one per core.
        progress: report progress on stderr.
        force: score again even if the result is known.
        device: «auto», «cpu» or «cuda».

    Raises:
        KitError: bad vectors, ids, labels or options. A task that the data cannot define is no error.
    """
    chosen = load_probes()[probe]
    if seeds < 1:
        raise KitError(f"--seeds {seeds} is not a number of runs.", "Give 1 or more.")
    folder.require_split()
    used = precision if precision in chosen.precisions else chosen.precisions[0]
    wanted = list(tasks) if tasks else list(Task)
    scorable = load_vectors(submission)
    fingerprint = fingerprint_of(submission, folder, chosen, used, seeds)
    known = {} if force else _known(submission, probe, fingerprint)
    missing = [task for task in wanted if task.value not in known]
    defined: list[TaskData] = []
    entries: dict[str, dict[str, Any]] = {}
    for task in missing:
        try:
            defined.append(load_task(task, scorable.client_ids, folder))
        except UndefinedTask as error:
            entries[task.value] = _undefined(error.reason)
    options = Options(seeds, used, threads, device, progress)
    runs = chosen.run(scorable.vectors, defined, options) if defined else []
    for data in defined:
        entries[data.task.value] = _entry([run for run in runs if run.task is data.task])
    found = known | entries
    return ScoreReport(
        submission=str(submission),
        data=str(folder.root),
        probe=probe,
        precision=used,
        seeds=seeds,
        fingerprint=fingerprint,
        tasks={task.value: found[task.value] for task in wanted},
        notes=conditions(scorable, folder),
        reused=not missing,
    )


def write_scores(submission: Path, reports: Sequence[ScoreReport]) -> Path:
    """Merge reports into submission/scores.json, {probe: report}; tasks scored earlier on the same bytes stay.

    Atomic, and safe against another process doing the same.
    """
    path = submission / "scores.json"
    lock = DEFAULT_ROOT / "locks" / f"scores-{digest(str(path.resolve()))}"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        content = read_scores(submission)
        for report in reports:
            before = content.get(report.probe, {})
            same = before.get("fingerprint") == report.fingerprint
            merged = (before["tasks"] if same else {}) | report.tasks
            tasks = {task.value: merged[task.value] for task in Task if task.value in merged}
            entry = asdict(report) | {"tasks": tasks}
            entry["sum"] = total(tasks)
            content[report.probe] = {key: value for key, value in entry.items() if key != "reused"}
        write_json(path, content)
    return path


def read_scores(submission: Path) -> dict[str, Any]:
    """scores.json of a submission, {probe: report}; empty if there is none.

    Raises:
        KitError: the file is not JSON.
    """
    path = submission / "scores.json"
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise KitError(f"{path} is not JSON ({error}).", "Delete it and score again.") from error


def read_ceiling(folder: DataFolder) -> dict[str, dict[str, Any]]:
    """task → fields of the near-optimal prediction of a synthetic shop; empty where there is none."""
    if not folder.ceiling.exists():
        return {}
    try:
        return dict(json.loads(folder.ceiling.read_text(encoding="utf-8"))["tasks"])
    except (ValueError, KeyError, TypeError) as error:
        raise KitError(f"{folder.ceiling} is no ceiling ({error!r}).", "Delete it, or make the shop again.") from error


def fingerprint_of(submission: Path, folder: DataFolder, probe: Probe, precision: str, seeds: int) -> str:
    """Digest of all that decides a report: vectors, ids, target files, settings and the code of the probe."""
    store = Store()
    targets = [folder.window("train"), folder.window("validation"), folder.active_clients]
    targets += [path for task in Task if task.is_propensity for path in (folder.targets(task), folder.popularity(task))]
    own = Path(str(sys.modules[probe.run.__module__].__file__)).resolve()
    parts = [path for path in own.parent.glob(f"{own.stem}*.py") if path.is_relative_to(PACKAGE.resolve())]
    sources = {*SHARED_CODE, *(path.relative_to(PACKAGE.resolve()).as_posix() for path in parts)}
    return digest(
        {
            "submission": store.files_digest([submission / "client_ids.npy", submission / "embeddings.npy"]),
            "targets": store.files_digest(targets),
            "probe": probe.name,
            "precision": precision,
            "seeds": seeds,
            "code": code_digest(*sources),
        }
    )


def _known(submission: Path, probe: str, fingerprint: str) -> dict[str, dict[str, Any]]:
    before = read_scores(submission).get(probe, {})
    return dict(before["tasks"]) if before.get("fingerprint") == fingerprint else {}


def _undefined(reason: str) -> dict[str, Any]:
    """The entry of a task that this data cannot define."""
    return dict.fromkeys((*FIELDS, "epochs", "seconds")) | {"undefined": f"not defined here, because {reason}"}


def _entry(runs: Sequence[TaskRun]) -> dict[str, Any]:
    """The entry of a scored task: the run with the official seed, and the spread over seeds if there are several."""
    first = runs[0]
    entry: dict[str, Any] = {name: _rounded(getattr(first.best, name)) for name in FIELDS}
    entry["score"] = round(first.best.score, 4)  # as the evaluator rounds
    entry["epochs"] = [_rounded(epoch.score) for epoch in first.epochs]
    entry["seconds"] = round(sum(run.seconds for run in runs), 2)
    if len(runs) > 1:
        scores = np.array([run.best.score for run in runs])
        entry["per_seed"] = {str(run.seed): _rounded(run.best.score) for run in runs}
        entry["mean"] = _rounded(float(scores.mean()))
        entry["standard_error"] = _rounded(float(scores.std(ddof=1) / np.sqrt(len(scores))))
    return entry


def _rounded(value: float | None) -> float | None:
    return value if value is None or isinstance(value, int) else round(value, 6)
