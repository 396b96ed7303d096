"""A task: what is asked about a window, of whom, with which targets, and how the answers are scored.

A task is one small file: a subclass of `Task` and a line that registers an instance. It lives in this folder or in a package of
one's own; every probe scores it (`kit score SUBMISSION --data DIR --task NAME`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from typing import ClassVar, Literal, Protocol, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import EventType, TaskName
from kit.data.layout import DataFolder, load_ids
from kit.data.targets import Bought, TargetList
from kit.registry import Registry
from kit.tasks.metric import AUROC, Metric

Ids = NDArray[np.int64]
Shown = Literal["whether", "which", "how much"]


class TaskWindow(Protocol):
    """What a task may look at: the days of a target window, or of a window that a History was rewound by."""

    @property
    def start(self) -> datetime:
        """Its first instant."""

    @property
    def stop(self) -> datetime:
        """The first instant after it."""

    def purchases(self) -> pl.LazyFrame:
        """client_id, timestamp, sku, category, price of the purchases in it."""

    def events(self, kind: EventType) -> pl.LazyFrame:
        """client_id, timestamp and value of the events of one type in it; sku events also have category and price."""


class Task(ABC):
    """One question about what clients do in a window.

    Attributes:
        name: for `--task`, and of the task's files under target/.
        question: one line.
        column: the column of `labels` that names the target, one label for each in the list; None: one label per client.
        days: looks at the first so many days of a window; None for all of it.
        active_only: asked of clients with an earlier purchase only.
        absent: the single label is 1 for clients that `labels` does not hold.
        events: tables beside the purchases that `labels` reads, so that scores follow them.
        metric: how predictions are scored.
        shown: what a map of clients shows of it: whether they did it, which of the targets, or how much.
        words: what a client did with label 0 and 1 (or with none and some of the targets).
        label: what the single label stands for.
        verb: what clients do, for messages such as "none of the 700 clients bought something".
    """

    name: ClassVar[str]
    question: ClassVar[str]
    column: ClassVar[str | None] = None
    days: ClassVar[int | None] = None
    active_only: ClassVar[bool] = False
    absent: ClassVar[bool] = False
    events: ClassVar[tuple[EventType, ...]] = ()
    metric: ClassVar[Metric] = AUROC
    shown: ClassVar[Shown] = "whether"
    words: ClassVar[tuple[str, str]] = ("did not", "did")
    label: ClassVar[str] = "yes"
    verb: ClassVar[str] = "bought"

    @abstractmethod
    def labels(self, window: TaskWindow) -> pl.LazyFrame:
        """Who did it: client_id and, for a task with targets, `column`. Rows may repeat; rows of other clients and targets are
        left out later."""

    def targets(self, bought: Bought) -> TargetList:
        """The task's targets, most wanted first, from the train-target window: called by `kit data split` where the folder
        brings no list. Tasks with a `column` have it."""
        raise NotImplementedError(f"{self.name} has a column but no targets")

    def clients(self, client_ids: Ids, folder: DataFolder) -> NDArray[np.bool_]:
        """(n,) mask of the clients that are asked.

        Raises:
            KitError: the list of active clients is needed and missing or unreadable.
        """
        if not self.active_only:
            return np.ones(len(client_ids), dtype=np.bool_)
        active = load_ids(folder.active_clients, f"Run `kit data split {folder.root}`: it makes the list.")
        return np.isin(client_ids, active)

    @property
    def in_challenge(self) -> bool:
        """Whether it is one of the six that the sum and the board are about."""
        return self.name in frozenset(TaskName)

    @property
    def short(self) -> str:
        """The name in tables: "price" for propensity_price."""
        return self.name.removeprefix("propensity_")

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return find_task, (self.name,)  # one object per task, in every process


T = TypeVar("T", bound=Task)
TASKS: Registry[Task] = Registry("task", "kit.tasks")


def register(task: T) -> T:
    """Make a task known under its name; see `Task`."""
    TASKS.add(task.name, task)
    return task


def find_task(name: str) -> Task:
    """The task of this name.

    Raises:
        KitError: there is none.
    """
    return TASKS.loaded()[name]
