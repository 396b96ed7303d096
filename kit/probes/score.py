"""Scoring a submission: probes on the tasks that the data define, one report, remembered beside the submission."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from kit import tracking
from kit.challenge import EventType, Task
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.probes.conditions import conditions, precision_notes
from kit.probes.labels import TaskData, UndefinedTask, load_task
from kit.probes.registry import Explanation, Options, Precision, Probe, TaskRun, load_probes
from kit.probes.slices import Counts, Masks, cohorts, read_counts, slice_scores
from kit.probes.statistics import Scored, influence
from kit.probes.vectors import Scorable, load_vectors
from kit.store import DEFAULT_ROOT, PACKAGE, Store, code_digest, digest, write_atomically, write_json

SHARED_CODE: Final = (
    "probes/labels.py",
    "probes/metrics.py",
    "probes/statistics.py",
    "probes/mlp.py",
    "probes/network.py",
    "probes/orders.py",
    "probes/slices.py",
)
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
        reordered: whether the runs after the first read the rows in other orders.
        fingerprint: of everything that decides the numbers.
        tasks: task → fields of the command contract; an undefined task has nulls and «undefined».
        notes: why the organisers' evaluator would print something else.
        precision_matters: whether bf16 may depart from fp32 on these vectors; a note says why.
        reused: whether all of it was found in scores.json.
        influence: task → (2, m): ids of the clients that were scored, and what each adds to the score (official seed).
        explanations: task → what the margins are made of (official seed), where that was asked for.
    """

    submission: str
    data: str
    probe: str
    precision: str
    seeds: int
    fingerprint: str
    tasks: dict[str, dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    precision_matters: bool = False
    reused: bool = False
    reordered: bool = False
    influence: dict[str, NDArray[np.float64]] = field(default_factory=dict, repr=False)
    explanations: dict[str, Explanation] = field(default_factory=dict, repr=False)

    @property
    def sum(self) -> float:
        """Sum of the scores of all defined tasks."""
        return total(self.tasks)

    def as_json(self) -> dict[str, Any]:
        """The shape relied on from outside."""
        plain = {key: value for key, value in self.__dict__.items() if key not in ("influence", "explanations")}
        return plain | {"sum": self.sum, "undefined_tasks": sum("undefined" in e for e in self.tasks.values())}


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
    explain: NDArray[np.int64] | None = None,
    reorder: bool = False,
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
        explain: rows of the submission to explain (may be empty); None for no explanation. Trains again what is known.
        reorder: all runs but the first read the rows in another random order.

    Raises:
        KitError: bad vectors, ids, labels or options. A task that the data cannot define is no error.
    """
    chosen = load_probes()[probe]
    if seeds < 1:
        raise KitError(f"--seeds {seeds} is not a number of runs.", "Give 1 or more.")
    if reorder and seeds < 2:
        raise KitError(f"--reorder changes the runs after the first; --seeds {seeds} has none.", "Add --seeds 3.")
    folder.require_split()
    used = precision if precision in chosen.precisions else chosen.precisions[0]
    wanted = list(tasks) if tasks else list(Task)
    scorable = load_vectors(submission)
    fingerprint = fingerprint_of(submission, folder, chosen, used, seeds, reorder=reorder)
    known = {} if force or explain is not None else _known(submission, probe, fingerprint)
    missing = [task for task in wanted if task.value not in known]
    options = Options(seeds, used, threads, device, progress, keep_logits=True, explain=explain, reorder=reorder)
    counts = read_counts(folder, scorable.client_ids)
    told = {"submission": str(submission), "data": str(folder.root), "probe": probe, "seeds": seeds, "precision": used}
    with tracking.run("score", told, DEFAULT_ROOT / "runs"):
        entries, influences, explanations = _run(chosen, scorable, folder, missing, options, counts)
        found = known | entries
        _track(found, wanted, missing, probe)
    return ScoreReport(
        submission=str(submission),
        data=str(folder.root),
        probe=probe,
        precision=used,
        seeds=seeds,
        reordered=reorder,
        fingerprint=fingerprint,
        tasks={task.value: found[task.value] for task in wanted},
        notes=conditions(scorable, folder, counts),
        precision_matters=bool(precision_notes(scorable)),
        reused=not missing,
        influence=influences,
        explanations=explanations,
    )


def _track(found: dict[str, dict[str, Any]], wanted: list[Task], missing: list[Task], probe: str) -> None:
    """Log the numbers of every task to the run."""
    for task in wanted:
        numbers = {name: found[task.value].get(name) for name in (*FIELDS, "seconds")}
        plain = {name: float(value) for name, value in numbers.items() if value is not None}
        tracking.log("score", plain, about={"task": task.value, "probe": probe, "known": task not in missing})


def _run(
    chosen: Probe,
    scorable: Scorable,
    folder: DataFolder,
    tasks: Sequence[Task],
    options: Options,
    counts: Counts | None,
) -> tuple[dict[str, dict[str, Any]], dict[str, NDArray[np.float64]], dict[str, Explanation]]:
    """Entries of the tasks by name, undefined ones included; influences and explanations of those that are defined."""
    defined: list[TaskData] = []
    entries: dict[str, dict[str, Any]] = {}
    for task in tasks:
        try:
            defined.append(load_task(task, scorable.client_ids, folder))
        except UndefinedTask as error:
            entries[task.value] = _undefined(error.reason)
    runs = chosen.run(scorable.vectors, defined, options) if defined else []
    masks = None if counts is None else cohorts(counts)
    influences, explanations = {}, {}
    for data in defined:
        mine = [run for run in runs if run.task is data.task]
        entries[data.task.value] = _entry(mine) | {"slices": _slices(masks, data, mine[0])}
        influences[data.task.value] = _influence(data, mine[0], scorable.client_ids)
        if (explained := mine[0].explanation) is not None:
            explanations[data.task.value] = explained
    return entries, influences, explanations


def _slices(masks: Masks | None, data: TaskData, run: TaskRun) -> dict[str, dict[str, dict[str, Any]]] | None:
    """Scores within cohorts, from the official seed's run; None where there is no history to make cohorts from."""
    return None if masks is None or run.logits is None else slice_scores(masks, data, run.logits)


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
            _write_influence(submission, report, keep=same)
            tasks = {task.value: merged[task.value] for task in Task if task.value in merged}
            entry = report.as_json() | {"tasks": tasks, "sum": total(tasks)}
            content[report.probe] = {key: value for key, value in entry.items() if key != "reused"}
        write_json(path, content)
        from kit.submission.card import write_card  # a room further up: nothing here rests on it

        write_card(submission)
    return path


def _influence(data: TaskData, run: TaskRun, client_ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """(2, m): ids of the task's clients, sorted, and what each adds to the score."""
    if run.logits is None:
        raise ValueError(f"the probe kept no predictions for {data.task.value}")
    clients = client_ids[data.rows]
    order = np.argsort(clients)
    each = influence(data.task, run.logits, data.validation, data.popularity)
    return np.stack([clients[order].astype(np.float64), each[order].astype(np.float64)])


def _write_influence(submission: Path, report: ScoreReport, *, keep: bool) -> None:
    """influence-<probe>.npz, one (2, m) array per task; those of the same bytes scored earlier stay if `keep`."""
    path = influence_file(submission, report.probe)
    before: dict[str, NDArray[np.float64]] = {}
    if keep and path.exists():
        with np.load(path) as stored:
            before = {name: stored[name] for name in stored.files}
    arrays: dict[str, Any] = before | report.influence
    if arrays:
        write_atomically(path, lambda temporary: _savez(temporary, arrays))


def _savez(path: Path, arrays: dict[str, Any]) -> None:
    with path.open("wb") as stream:  # given a name, NumPy would append .npz to it
        np.savez(stream, **arrays)


def influence_file(submission: Path, probe: str) -> Path:
    """Where a probe's influences of a submission are kept."""
    return submission / f"influence-{probe}.npz"


def read_scored(submission: Path, probe: str) -> dict[Task, Scored]:
    """Scores and influences of the tasks that were scored with a probe, for comparisons and boards.

    Raises:
        KitError: the submission was not scored with this probe.
    """
    report, path = read_scores(submission).get(probe), influence_file(submission, probe)
    if report is None or not path.exists():
        raise KitError(
            f"{submission} has not been scored with the {probe} probe.",
            f"Run `kit score {submission} --data DIR --probe {probe}`.",
        )
    out = {}
    with np.load(path) as stored:
        for name, entry in report["tasks"].items():
            if entry["score"] is not None and name in stored.files:
                clients, each = stored[name]
                runs = {int(seed): value for seed, value in entry.get("per_seed", {}).items()} or None
                score = entry.get("mean", entry["score"])
                out[Task(name)] = Scored(score, runs, clients.astype(np.int64), each.astype(np.float32))
    return out


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


def fingerprint_of(
    submission: Path, folder: DataFolder, probe: Probe, precision: str, seeds: int, *, reorder: bool = False
) -> str:
    """Digest of all that decides a report: vectors, ids, target files, settings and the code of the probe."""
    store = Store()
    own = {
        "submission": store.files_digest([submission / "client_ids.npy", submission / "embeddings.npy"]),
        "events": store.files_digest(folder.input(kind) for kind in EventType),  # for the cohorts
        "seeds": [seeds, reorder],
    }
    return digest(own | evidence(folder, probe, precision))


def evidence(folder: DataFolder, probe: Probe, precision: str) -> dict[str, Any]:
    """All that decides a score besides vectors and seeds: target files, probe, precision and the code of the probe."""
    targets = [folder.window("train"), folder.window("validation"), folder.active_clients]
    targets += [path for task in Task if task.is_propensity for path in (folder.targets(task), folder.popularity(task))]
    own = Path(str(sys.modules[probe.run.__module__].__file__)).resolve()
    parts = [path for path in own.parent.glob(f"{own.stem}*.py") if path.is_relative_to(PACKAGE.resolve())]
    sources = {*SHARED_CODE, *(path.relative_to(PACKAGE.resolve()).as_posix() for path in parts)}
    return {
        "targets": Store().files_digest(targets),
        "probe": probe.name,
        "precision": precision,
        "code": code_digest(*sources),
    }


def _known(submission: Path, probe: str, fingerprint: str) -> dict[str, dict[str, Any]]:
    before = read_scores(submission).get(probe, {})
    whole = before.get("fingerprint") == fingerprint and influence_file(submission, probe).exists()
    return dict(before["tasks"]) if whole else {}


def _undefined(reason: str) -> dict[str, Any]:
    """The entry of a task that this data cannot define."""
    return dict.fromkeys((*FIELDS, "epochs", "seconds", "slices")) | {
        "undefined": f"not defined here, because {reason}"
    }


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
