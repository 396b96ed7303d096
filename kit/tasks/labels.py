"""Labels of a task as sparse matrices, made once from a target window, and the lists of targets that they go by.

The evaluator filters a data frame once per client and epoch; here a window becomes one (clients, labels) matrix whose cells
equal that slow definition. What a folder cannot define is said in words (`undefined_reason`), never scored as a silent 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from kit.arrays import read_numbers
from kit.data.layout import DataFolder
from kit.data.scan import reading, scan_events
from kit.data.targets import CHALLENGE_LISTS, MIN_LABELS, ListRule
from kit.errors import KitError
from kit.fingerprint import code_of
from kit.store import Store, digest
from kit.tasks.base import TASKS, Ids, Task, TaskWindow
from kit.tasks.window import TargetWindow


def target_files(folder: DataFolder) -> list[Path]:
    """The files of a data folder that decide labels and weights of the challenge's tasks."""
    lists = [path(task) for task in CHALLENGE_LISTS for path in (folder.targets, folder.popularity)]
    return [folder.window("train"), folder.window("validation"), folder.active_clients, *lists]


def targets_digest(folder: DataFolder) -> str:
    """Digest of the target files: scores are compared only where it is the same."""
    return digest(Store().files_digest(target_files(folder)))


def list_rules() -> dict[str, ListRule]:
    """How the target lists of all tasks that have one are made, for `kit data split`."""
    return {
        task.name: ListRule(task.targets, task.column) for _, task in TASKS.loaded().items() if task.column is not None
    }


def own_digest(task: Task, folder: DataFolder) -> str | None:
    """Digest of what decides the labels of a task of one's own beside `target_files`: its code, its list, the tables it reads
    and where the windows lie; None for the challenge's."""
    if task.in_challenge:
        return None
    split = folder.split()
    files = [folder.targets(task.name), folder.popularity(task.name), *map(folder.raw, task.events)]
    return digest(
        [code_of(type(task)).digest, Store().files_digest(files), task.days, split.train_start.isoformat(), split.days]
    )


@dataclass(frozen=True)
class TaskData:
    """Everything a probe needs besides the vectors.

    Attributes:
        task: which.
        rows: (m,) positions among the submission's clients that take part, ascending; all of them but for churn.
        train: (m, L) csr float32: labels of the first window.
        validation: (m, L) csr float32: labels of the second window.
        popularity: (L,) popularity of the targets; None for a task without targets.
    """

    task: Task
    rows: NDArray[np.int64]
    train: sp.csr_matrix
    validation: sp.csr_matrix
    popularity: NDArray[np.float64] | None

    @property
    def width(self) -> int:
        """Number of labels."""
        return int(self.train.shape[1])


def label_matrix(task: Task, window: TaskWindow, client_ids: Ids, targets: Ids | None = None) -> sp.csr_matrix:
    """Labels of `task` for `client_ids`, in their order.

    Args:
        task: one without targets gives (n, 1), others (n, targets).
        window: a target window, or one that a History was rewound by.
        client_ids: (n,) distinct ids.
        targets: (L,) of a task that has them.

    Returns:
        csr_matrix float32 of zeros and ones.

    Raises:
        KitError: the window is missing or unreadable.
    """
    wanted = ["client_id"] if task.column is None else ["client_id", task.column]
    with reading(window.path if isinstance(window, TargetWindow) else Path("the window")):
        spine = pl.LazyFrame({"client_id": client_ids, "row": np.arange(len(client_ids))})
        pairs = task.labels(window).select(pl.col(name).cast(pl.Int64, strict=False) for name in wanted).unique()
        pairs = pairs.join(spine, on="client_id", how="inner")
        if task.column is not None and targets is not None:
            labels = pl.LazyFrame({task.column: targets, "label": np.arange(len(targets))})
            pairs = pairs.join(labels, on=task.column, how="inner").select("row", "label")
        found = pairs.collect(engine="streaming")
    rows = found["row"].to_numpy()
    if targets is None:
        single = np.full(len(client_ids), float(task.absent), dtype=np.float32)
        single[rows] = 1.0 - float(task.absent)
        return sp.csr_matrix(single[:, None])
    ones = np.ones(found.height, dtype=np.float32)
    return sp.csr_matrix((ones, (rows, found["label"].to_numpy())), shape=(len(client_ids), len(targets)))


def load_task(task: Task, client_ids: Ids, folder: DataFolder) -> TaskData:
    """Rows, labels of both windows and popularities of one task.

    Raises:
        UndefinedTask: the data do not define it (`not defined here, because …`).
        KitError: a file is unreadable.
    """
    reason = undefined_reason(task, folder)
    if reason is None:
        targets = None if task.column is None else load_targets(folder.targets(task.name))
        rows = np.flatnonzero(task.clients(client_ids, folder))
        train, validation = (
            label_matrix(task, TargetWindow(folder, name, task.days), client_ids[rows], targets)
            for name in ("train", "validation")
        )
        reason = undefined_labels(task, train, validation)
    if reason is not None:
        raise UndefinedTask(task, reason)
    popularity = None if targets is None else load_popularity(task.name, folder, train.shape[1])
    return TaskData(task, rows, train, validation, popularity)


