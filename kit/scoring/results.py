"""What is kept of a scoring beside the submission: scores.json, what each client adds, and how both are read back.

    SUBMISSION/scores.json            probe → report (`ScoreReport.as_json`)
    SUBMISSION/influence-<probe>.npz  per scored task <task> (m,) float32, <task>-clients (m,) int64; <task>-auroc (m,) float32
                                      where the score is more than AUROC; `fingerprint` of the report

Scores are only compared where they can be: a report names the digests of the vectors and of the target files that it was made
from, and whoever reads it for a comparison checks the vectors against the files as they are now.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from kit.challenge import TARGET_DAYS, TaskName
from kit.contract import vectors_digest
from kit.data.layout import CEILING_VERSION, DataFolder
from kit.errors import KitError
from kit.probes.registry import Explanation
from kit.progress import say
from kit.scoring.remarks import unsettled
from kit.scoring.statistics import Scored
from kit.store import DEFAULT_ROOT, digest, write_atomically, write_json
from kit.submission.card import write_card
from kit.submission.stored import understood
from kit.submission.submission import Submission
from kit.tasks import TASKS, Task, find_task
from kit.tasks.labels import targets_digest
from kit.trouble import disk_trouble

PRINT: Final = "fingerprint"
AREA: Final = "-auroc"
BESIDE: Final = frozenset({"influence", "areas", "explanations", "importance"})
"""Of a report: what scores.json does not hold."""
Influence = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Sorted ids of the clients that were scored (m,), and what each adds to the score (m,)."""
SAME: Final = 1e-4
"""Scores are kept with four digits, AUROC with six."""


