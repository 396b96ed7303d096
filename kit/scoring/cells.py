"""Probe scores of vectors in memory, a task and a seed at a time, each kept in the artefact store.

A trial or an ablation that was killed, or that came out equal to an earlier one, finds the scores it already has.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.probes.registry import PROBES, Options, TaskRun, Vectors
from kit.scoring.evidence import evidence
from kit.scoring.statistics import Scored, together
from kit.store import Artefact, Plan, Store, is_whole
from kit.tasks import Task
from kit.tasks.labels import TaskData, UndefinedTask, load_task, own_digest

STAGE: Final = "tune-score"
Scores = dict[tuple[Task, int], float]
"""(task, index of the seed) → score."""
Made = Vectors | Callable[[], Vectors]
"""Vectors, or how to make them where a score is missing."""


class CountingStore(Store):
    """A store that remembers what was asked of it, for the hit rate.

    Attributes:
        asked: artefacts in the order in which they were asked for.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[Artefact] = []

    def make(self, plan: Plan, build: Callable[[Path], None]) -> Artefact:
        """As Store.make, and counted."""
        artefact = super().make(plan, build)
        self.asked.append(artefact)
        return artefact

    def blocks(self) -> tuple[int, int, float]:
        """Blocks that were fresh, blocks asked for, and the seconds it takes to make all of them."""
        blocks = [artefact for artefact in self.asked if artefact.stage.startswith("block-")]
        fresh = sum(not artefact.made_now for artefact in blocks)
        distinct = {artefact.folder: artefact for artefact in blocks}.values()
        return fresh, len(blocks), sum(float(artefact.record()["seconds"]) for artefact in distinct)


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


