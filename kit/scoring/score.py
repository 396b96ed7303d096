"""Scoring a submission: probes on the tasks that the data define, one report, remembered beside the submission."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kit import tracking
from kit.challenge import EventType
from kit.contract import vectors_digest
from kit.data.check_split import require_targets
from kit.data.layout import DataFolder
from kit.data.origin import FILES, changed, listed
from kit.errors import KitError
from kit.fingerprint import code_of
from kit.probes.registry import Explanation, Options, Precision, Probe, TaskRun, load_probes
from kit.progress import say
from kit.scoring.cohorts import Counts, Masks, cohorts, read_counts, slice_scores
from kit.scoring.conditions import conditions, precision_notes, require_clients
from kit.scoring.results import Influence, ScoreReport, known_tasks, read_scores, runs_of
from kit.store import DEFAULT_ROOT, Store, digest
from kit.submission.vectors import Scorable, load_vectors
from kit.tasks import CHALLENGE, Task
from kit.tasks.labels import TaskData, UndefinedTask, load_task, own_digest, target_files, targets_digest

SHARED_CODE: Final = ("kit.tasks.challenge", "kit.tasks.labels", "kit.scoring.cohorts")
"""Modules that decide scores of the challenge's tasks, besides the probe's own; other tasks have `own_digest`."""
Entries: TypeAlias = dict[str, dict[str, Any]]
FIELDS: Final = ("score", "auroc", "novelty", "diversity", "auroc_defined", "labels_without_positives")


@dataclass(frozen=True)
class Part:
    """A task's entry in the report, what each client adds, and what the margins are made of, if that was asked for."""

    entry: dict[str, Any]
    influence: Influence
    explanation: Explanation | None


Parts: TypeAlias = dict[str, Part]


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
    keep: Callable[[ScoreReport], object] | None = None,
) -> ScoreReport:
    """Score a submission with one probe; what scores.json already holds for the same bytes is not computed again: also not
    where it holds more runs than are asked for, the first of which has the official seed as ever.

    Args:
        submission: folder with client_ids.npy and embeddings.npy.
        folder: a split data folder.
        probe: a registered probe.
        tasks: None for the challenge's six.
        seeds: runs per task; the first has the official seed, and its score is the one reported.
        precision: fp32 or bf16; a probe that has only one uses that.
        threads: None for one per core.
        progress: report progress on stderr.
        force: score again even if the result is known.
        device: «auto», «cpu» or «cuda».
        explain: rows of the submission to explain (may be empty); None for no explanation. Trains again what is known.
        reorder: all runs but the first read the rows in another random order.
        keep: called with a report of each task as soon as it is done, such as to write it: at full size the next may take an
            hour, and a run be killed. What is told again at the end is the whole.

    Raises:
        KitError: bad vectors, ids, labels or options. A task that the data cannot define is no error.
    """
    chosen = load_probes()[probe]
    _require_runs(seeds, reorder=reorder)
    require_targets(folder, Store())
    used = chosen.knows(precision)
    wanted = list(tasks) if tasks else list(CHALLENGE)
    scorable = load_vectors(submission)
    require_clients(submission, scorable.client_ids, folder)
    decided = evidence(folder, chosen, used)
    vectors, fingerprint = vectors_digest(submission), fingerprint_of(submission, folder, decided)
    known = {} if force or explain is not None else _known(submission, probe, fingerprint, seeds, reorder=reorder)
    known = {task.name: known[task.name] for task in wanted if _still_asks(task, folder, known.get(task.name))}
    missing = [task for task in wanted if task.name not in known]
    options = Options(seeds, used, threads, device, progress, keep_logits=True, explain=explain, reorder=reorder)
    counts = read_counts(folder, scorable.client_ids)
    empty = ScoreReport(
        submission=str(submission),
        data=str(folder.root),
        probe=probe,
        precision=used,
        fingerprint=fingerprint,
        vectors=vectors,
        targets=digest(decided["targets"]),
        code=str(decided["code"]),
        tasks={},
        notes=[*origin_notes(submission, folder), *conditions(scorable, folder, counts)],
        precision_matters=bool(precision_notes(scorable)),
        reused=not missing,
        **runs_of({}),
    )
    _require_replaceable(read_scores(submission).get(probe), decided, vectors, chosen, missing if not force else ())

    def done(name: str, part: Part) -> None:
        _require_same_targets(submission, folder, empty.targets)
        if keep is not None:
            keep(_filled(empty, {name: part.entry}, {name: part}))

    told = {"submission": str(submission), "data": str(folder.root), "probe": probe, "seeds": seeds, "precision": used}
    with tracking.run("score", told, DEFAULT_ROOT / "runs"):
        undefined, parts = _run(chosen, scorable, folder, missing, options, counts, done)
        found = known | undefined | {name: part.entry for name, part in parts.items()}
        _track(found, wanted, missing, probe)
    return _filled(empty, {task.name: found[task.name] for task in wanted}, parts)