class UndefinedTask(KitError):
    """The data at hand cannot define a task; `reason` completes `not defined here, because …`."""

    def __init__(self, task: Task, reason: str) -> None:
        super().__init__(f"{task.name} is not defined here, because {reason}.", "Leave the task out with --task.")
        self.task, self.reason = task, reason

    def __reduce__(self) -> tuple[type[UndefinedTask], tuple[Any, str]]:
        return type(self), (self.task, self.reason)


def undefined_reason(task: Task, folder: DataFolder) -> str | None:
    """Why the files of a folder cannot define a task, or None if they may; labels are judged by `undefined_labels`."""
    folder.require_split()
    if task.active_only and not folder.active_clients.exists():
        return f"{folder.active_clients.name} is missing"
    if task.days is not None and task.days > (length := folder.split().days):
        return f"it looks {task.days} days ahead and the windows of {folder.root} have {length}"
    if task.column is not None:
        for path in (folder.targets(task.name), folder.popularity(task.name)):
            if not path.exists():
                return f"the folder has no {path.name}"
        count = len(load_targets(folder.targets(task.name)))
        if count < MIN_LABELS:
            return f"its target list holds {count} of at least {MIN_LABELS} targets"
    return _missing_events(task, folder) or _missing_column(task, folder)


def _missing_events(task: Task, folder: DataFolder) -> str | None:
    """Of a task that reads other tables than the purchases: what the raw files do not cover."""
    start = TargetWindow(folder, "validation").start if task.events else None
    for kind in task.events:
        path = folder.raw(kind)
        if not path.exists():
            return f"the folder has no {path.name}"
        with reading(path):
            last = scan_events(path, kind).select(pl.col("timestamp").max()).collect(engine="streaming").item()
        if start is not None and (last is None or last < start):
            return f"{path.name} holds nothing from {start} on"
    return None


def _missing_column(task: Task, folder: DataFolder) -> str | None:
    """The column that a task asks of a window that does not have it; KitError if that is the clients': no window is without."""
    for name in ("train", "validation"):
        window = TargetWindow(folder, name, task.days)
        try:
            task.labels(window).collect_schema()
        except pl.exceptions.ColumnNotFoundError as error:
            found = re.search(r"\"(\w+)\"", str(error))
            column = found[1] if found else str(error)
            if column == "client_id":
                raise KitError(
                    f"{window.path} lacks the columns ['client_id'].", "Run `kit data split` again."
                ) from error
            return f"{window.path.name} has no column {column}"
    return None


def undefined_labels(task: Task, train: sp.csr_matrix, validation: sp.csr_matrix) -> str | None:
    """Why labels (m, L) cannot define a task: too few clients, or a window in which nobody or everybody did it."""
    clients, width = train.shape
    kind = "active clients" if task.active_only else "clients"
    if clients < 2:
        return f"there are {clients} {kind} and an AUROC compares at least 2"
    for name, labels in (("train", train), ("validation", validation)):
        positives = int(labels.nnz)
        if task.column is not None and positives == 0:
            return f"none of the {clients} clients {task.verb} any of its {width} targets in the {name} window"
        if task.column is None and positives in (0, clients):
            who = "none" if bool(positives) == task.absent else "all"
            return f"{who} of the {clients} {kind} {task.verb} something in the {name} window"
    return None


def load_targets(path: Path) -> Ids:
    """Targets of a propensity task in label order, int64 (L,); integers stored as floats or Python objects are accepted.

    Raises:
        KitError: the file is missing, unreadable, or holds something that is no list of integers.
    """
    remedy = "It must be a one-dimensional .npy of integers: `kit data split` makes one where there is none."
    if not path.exists():
        raise KitError(f"{path} is missing.", remedy)
    values = _load_plain(path, remedy)
    try:
        numbers = np.asarray(values, dtype=np.float64)
        whole = np.asarray(values).astype(np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise KitError(f"{path} holds something that is no number ({error}).", remedy) from error
    if values.ndim != 1 or not np.array_equal(numbers, whole.astype(np.float64)):
        raise KitError(f"{path} holds {values.dtype} of shape {values.shape}.", remedy)
    return np.asarray(whole, dtype=np.int64)


def load_popularity(task: str, folder: DataFolder, width: int) -> NDArray[np.float64]:
    """Popularity of each of the `width` targets of a task, by its name, float64.

    Raises:
        KitError: its length is not `width`, or it is not a list of finite numbers ≥ 0 of which the largest is above 0.
    """
    path = folder.popularity(task)
    remedy = f"It must give one number per target of {folder.targets(task).name}."
    try:
        values = np.asarray(_load_plain(path, remedy), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise KitError(f"{path} holds something that is no number ({error}).", remedy) from error
    if values.shape != (width,) or not np.isfinite(values).all() or values.min() < 0 or values.max() <= 0:
        raise KitError(f"{path} holds {values.shape} numbers that are no popularities of {width} targets.", remedy)
    return values


def _load_plain(path: Path, remedy: str) -> NDArray[Any]:
    """`read_numbers`, with a KitError that ends in `remedy`."""
    try:
        return read_numbers(path)
    except (ValueError, EOFError, OSError) as error:
        raise KitError(f"{path} cannot be read as a NumPy array ({error}).", remedy) from error
