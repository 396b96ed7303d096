"""What a probe is: a function from vectors and task labels to scored runs, registered by name.

A new probe is one file in this folder that decorates a function with `probe`; it is found by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kit.challenge import PROBE_SEED
from kit.data.layout import DataFolder
from kit.registry import Registry
from kit.store import Store
from kit.tasks import Task
from kit.tasks.labels import TaskData
from kit.tasks.metric import TaskMetrics

Vectors: TypeAlias = NDArray[np.floating[Any]]
"""(n, d) one row per client of the submission, usually a read-only memory map of float16."""
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Source:
    """Where vectors come from, for a probe that reads what lies beside them.

    Attributes:
        submission: its folder.
        data: the data folder that it is scored on.
        store: where its blocks lie.
    """

    submission: Path
    data: DataFolder
    store: Store = field(default_factory=Store)


@dataclass(frozen=True)
class Options:
    """How a probe is run.

    Attributes:
        seeds: runs per task; the first uses the official seed where there is one.
        first_seed: how many seeds to pass over: 1 begins with the one after the official seed.
        precision: of matrix products in neural probes.
        threads: None for one per core.
        device: `auto` takes a GPU if there is one.
        progress: report progress on stderr.
        keep_logits: keep the validation logits of the best epoch of every run, for statistics over clients.
        reorder: every run but that of the official seed reads the rows in another random order. Probes that are blind to
            the order need not heed this.
        explain: rows of the vectors whose margins are to be explained, (c,), may be empty; None explains nothing. Only
            probes that can do it heed this.
        finished: called with the runs of a task as soon as its last one is done, so that a killed scoring loses no more than
            the tasks under way. Probes that make all at once need not heed this.
        source: where the vectors come from; None for those that are no submission's.
    """

    seeds: int = 1
    precision: Precision = "fp32"
    threads: int | None = None
    device: str = "auto"
    progress: bool = False
    keep_logits: bool = False
    first_seed: int = 0
    reorder: bool = False
    explain: NDArray[np.int64] | None = None
    finished: Callable[[list[TaskRun]], None] | None = None
    source: Source | None = None

    def tell(self, runs: Sequence[TaskRun], tasks: Iterable[Task]) -> None:
        """Hand those of `tasks` to `finished` of which all runs are there."""
        for task in dict.fromkeys(tasks):
            mine = [run for run in runs if run.task is task]
            if self.finished is not None and len(mine) == self.seeds:
                self.finished(mine)

    def seed_numbers(self) -> list[int]:
        """The seeds of the runs of a task, in order."""
        return [PROBE_SEED + self.first_seed + index for index in range(self.seeds)]


@dataclass(frozen=True)
class Explanation:
    """What a probe's margins on a task are made of.

    Attributes:
        gain: (d,) how much each column's splits reduced the loss, over all trees of the task; of a network, the mean size of
            its contributions over `sample`.
        rows: (c,) rows of the vectors that are explained: those asked for that take part in the task.
        contributions: (c, L, d + 1) float64: what each column adds to each label's margin, the last entry being what is
            added for everybody; they add up to the margin.
        sample: (s, d) contributions to the most likely labels of a sample of clients; None for trees, which have their gain.
        labels: (c, L) which labels are explained; None for all, in their order.
        margins: (c, L) log-odds, where the contributions add up to them only up to the noise of a sample; None where exactly.
    """

    gain: NDArray[np.float64]
    rows: NDArray[np.int64]
    contributions: NDArray[np.float64]
    sample: NDArray[np.float64] | None = None
    labels: NDArray[np.int64] | None = None
    margins: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class TaskRun:
    """One probe trained on one task from one seed.

    Attributes:
        task: which.
        seed: of the initial weights.
        epochs: metrics on the validation window after each epoch; probes without epochs have one entry.
        seconds: training and evaluation, without what is shared with other tasks.
        logits: (m, L) float32 of the best epoch, rows as in TaskData.rows; None unless asked for, and of reordered rows.
        explanation: None unless asked for and the probe has one.
    """

    task: Task
    seed: int
    epochs: tuple[TaskMetrics, ...]
    seconds: float
    logits: NDArray[np.float32] | None = None
    explanation: Explanation | None = None

    @property
    def best(self) -> TaskMetrics:
        """The epoch that counts: the first with the highest score, as in the challenge."""
        return max(self.epochs, key=lambda epoch: epoch.score)


Run = Callable[[Vectors, Sequence[TaskData], Options], list[TaskRun]]
Explain = Callable[[Vectors, Sequence[TaskData], Options], dict[Task, Explanation]]


def _nothing() -> None:
    """Nothing more needs to be installed."""


@dataclass(frozen=True)
class Explaining:
    """How a probe says what it read.

    Attributes:
        reader: who read, in words: `the trees`.
        weights: what a column's weight is called: `gain`.
        explain: vectors, tasks, options (with `explain`) → an explanation per task, of the run with the official seed. None
            where the probe's own runs have them: then nothing is trained for the explanation alone.
        require: KitError that says how to install what is missing; imports nothing.
    """

    reader: str
    weights: str
    explain: Explain | None = None
    require: Callable[[], None] = _nothing


@dataclass(frozen=True)
class Probe:
    """A registered probe.

    Attributes:
        name: for `kit score --probe`.
        description: one line.
        run: vectors, tasks, options → a TaskRun per task and seed, in that order.
        precisions: what `Options.precision` may be.
        explains: who reads and how its weights are called (`the trees`, `gain`), where the probe's own runs have explanations
            if `Options.explain` asks for them; None where they do not (`explains` may still bring them).
        reads: what of a submission decides the scores beside its vectors, for the fingerprint; None where nothing does.
    """

    name: str
    description: str
    run: Run
    precisions: tuple[Precision, ...]
    explains: tuple[str, str] | None = None
    reads: Callable[[Source], object] | None = None

    @property
    def explaining(self) -> Explaining | None:
        """How it says what it read; None where it cannot."""
        if self.explains is not None:
            return Explaining(*self.explains)
        return dict(EXPLAINING.items()).get(self.name)

    def knows(self, wanted: Precision) -> Precision:
        """The precision wanted, or the probe's first where it does not know that one."""
        return wanted if wanted in self.precisions else self.precisions[0]

    @property
    def usual(self) -> Precision:
        """Where nobody asks for one: fp32, or the probe's first."""
        return self.knows("fp32")


PROBES: Registry[Probe] = Registry("probe", "kit.probes")
EXPLAINING: Registry[Explaining] = Registry("explanation of a probe")


def probe(
    name: str,
    description: str,
    *,
    precisions: tuple[Precision, ...] = ("fp32",),
    explains: tuple[str, str] | None = None,
    reads: Callable[[Source], object] | None = None,
) -> Callable[[Run], Run]:
    """Decorator that registers a probe; see `Probe` for the arguments."""

    def register(run: Run) -> Run:
        PROBES.add(name, Probe(name, description, run, precisions, explains, reads), run.__module__)
        return run

    return register


def explains(
    name: str, reader: str, weights: str, require: Callable[[], None] = _nothing
) -> Callable[[Explain], Explain]:
    """Decorator for a function that explains the probe `name`; see `Explaining`. In a file of its own it decides no score."""

    def register(explain: Explain) -> Explain:
        EXPLAINING.add(name, Explaining(reader, weights, explain, require), explain.__module__)
        return explain

    return register