def _still_asks(task: Task, folder: DataFolder, entry: dict[str, Any] | None) -> bool:
    """Whether a known entry is of the task as it is now: that of one's own may have changed since."""
    return entry is not None and entry.get("made_of") == own_digest(task, folder)


def _made_of(task: Task, folder: DataFolder) -> dict[str, str]:
    """What an entry of a task of one's own keeps, for `_still_asks`."""
    own = own_digest(task, folder)
    return {} if own is None else {"made_of": own}


def origin_notes(submission: Path, folder: DataFolder) -> list[str]:
    """A note where the submission was made from other events than the folder's input holds now; empty where it says nothing of
    them, as one for the cut at the end, which is made from other tables."""
    try:
        origin = dict(json.loads((submission / "manifest.json").read_text(encoding="utf-8"))["data"][FILES])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    inputs = [folder.input(kind).relative_to(folder.root).as_posix() for kind in EventType]
    found = changed(folder, origin, Store(), [name for name in inputs if name in origin])
    if not found:
        return []
    return [
        f"The submission was made from other data than {folder.root} holds now ({listed(found)}): its vectors may know what the "
        "target windows hold, or miss what came before. Build it again."
    ]


def _require_same_targets(submission: Path, folder: DataFolder, targets: str) -> None:
    """KitError where the target files are others than when the scoring began: its scores would be filed under the wrong ones."""
    if targets_digest(folder) != targets:
        raise KitError(
            f"The target files of {folder.root} were exchanged while {submission} was scored.",
            "What was scored since then was not written: score it again.",
        )


def _require_runs(seeds: int, *, reorder: bool) -> None:
    """KitError for numbers of runs that make no sense."""
    if seeds < 1:
        raise KitError(f"--seeds {seeds} is not a number of runs.", "Give 1 or more.")
    if reorder and seeds < 2:
        raise KitError(f"--reorder changes the runs after the first; --seeds {seeds} has none.", "Add --seeds 3.")


def _require_replaceable(
    before: dict[str, Any] | None, decided: dict[str, Any], vectors: str, probe: Probe, missing: Sequence[Task]
) -> None:
    """There is one place per probe in scores.json: what stands there may have taken hours.

    Raises:
        KitError: sound scores in another precision would be replaced by those of the `missing` tasks.
    """
    if before is None or not missing or before.get("vectors") != vectors:
        return
    if before.get("targets") != digest(decided["targets"]):
        say(f"  the {probe.name} probe's scores on {before['data']} are replaced")
    elif (
        before.get("code") == str(decided["code"])
        and before["precision"] != decided["precision"]
        and before["precision"] in probe.precisions
    ):
        raise KitError(
            f"{before['submission']} has the {probe.name} probe's scores in {before['precision']}: those in "
            f"{decided['precision']} would replace them.",
            f"Give --precision {before['precision']} to go on with them, or --force to score anew (beside --against: score "
            "the other one by itself first), or score a copy.",
        )


def _filled(empty: ScoreReport, entries: Entries, parts: Parts) -> ScoreReport:
    """A report with these tasks."""
    return replace(
        empty,
        tasks=entries,
        influence={name: part.influence for name, part in parts.items()},
        explanations={name: part.explanation for name, part in parts.items() if part.explanation is not None},
        **runs_of(entries),
    )


def _track(found: dict[str, dict[str, Any]], wanted: list[Task], missing: list[Task], probe: str) -> None:
    """Log the numbers of every task to the run."""
    for task in wanted:
        numbers = {name: found[task.name].get(name) for name in (*FIELDS, "seconds")}
        plain = {name: float(value) for name, value in numbers.items() if value is not None}
        tracking.log("score", plain, about={"task": task.name, "probe": probe, "known": task not in missing})


