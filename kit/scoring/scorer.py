"""Scores of vectors by one probe on one data folder, a run at a time, each found in the cells or made and kept there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.probes.registry import PROBES, Options, Probe, TaskRun, Vectors
from kit.scoring.cells import Cells, Made, ScoredRun, plain
from kit.scoring.cohorts import EventCounts, cohorts, read_counts, slice_scores
from kit.scoring.evidence import evidence, reads_of
from kit.scoring.statistics import Scored, together
from kit.store import Store
from kit.tasks import Task
from kit.tasks.influence import area_influence
from kit.tasks.labels import TaskData, UndefinedTask, load_task

Scores: TypeAlias = dict[tuple[Task, int], float]
"""(task, index of the seed) → score."""
Finished: TypeAlias = Callable[[Task, list[ScoredRun]], object]
"""Told of a task and its runs so far."""


@dataclass(frozen=True)
class Measured:
    """Scores of one matrix, and what each client adds to them.

    Attributes:
        scores: per task and seed.
        influence: task → sorted ids of its clients, and each one's influence at the official seed, (m,) both.
    """

    scores: Scores
    influence: Mapping[Task, tuple[NDArray[np.int64], NDArray[np.float32]]]

    def scored(self, tasks: Sequence[Task]) -> Scored:
        """The sum of the scores of `tasks` (of one, where there is one), fit to be compared."""
        seeds = sorted({seed for _, seed in self.scores})
        own = [{seed: self.scores[task, seed] for seed in seeds} for task in tasks]
        return together(
            [
                Scored(float(np.mean(list(runs.values()))), runs if len(seeds) > 1 else None, *self.influence[task])
                for task, runs in zip(tasks, own, strict=True)
            ]
        )


class LabelTables:
    """Labels and event counts of the clients that were asked for last: a study has one order of clients, a reference may have
    another.

    Args:
        folder: split data folder.
        tasks: whose labels.
        store: keeps what counting events needs.
    """

    def __init__(self, folder: DataFolder, tasks: tuple[Task, ...], store: Store) -> None:
        self._folder, self._tasks, self._store = folder, tasks, store
        self._labels: dict[bytes, tuple[dict[Task, TaskData], dict[Task, str]]] = {}
        self._counts: dict[bytes, EventCounts | None] = {}

    def labels(self, clients: NDArray[np.int64]) -> tuple[dict[Task, TaskData], dict[Task, str]]:
        """Of the tasks that the data define, for clients in this order; and why the others are not."""
        key = clients.tobytes()
        if key not in self._labels:
            found: dict[Task, TaskData] = {}
            reasons: dict[Task, str] = {}
            for task in self._tasks:
                try:
                    found[task] = load_task(task, clients, self._folder)
                except UndefinedTask as error:
                    reasons[task] = error.reason
            self._labels = {key: (found, reasons)}
        return self._labels[key]

    def counts(self, clients: NDArray[np.int64]) -> EventCounts | None:
        """Events of clients in this order, for cohorts; None where there is no history to count them in."""
        key = clients.tobytes()
        if key not in self._counts:
            self._counts = {key: read_counts(self._folder, clients, self._store)}
        return self._counts[key]


@dataclass
class Scorer:
    """One probe on one data folder.

    Attributes:
        folder: split data folder.
        probe: name of a registered probe, or one that is not registered.
        tasks: that count, in order.
        store: keeps the scores.
        options: how the probe is run; one that has a single precision uses that. Seeds are asked for by `runs`.
        code: digest of what decides a score beside the data; that of the probe's module and its closure if None.
        shared: labels and event counts, where several scorers share them.
    """

    folder: DataFolder
    probe: str | Probe
    tasks: Sequence[Task]
    store: Store
    options: Options = field(default_factory=Options)
    code: str | None = None
    shared: LabelTables | None = None

    def __post_init__(self) -> None:
        self.folder.require_split()
        self._probe = PROBES.loaded()[self.probe] if isinstance(self.probe, str) else self.probe
        self.options = replace(self.options, precision=self._probe.knows(self.options.precision))
        self.tables = self.shared or LabelTables(self.folder, tuple(self.tasks), self.store)

    @property
    def name(self) -> str:
        """Of the probe."""
        return self._probe.name

    @cached_property
    def evidence(self) -> dict[str, Any]:
        """All that decides a score besides vectors and seed."""
        found = evidence(self.folder, self._probe, self.options.precision)
        own = {} if self.code is None else {"code": self.code}
        beside = {} if self.options.source is None else reads_of(self._probe, self.options.source)
        return found | own | beside

    @cached_property
    def _cells(self) -> Cells:
        return Cells(self.store, self.folder, self.evidence, self.options.reorder)

    def defined(self, clients: NDArray[np.int64]) -> dict[Task, TaskData]:
        """Labels of the tasks that the data define, for clients in this order.

        Raises:
            KitError: none of the tasks is defined.
        """
        found, reasons = self.tables.labels(clients)
        if not found:
            told = "; ".join(f"{task.name} {reason}" for task, reason in reasons.items())
            raise KitError(f"None of the tasks is defined here: {told}.", "Search on other data or tasks.")
        return found

    def knows(
        self, vectors: Made, clients: NDArray[np.int64], vectors_key: str, task: Task, seeds: Iterable[int]
    ) -> bool:
        """Whether the store has the runs of a task from all these seeds."""
        content = self._cells.content(vectors, clients, vectors_key)
        return all(self._cells.has(content, task, seed) for seed in seeds)

    def score(
        self,
        vectors: Made,
        clients: NDArray[np.int64],
        vectors_key: str,
        tasks: Iterable[Task],
        seeds: Iterable[int],
    ) -> Scores:
        """`runs`, of which only the scores are wanted."""
        numbers = list(seeds)
        found = self.runs(vectors, clients, vectors_key, list(tasks), numbers)
        return {
            (task, seed): scored.run.best.score
            for task, of_task in found.items()
            for seed, scored in zip(numbers, of_task, strict=True)
        }

    def measure(
        self, vectors: Made, clients: NDArray[np.int64], vectors_key: str, tasks: Sequence[Task], seeds: int
    ) -> Measured:
        """`score` for the first `seeds` seeds, with what each client adds at the official one."""
        found = self.runs(vectors, clients, vectors_key, tasks, range(seeds))
        scores = {
            (task, seed): scored.run.best.score
            for task, of_task in found.items()
            for seed, scored in enumerate(of_task)
        }
        return Measured(scores, {task: (of_task[0].clients, of_task[0].each) for task, of_task in found.items()})

    def client_errors(
        self, vectors: Made, clients: NDArray[np.int64], vectors_key: str, tasks: Sequence[Task]
    ) -> dict[Task, float]:
        """task → standard error of the score over clients, at the official seed (`kit.scoring.statistics.influence`)."""
        found = self.measure(vectors, clients, vectors_key, tasks, 1).influence
        return {task: float(np.linalg.norm(each)) for task, (_, each) in found.items()}

    def runs(
        self,
        vectors: Made,
        clients: NDArray[np.int64],
        vectors_key: str,
        tasks: Sequence[Task],
        seeds: Iterable[int],
        *,
        force: bool = False,
        finished: Finished | None = None,
    ) -> dict[Task, list[ScoredRun]]:
        """A run per task and seed, in the order of the seeds; what the store has is not computed. One seed's runs of all tasks
        share work and are kept as each is done.

        Args:
            vectors: (n, d), row i belongs to clients[i].
            clients: (n,).
            vectors_key: fingerprint of vectors and clients, from which their content follows.
            tasks: among `defined`.
            seeds: indices; 0 is the official seed.
            force: compute, and replace, what the store has.
            finished: called with a task and its runs so far, as soon as there is one more.
        """
        content = self._cells.content(vectors, clients, vectors_key)
        found: dict[Task, list[ScoredRun]] = {task: [] for task in tasks}
        for seed in seeds:

            def tell(task: Task, scored: ScoredRun) -> None:
                found[task].append(scored)
                if finished is not None:
                    finished(task, found[task])

            missing = []
            for task in tasks:
                known = None if force else self._cells.find(content, task, seed)
                if known is None:
                    missing.append(task)
                else:
                    tell(task, known)
            if missing:
                vectors = vectors() if callable(vectors) else vectors
                self._run(vectors, clients, content, missing, seed, tell, force=force)
        return found

    def _run(
        self,
        vectors: Vectors,
        clients: NDArray[np.int64],
        content: str,
        tasks: Sequence[Task],
        seed: int,
        tell: Callable[[Task, ScoredRun], None],
        *,
        force: bool,
    ) -> None:
        """Train and score from one seed; each run is kept, then told, as soon as it is done."""
        labels, first, done = self.tables.labels(clients)[0], seed == 0, set[Task]()

        def keep(runs: Sequence[TaskRun]) -> None:
            for run in runs:
                if run.task not in done:  # some probes make all at once, and tell them at the end
                    done.add(run.task)
                    scored = self._scored(run, labels[run.task], clients) if first else plain(run)
                    self._cells.keep(content, seed, scored, force=force)
                    tell(run.task, scored)

        explain = self.options.explain if first else None
        options = replace(self.options, seeds=1, first_seed=seed, keep_logits=first, explain=explain, finished=keep)
        keep(self._probe.run(vectors, [labels[task] for task in tasks], options))

    def _scored(self, run: TaskRun, data: TaskData, clients: NDArray[np.int64]) -> ScoredRun:
        """A run from the official seed, whose predictions say what each client adds and how cohorts fare."""
        if run.logits is None:
            raise ValueError(f"the probe kept no predictions for {run.task.name}")
        mine, counts = clients[data.rows], self.tables.counts(clients)
        order = np.argsort(mine)
        return ScoredRun(
            run=replace(run, logits=None, explanation=None),
            slices=None if counts is None else slice_scores(cohorts(counts), data, run.logits),
            clients=mine[order],
            each=run.task.metric.influence(run.logits, data.validation, data.popularity)[order],
            area=area_influence(run.logits, data.validation)[order].astype(np.float32)
            if run.task.metric.spreads
            else None,
            known=False,
            explanation=run.explanation,
        )
