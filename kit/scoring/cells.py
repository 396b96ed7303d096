"""The one cache of probe scores: a cell is one run, of some vectors by a probe on a task from a seed, kept in the artefact store.

Vectors are known by their content. So whoever asks (`kit score`, a search, an ablation, a calibration, a bench) finds what any
other has scored of the same vectors (`kit.scoring.scorer`), and what was killed goes on after its last finished run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from kit.arrays import digest_of
from kit.challenge import EventType
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.probes.registry import Explanation, TaskRun, Vectors
from kit.progress import say
from kit.store import Plan, Store, is_whole, remove_tree, write_json
from kit.tasks import Task
from kit.tasks.labels import own_digest
from kit.tasks.metric import TaskMetrics

STAGE: Final = "score"
CONTENT: Final = "score-content"
"""Stage of what vectors that are only planned will hold: fingerprint of a profile → digest of its ids and vectors."""
Made: TypeAlias = Vectors | Callable[[], Vectors]
"""Vectors, or how to make them where a score is missing."""
Slices: TypeAlias = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class ScoredRun:
    """What a cell holds, of a run from the official seed with all that is said of clients and cohorts.

    Attributes:
        run: metrics of every epoch, seconds; its predictions are not kept.
        slices: scores within cohorts; None from other seeds, and where there is no history to make cohorts from.
        clients, each: sorted ids of the clients that were scored, and what each adds to the score, (m,); empty from other seeds.
        area: (m,) what each adds to the AUROC, where the score is more than that; else None.
        known: whether it was found.
        explanation: what the margins are made of, where that was asked for: never found, always made.
    """

    run: TaskRun
    slices: Slices | None
    clients: NDArray[np.int64]
    each: NDArray[np.float32]
    area: NDArray[np.float32] | None
    known: bool = True
    explanation: Explanation | None = None


@dataclass(frozen=True)
class Cells:
    """The cells of one probe on one data folder.

    Attributes:
        store: holds them.
        folder: split data folder.
        evidence: all that decides a score besides vectors, task, seed and the order of rows.
        reorder: whether runs from other seeds than the official one read the rows in orders of their own.
    """

    store: Store
    folder: DataFolder
    evidence: Mapping[str, Any]
    reorder: bool

    def content(self, vectors: Made, clients: NDArray[np.int64], vectors_key: str) -> str:
        """Digest of ids and vectors. Once it is known, vectors need not be made to find their scores."""
        plan = Plan(CONTENT, {"vectors": vectors_key})
        place = self.store.folder(plan)
        if is_whole(place):
            return str(json.loads((place / "content.json").read_text(encoding="utf-8")))
        found = digest_of(clients, vectors() if callable(vectors) else vectors)
        with suppress(OSError, KitError):  # a store that cannot be written costs reading the vectors again
            self.store.make(plan, lambda folder: write_json(folder / "content.json", found))
        return found

    def plan(self, content: str, task: Task, seed: int) -> Plan:
        """Of a cell: all that decides what it holds."""
        own = own_digest(task, self.folder)
        extra: dict[str, Any] = {"reordered": True} if self.reorder and seed else {}
        extra |= {} if own is None else {"made_of": own}
        events = self.store.files_digest(self.folder.input(kind) for kind in EventType) if seed == 0 else {}
        inputs = {"content": content, "task": task.name, "seed": seed, "events": events, **self.evidence, **extra}
        return Plan(STAGE, inputs)

    def has(self, content: str, task: Task, seed: int) -> bool:
        """Whether the store has a cell, sound as it was written."""
        return is_whole(self.store.folder(self.plan(content, task, seed)))

    def find(self, content: str, task: Task, seed: int) -> ScoredRun | None:
        """What the store has; None where it has nothing, or something damaged, which is said."""
        place = self.store.folder(self.plan(content, task, seed))
        if not place.exists():
            return None
        if is_whole(place):
            with suppress(OSError, ValueError, KeyError, TypeError, BadZipFile):
                return read_cell(place, task)
        say(f"  the kept score of {task.name}, run {seed + 1}, is damaged ({place}): it is made again")
        return None

    def keep(self, content: str, seed: int, scored: ScoredRun, *, force: bool) -> None:
        """Write a cell; one that is there stays, unless `force`."""
        plan = self.plan(content, scored.run.task, seed)
        if force:
            remove_tree(self.store.folder(plan))
        self.store.make(plan, lambda folder: write_cell(folder, scored))


def plain(run: TaskRun) -> ScoredRun:
    """A run of which nothing is said but its metrics."""
    none = np.empty(0)
    return ScoredRun(replace(run, logits=None), None, none.astype(np.int64), none.astype(np.float32), None, known=False)


def write_cell(folder: Path, scored: ScoredRun) -> None:
    """cell.json, and arrays.npz where there is something of each client."""
    run = scored.run
    told = {
        "seed": run.seed,
        "epochs": [asdict(epoch) for epoch in run.epochs],
        "seconds": run.seconds,
        "slices": scored.slices,
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    (folder / "cell.json").write_text(json.dumps(told, default=float), encoding="utf-8")
    if len(scored.clients):
        arrays: dict[str, Any] = {"clients": scored.clients, "each": scored.each}
        np.savez(folder / "arrays.npz", **arrays | ({} if scored.area is None else {"area": scored.area}))


def read_cell(folder: Path, task: Task) -> ScoredRun:
    """The inverse of `write_cell`; KeyError, ValueError, OSError or BadZipFile where it is damaged."""
    told = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
    epochs = tuple(TaskMetrics(**epoch) for epoch in told["epochs"])
    run = TaskRun(task, int(told["seed"]), epochs, float(told["seconds"]))
    if not (folder / "arrays.npz").exists():
        return replace(plain(run), known=True)
    with np.load(folder / "arrays.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    return ScoredRun(run, told["slices"], arrays["clients"], arrays["each"], arrays.get("area"))