def _run(
    chosen: Probe,
    scorable: Scorable,
    folder: DataFolder,
    tasks: Sequence[Task],
    options: Options,
    counts: Counts | None,
    done: Callable[[str, Part], None],
) -> tuple[Entries, Parts]:
    """Entries of the tasks that are not defined, by name, and what there is to say of the others, told one by one."""
    defined: list[TaskData] = []
    entries: Entries = {}
    for task in tasks:
        try:
            defined.append(load_task(task, scorable.client_ids, folder))
        except UndefinedTask as error:
            entries[task.name] = _undefined(error.reason) | _made_of(task, folder)
    masks = None if counts is None else cohorts(counts)
    by_task, parts = {data.task: data for data in defined}, {}

    def finished(mine: list[TaskRun]) -> None:
        data, first = by_task[mine[0].task], mine[0]
        entry = (
            _entry(mine, reordered=options.reorder)
            | {"slices": _slices(masks, data, first)}
            | _made_of(data.task, folder)
        )
        part = Part(entry, _influence(data, first, scorable.client_ids), first.explanation)
        parts[data.task.name] = part
        done(data.task.name, part)

    runs = chosen.run(scorable.vectors, defined, replace(options, finished=finished)) if defined else []
    for data in defined:
        if data.task.name not in parts:  # a probe that makes all at once
            finished([run for run in runs if run.task is data.task])
    return entries, parts


def _slices(masks: Masks | None, data: TaskData, run: TaskRun) -> dict[str, dict[str, dict[str, Any]]] | None:
    """Scores within cohorts, from the official seed's run; None where there is no history to make cohorts from."""
    return None if masks is None or run.logits is None else slice_scores(masks, data, run.logits)


def _influence(data: TaskData, run: TaskRun, client_ids: NDArray[np.int64]) -> Influence:
    """Ids of the task's clients, sorted, and what each adds to the score."""
    if run.logits is None:
        raise ValueError(f"the probe kept no predictions for {data.task.name}")
    clients = client_ids[data.rows]
    order = np.argsort(clients)
    return clients[order], data.task.metric.influence(run.logits, data.validation, data.popularity)[order]


def fingerprint_of(submission: Path, folder: DataFolder, decided: dict[str, Any]) -> str:
    """Digest of all that decides a report but its number of runs: vectors, ids, the events of cohorts, and `evidence`."""
    own = {
        "submission": vectors_digest(submission),
        "events": Store().files_digest(folder.input(kind) for kind in EventType),  # for the cohorts
    }
    return digest(own | decided)


def evidence(folder: DataFolder, probe: Probe, precision: str) -> dict[str, Any]:
    """All that decides a score besides vectors and seeds: target files, probe, precision and the code of the probe."""
    return {
        "targets": Store().files_digest(target_files(folder)),
        "probe": probe.name,
        "precision": precision,
        "code": code_of(probe.run, *SHARED_CODE).digest,
    }


def _known(submission: Path, probe: str, fingerprint: str, seeds: int, *, reorder: bool) -> Entries:
    """Entries that hold the runs asked for, or more. A single run is the first of any; further ones have one order or others."""
    return {
        name: entry
        for name, entry in known_tasks(submission, probe, fingerprint).items()
        if entry["score"] is None
        or seeds == 1
        or (len(entry.get("per_seed", ())) >= seeds and bool(entry.get("reordered")) == reorder)
    }


def _undefined(reason: str) -> dict[str, Any]:
    """The entry of a task that this data cannot define."""
    return dict.fromkeys((*FIELDS, "epochs", "seconds", "slices")) | {
        "undefined": f"not defined here, because {reason}"
    }


def _entry(runs: Sequence[TaskRun], *, reordered: bool = False) -> dict[str, Any]:
    """The entry of a scored task: the run with the official seed, and the spread over seeds if there are several."""
    first = runs[0]
    entry: dict[str, Any] = {name: _rounded(getattr(first.best, name)) for name in FIELDS}
    entry["score"] = round(first.best.score, 4)  # as the evaluator rounds
    entry["epochs"] = [_rounded(epoch.score) for epoch in first.epochs]
    entry["seconds"] = round(sum(run.seconds for run in runs), 2)
    if len(runs) > 1:
        scores = np.array([run.best.score for run in runs])
        entry["reordered"] = reordered
        entry["per_seed"] = {str(run.seed): _rounded(run.best.score) for run in runs}
        entry["mean"] = _rounded(float(scores.mean()))
        entry["standard_error"] = _rounded(float(scores.std(ddof=1) / np.sqrt(len(scores))))
    return entry


def _rounded(value: float | None) -> float | None:
    return value if value is None or isinstance(value, int) else round(value, 6)