@dataclass
class Scorer:
    """One probe on one data folder.

    Attributes:
        folder: split data folder.
        probe: name of the probe.
        tasks: that count, in order.
        store: keeps the scores.
        options: how the probe is run; one that has a single precision uses that. Seeds are asked for by `score`.
    """

    folder: DataFolder
    probe: str
    tasks: Sequence[Task]
    store: Store
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        self.folder.require_split()
        self._probe = PROBES.loaded()[self.probe]
        self.options = replace(self.options, precision=self._probe.knows(self.options.precision))
        self._labels: dict[bytes, dict[Task, TaskData]] = {}

    @cached_property
    def evidence(self) -> dict[str, Any]:
        """All that decides a score besides vectors and seed."""
        return evidence(self.folder, self._probe, self.options.precision)

    def defined(self, clients: NDArray[np.int64]) -> dict[Task, TaskData]:
        """Labels of the tasks that the data define, for clients in this order.

        Raises:
            KitError: none of the tasks is defined.
        """
        key = clients.tobytes()
        if key not in self._labels:
            found, reasons = {}, []
            for task in self.tasks:
                try:
                    found[task] = load_task(task, clients, self.folder)
                except UndefinedTask as error:
                    reasons.append(f"{task.name} {error.reason}")
            if not found:
                raise KitError(
                    f"None of the tasks is defined here: {'; '.join(reasons)}.", "Search on other data or tasks."
                )
            self._labels = {key: found}  # of the last order only: a study has one, a reference may have another
        return self._labels[key]

    def score(
        self,
        vectors: Made,
        clients: NDArray[np.int64],
        vectors_key: str,
        tasks: Iterable[Task],
        seeds: Iterable[int],
    ) -> Scores:
        """Scores per task and seed; what the store has is not computed.

        Args:
            vectors: (n, d), row i belongs to clients[i].
            clients: (n,).
            vectors_key: fingerprint of vectors and clients.
            tasks: among `defined`.
            seeds: indices; 0 is the official seed.
        """
        wanted, scores = list(tasks), {}
        for seed in seeds:
            for task, place in self._places(vectors, clients, vectors_key, wanted, seed).items():
                scores[task, seed] = float(json.loads((place / "score.json").read_text(encoding="utf-8"))["score"])
        return scores

    def measure(
        self, vectors: Made, clients: NDArray[np.int64], vectors_key: str, tasks: Sequence[Task], seeds: int
    ) -> Measured:
        """`score` for the first `seeds` seeds, with what each client adds at the official one."""
        places = self._places(vectors, clients, vectors_key, tasks, 0, influences=True)
        found = {task: np.load(place / "influence.npz") for task, place in places.items()}
        influences = {task: (stored["clients"], stored["each"]) for task, stored in found.items()}
        return Measured(self.score(vectors, clients, vectors_key, tasks, range(seeds)), influences)

    def _places(
        self,
        vectors: Made,
        clients: NDArray[np.int64],
        vectors_key: str,
        tasks: Sequence[Task],
        seed: int,
        *,
        influences: bool = False,
    ) -> dict[Task, Path]:
        """task → artefact of its score at a seed; what is missing is computed."""
        found = {task: self._find(vectors_key, task, seed, influences=influences) for task in tasks}
        missing = [task for task, place in found.items() if place is None]
        if missing:
            labels = self.defined(clients)
            options = replace(self.options, seeds=1, first_seed=seed, keep_logits=influences)
            made = vectors() if callable(vectors) else vectors

            def keep(runs: Sequence[TaskRun]) -> None:
                for run in runs:
                    self._keep(vectors_key, seed, run, (labels[run.task], clients) if influences else None)

            # as soon as a task is done, and again at the end: some probes make all at once
            keep(self._probe.run(made, [labels[task] for task in missing], replace(options, finished=keep)))
        return {
            task: place or self._place(vectors_key, task, seed, influences=influences) for task, place in found.items()
        }

    def client_errors(
        self, vectors: Made, clients: NDArray[np.int64], vectors_key: str, tasks: Sequence[Task]
    ) -> dict[Task, float]:
        """task → standard error of the score over clients, at the official seed (`kit.scoring.statistics.influence`)."""
        found = self.measure(vectors, clients, vectors_key, tasks, 1).influence
        return {task: float(np.linalg.norm(each)) for task, (_, each) in found.items()}

    def _find(self, vectors_key: str, task: Task, seed: int, *, influences: bool) -> Path | None:
        """The finished artefact of a score; one with influences serves also where none are asked for."""
        kinds = (True,) if influences else (False, True)
        places = (self._place(vectors_key, task, seed, influences=kind) for kind in kinds)
        return next((place for place in places if is_whole(place)), None)

    def _inputs(self, vectors_key: str, task: Task, seed: int, *, influences: bool) -> dict[str, Any]:
        extra: dict[str, Any] = {"influence": True} if influences else {}
        extra |= {"reordered": True} if self.options.reorder and seed else {}
        own = own_digest(task, self.folder)
        extra |= {} if own is None else {"made_of": own}
        return {"vectors": vectors_key, "task": task.name, "seed": seed, **self.evidence, **extra}

    def _place(self, vectors_key: str, task: Task, seed: int, *, influences: bool) -> Path:
        return self.store.folder(Plan(STAGE, self._inputs(vectors_key, task, seed, influences=influences)))

    def _keep(
        self, vectors_key: str, seed: int, run: TaskRun, detail: tuple[TaskData, NDArray[np.int64]] | None
    ) -> None:
        """score.json of a run and, with the task's data and the clients, influence.npz (`clients` sorted, `each`)."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        text = json.dumps({"score": run.best.score, "seconds": run.seconds, "when": when})

        def write(folder: Path) -> None:
            (folder / "score.json").write_text(text, encoding="utf-8")
            if detail is not None:
                data, clients = detail
                assert run.logits is not None, "asked for"
                each = run.task.metric.influence(run.logits, data.validation, data.popularity)
                order = np.argsort(clients[data.rows])
                np.savez(folder / "influence.npz", clients=clients[data.rows][order], each=each[order])

        self.store.get(STAGE, self._inputs(vectors_key, run.task, seed, influences=detail is not None), write)