@dataclass(frozen=True)
class ScoreReport:
    """Scores of one submission by one probe.

    Attributes:
        submission: its folder.
        data: the data folder.
        probe: name of the probe.
        precision: of matrix products.
        seeds: runs per task: of the task with the fewest, where more were known of some.
        reordered: whether the runs after the first read the rows in other orders, in all tasks.
        fingerprint: of everything that decides the numbers of a run.
        vectors: digest of the submission's ids and vectors.
        targets: digest of the target files.
        code: digest of the probe's code.
        tasks: task → fields of the command contract; an undefined task has nulls and `undefined`.
        notes: why the organisers' evaluator would print something else.
        precision_matters: whether bf16 may depart from fp32 on these vectors; a note says why.
        reused: whether all of it was found in scores.json.
        influence: task → ids of the clients that were scored, and what each adds to the score (official seed).
        areas: the same of AUROC, of tasks whose score is more than that.
        explanations: task → what the margins are made of (official seed), where that was asked for.
        importance: task → blocks and columns by how much the probe read of them (`kit.studies.attributions`), once explained.
    """

    submission: str
    data: str
    probe: str
    precision: str
    seeds: int
    fingerprint: str
    vectors: str
    targets: str
    code: str
    tasks: dict[str, dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    precision_matters: bool = False
    reused: bool = False
    reordered: bool = False
    influence: dict[str, Influence] = field(default_factory=dict, repr=False)
    areas: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    explanations: dict[str, Explanation] = field(default_factory=dict, repr=False)
    importance: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    @property
    def sum(self) -> float:
        """Sum of the scores of the challenge's tasks that are defined."""
        return total(self.tasks)

    @property
    def remarks(self) -> list[str]:
        """`notes`, and what there is to say of how the trainings went."""
        return [*self.notes, *unsettled(self.tasks)]

    def as_json(self) -> dict[str, Any]:
        """The shape relied on from outside."""
        plain = {key: value for key, value in self.__dict__.items() if key not in BESIDE}
        told = {"notes": self.remarks, "sum": self.sum}
        return plain | told | {"undefined_tasks": sum("undefined" in e for e in self.tasks.values())}


def total(tasks: Mapping[str, Mapping[str, Any]]) -> float:
    """Sum of the scores of the challenge's tasks that are defined: a task of one's own is scored, but no part of it."""
    scores = [entry["score"] for name, entry in tasks.items() if name in frozenset(TaskName)]
    return round(float(sum(score for score in scores if score is not None)), 4)


def write_scores(submission: Submission, reports: Sequence[ScoreReport]) -> Path:
    """Merge reports into the submission's scores.json, {probe: report}; tasks scored earlier on the same bytes stay.

    Atomic, and safe against another process doing the same.

    Raises:
        KitError: the vectors are no longer those that were scored, the folder cannot be written, or the disk is full.
    """
    folder = submission.folder
    path = folder / "scores.json"
    now = vectors_digest(folder)  # of the files as they are now, whatever they were when the submission was opened
    if any(report.vectors != now for report in reports):
        raise KitError(
            f"The vectors of {submission} were exchanged while they were scored.",
            "Nothing was written: score it again.",
        )
    with _alone(path), _writing(folder):
        content = read_scores(folder)
        for report in reports:
            before = content.get(report.probe, {})
            same = before.get("fingerprint") == report.fingerprint
            merged = _richer(before["tasks"] if same else {}, report.tasks)
            _write_influence(folder, report, keep=same)
            order = [*TaskName, *sorted(merged.keys() - set(TaskName))]
            tasks: dict[str, dict[str, Any]] = {str(name): merged[name] for name in order if name in merged}
            entry = replace(report, tasks=tasks).as_json() | runs_of(tasks)
            content[report.probe] = {key: value for key, value in entry.items() if key != "reused"}
        write_json(path, content)
        write_card(folder)
    return path


def _richer(kept: dict[str, dict[str, Any]], new: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Entries of the same bytes from two scorings: of a task that both know, the one with more runs, the newer if alike.

    Their first runs are the same. An explanation trains once more, and another process may have added runs meanwhile: neither
    takes away what is known. Several runs in other orders are no more or less of the same, so the newer replace them.
    """
    merged = kept | new
    for name, entry in kept.items():
        before, after = (len(each.get("per_seed", ())) for each in (entry, merged[name]))
        if before > after and (after == 0 or entry.get("reordered") == merged[name].get("reordered")):
            merged[name] = entry
    return merged


def runs_of(tasks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """`seeds`, the runs of the task with the fewest, and `reordered`, for a report of these entries."""
    six = [entry for name, entry in tasks.items() if name in frozenset(TaskName)]
    scored = [entry for entry in six or tasks.values() if entry["score"] is not None]
    fewest = min((len(entry.get("per_seed", (0,))) for entry in scored), default=1)
    return {"seeds": fewest, "reordered": fewest > 1 and all(entry.get("reordered") for entry in scored)}


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from writing the same scores meanwhile, where the store can be written to say so."""
    lock = DEFAULT_ROOT / "locks" / f"scores-{digest(str(path.resolve()))}"
    with ExitStack() as held:
        with suppress(OSError):
            lock.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(lock))
        yield


@contextmanager
def _writing(submission: Path) -> Iterator[None]:
    """What a disk or a folder refuses, as a KitError."""
    try:
        yield
    except OSError as error:
        trouble = disk_trouble(error, submission)
        if trouble is error:
            trouble = KitError(f"{submission} cannot be written ({error}).", "Mend its permissions, or score a copy.")
        raise trouble from error


def require_writable(submission: Path) -> None:
    """KitError, before anything is trained, if results could not be kept in the submission's folder."""
    with _writing(submission):
        write_atomically(probe := submission / ".writable", lambda path: path.touch())
        probe.unlink(missing_ok=True)  # another run may have tried at the same time


def _write_influence(submission: Path, report: ScoreReport, *, keep: bool) -> None:
    """Add a report's influences to influence-<probe>.npz; those of the same bytes scored earlier stay if `keep`.

    Written before scores.json: whoever is stopped in between leaves two files that do not fit, and neither is believed.
    """
    path = influence_file(submission, report.probe)
    arrays: dict[str, Any] = _stored(path, report.fingerprint) if keep else {}
    for name, (clients, each) in report.influence.items():
        arrays |= {name: each.astype(np.float32), f"{name}-clients": clients.astype(np.int64)}
        arrays.pop(f"{name}{AREA}", None)
    arrays |= {f"{name}{AREA}": each.astype(np.float32) for name, each in report.areas.items()}
    if arrays:
        write_atomically(path, lambda temporary: _savez(temporary, arrays | {PRINT: np.array(report.fingerprint)}))


def _stored(path: Path, fingerprint: str) -> dict[str, NDArray[Any]]:
    """Arrays of an influence file that belongs to the report with this fingerprint; none if it is another's, or damaged."""
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, BadZipFile):
        return {}
    return arrays if str(arrays.pop(PRINT, "")) == fingerprint else {}


def _savez(path: Path, arrays: dict[str, Any]) -> None:
    with path.open("wb") as stream:  # given a name, NumPy would append .npz to it
        np.savez(stream, **arrays)


def influence_file(submission: Path, probe: str) -> Path:
    """Where a probe's influences of a submission are kept."""
    return submission / f"influence-{probe}.npz"


def known_tasks(submission: Path, probe: str, fingerprint: str) -> dict[str, dict[str, Any]]:
    """Entries of the tasks that were scored under this fingerprint; none where a file of it is missing or another's."""
    before = read_scores(submission).get(probe, {})
    if before.get(PRINT) != fingerprint:
        return {}
    arrays = _stored(influence_file(submission, probe), fingerprint)
    return {name: entry for name, entry in before["tasks"].items() if entry["score"] is None or name in arrays}


def read_scored(submission: Path, probe: str) -> dict[Task, Scored]:
    """Scores and influences of the tasks that were scored with a probe, for comparisons and boards.

    Raises:
        KitError: the submission was not scored with this probe, its vectors are others now, or a run was stopped while it
            wrote.
    """
    out = {}
    for task, entry, arrays in _entries(submission, probe):
        runs = {int(seed): value for seed, value in entry.get("per_seed", {}).items()} or None
        clients, each = arrays[f"{task.name}-clients"], arrays[task.name]
        out[task] = Scored(entry.get("mean", entry["score"]), runs, clients, each)
    return out


