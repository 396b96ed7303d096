"""Probe scores of vectors in memory, a task and a seed at a time, each kept in the artefact store.

A trial that was killed, or that came out equal to an earlier one, finds the scores it already has.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from kit.challenge import Task
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.probes.labels import TaskData, UndefinedTask, load_task
from kit.probes.registry import Options, Vectors, load_probes
from kit.probes.score import evidence
from kit.probes.statistics import influence
from kit.store import Artefact, Plan, Store, is_whole

STAGE: Final = "tune-score"
Scores = dict[tuple[Task, int], float]
"""(task, index of the seed) → score."""


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


@dataclass
class Scorer:
    """One probe on one data folder.

    Attributes:
        folder: split data folder.
        probe: name of the probe.
        precision: wanted; a probe that has only one uses that.
        tasks: that count, in order.
        store: keeps the scores.
        threads: None for one per core.
    """

    folder: DataFolder
    probe: str
    precision: Literal["fp32", "bf16"]
    tasks: Sequence[Task]
    store: Store
    threads: int | None = None

    def __post_init__(self) -> None:
        self.folder.require_split()
        self._probe = load_probes()[self.probe]
        self._precision = self.precision if self.precision in self._probe.precisions else self._probe.precisions[0]
        self._labels: dict[bytes, dict[Task, TaskData]] = {}

    @cached_property
    def evidence(self) -> dict[str, Any]:
        """All that decides a score besides vectors and seed."""
        return evidence(self.folder, self._probe, self._precision)

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
                    reasons.append(f"{task.value} {error.reason}")
            if not found:
                raise KitError(
                    f"None of the tasks is defined here: {'; '.join(reasons)}.", "Search on other data or tasks."
                )
            self._labels = {key: found}  # of the last order only: a study has one, a reference may have another
        return self._labels[key]

    def score(
        self,
        vectors: Vectors,
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
        labels, wanted, scores = self.defined(clients), list(tasks), {}
        for seed in seeds:
            missing = [task for task in wanted if not is_whole(self._place(vectors_key, task, seed))]
            options = Options(1, self._precision, self.threads, first_seed=seed)
            runs = self._probe.run(vectors, [labels[task] for task in missing], options) if missing else []
            for run in runs:
                self._keep(vectors_key, run.task, seed, {"score": run.best.score, "seconds": run.seconds})
            for task in wanted:
                file = self._place(vectors_key, task, seed) / "score.json"
                scores[task, seed] = float(json.loads(file.read_text(encoding="utf-8"))["score"])
        return scores

    def client_errors(self, vectors: Vectors, clients: NDArray[np.int64]) -> dict[Task, float]:
        """task → standard error of the score over clients, at the official seed (`kit.probes.statistics.influence`)."""
        labels = self.defined(clients)
        options = Options(1, self._precision, self.threads, keep_logits=True)
        errors = {}
        for run in self._probe.run(vectors, list(labels.values()), options):
            assert run.logits is not None, "asked for"
            data = labels[run.task]
            errors[run.task] = float(np.linalg.norm(influence(run.task, run.logits, data.validation, data.popularity)))
        return errors

    def _inputs(self, vectors_key: str, task: Task, seed: int) -> dict[str, Any]:
        return {"vectors": vectors_key, "task": task.value, "seed": seed, **self.evidence}

    def _place(self, vectors_key: str, task: Task, seed: int) -> Path:
        return self.store.folder(Plan(STAGE, self._inputs(vectors_key, task, seed)))

    def _keep(self, vectors_key: str, task: Task, seed: int, entry: dict[str, float]) -> None:
        text = json.dumps(entry | {"when": time.strftime("%Y-%m-%dT%H:%M:%S%z")})

        def write(folder: Path) -> None:
            (folder / "score.json").write_text(text, encoding="utf-8")

        self.store.get(STAGE, self._inputs(vectors_key, task, seed), write)