def read_areas(submission: Path, probe: str) -> dict[Task, Scored]:
    """`read_scored` of AUROC alone, by the run with the official seed; tasks that an older version scored, and kept no more of
    than their score's influences, are left out."""
    out = {}
    for task, entry, arrays in _entries(submission, probe):
        each = arrays.get(f"{task.name}{AREA}")
        if each is None and entry.get("novelty") is None and abs(entry["auroc"] - entry["score"]) < SAME:
            each = arrays[task.name]  # the score is the AUROC
        if each is not None:
            out[task] = Scored(entry["auroc"], None, arrays[f"{task.name}-clients"], each)
    return out


def _entries(submission: Path, probe: str) -> Iterator[tuple[Task, dict[str, Any], dict[str, NDArray[Any]]]]:
    """Task, its entry and the influences of all tasks, of those that have a score. Raises as `read_scored`."""
    Submission.open(submission)
    report = read_scores(submission).get(probe)
    remedy = f"Run `kit score {submission} --data DIR --probe {probe}`."
    if report is None:
        raise KitError(f"{submission} has not been scored with the {probe} probe.", remedy)
    if report.get("vectors") != vectors_digest(submission):
        raise KitError(f"The vectors of {submission} are not those that the {probe} probe scored.", remedy)
    arrays = _stored(influence_file(submission, probe), report[PRINT])
    for name, entry in report["tasks"].items():
        if entry["score"] is None or name not in TASKS.loaded():
            continue  # one's own task, whose file is gone, compares with nothing
        if name not in arrays:
            raise KitError(f"What {submission} was scored by ({probe}) was not written to its end.", remedy)
        yield find_task(name), entry, arrays


def read_comparable(submission: Path, probe: str) -> dict[Task, Scored]:
    """`read_scored`, empty where that is refused."""
    try:
        return read_scored(submission, probe)
    except KitError:
        return {}


def read_scores(submission: Path) -> dict[str, Any]:
    """scores.json of a submission, {probe: report}; empty if there is none.

    Raises:
        KitError: the file is not JSON, or not what `kit score` writes.
    """
    path = submission / "scores.json"
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise KitError(f"{path} is not JSON ({error}).", "Delete it and score again.") from error
    return understood(content, path)


def current_scores(submission: Path) -> dict[str, Any]:
    """`read_scores` without the reports on other vectors than the folder holds now, which is said."""
    found = read_scores(submission)
    now = vectors_digest(submission) if found else ""
    stale = [name for name, report in found.items() if report.get("vectors") != now]
    if stale:
        say(
            f"  {submission} has other vectors than the {' and the '.join(stale)} probe scored: these scores are left out"
        )
    return {name: report for name, report in found.items() if name not in stale}


def read_ceiling(folder: DataFolder) -> dict[str, dict[str, Any]]:
    """task → fields of the near-optimal prediction of a synthetic shop; empty where there is none, or where it was made for other
    target files than the folder holds now, or for windows of another length, which is said."""
    found = _ceiling(folder)
    if found is None:
        return {}
    note = ceiling_note(folder)
    if note is None and found.get("targets", now := targets_digest(folder)) != now:
        note = f"{folder.ceiling} was made for other target files than {folder.root} holds now: it is left out"
    if note is not None:
        say(f"  {note}")
        return {}
    return dict(found["tasks"])


def ceiling_note(folder: DataFolder) -> str | None:
    """Why a ceiling of windows of another length, or of an earlier version, is not shown; None where there is none, or it is."""
    found = _ceiling(folder)
    if found is None or not folder.is_split:
        return None
    if "preset" in found and found.get("version") != CEILING_VERSION:
        return (
            f"no ceiling is shown: {folder.ceiling} is of an earlier version, which knew what no history shows; "
            "the `kit data synth` command that made the shop makes its ceiling anew"
        )
    made, now = int(found.get("days", TARGET_DAYS)), folder.split().days
    if made == now:
        return None
    return (
        f"no ceiling is shown: {folder.ceiling} is of windows of {made} days, and the folder is split into windows of {now}; "
        f"`kit data synth DIR --days {now}` makes a shop with a ceiling for these"
    )


def _ceiling(folder: DataFolder) -> dict[str, Any] | None:
    """ceiling.json; None where there is none."""
    if not folder.ceiling.exists():
        return None
    try:
        found = dict(json.loads(folder.ceiling.read_text(encoding="utf-8")))
        return found | {"tasks": dict(found["tasks"])}
    except (ValueError, KeyError, TypeError) as error:
        raise KitError(f"{folder.ceiling} is no ceiling ({error!r}).", "Delete it, or make the shop again.") from error


def moved_on(report: dict[str, Any]) -> str | None:
    """What to say where a data folder holds other target files now than those that were scored; None where it does not, or is
    no longer there."""
    folder = DataFolder(Path(str(report["data"])))
    if not folder.is_split or targets_digest(folder) == report["targets"]:
        return None
    return f"{folder.root} holds other target files now than those that were scored."
