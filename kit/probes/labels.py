"""Labels of the six tasks as sparse matrices, made once from a target window.

The evaluator filters a data frame once per client and epoch; here a window becomes one (clients, labels) matrix whose cells
equal that slow definition. What a folder cannot define is said in words (`undefined_reason`), never scored as a silent 0.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from kit.challenge import Task
from kit.data.layout import DataFolder, load_ids
from kit.data.scan import reading
from kit.errors import KitError
from kit.store import Store, digest

Ids = NDArray[np.int64]


def target_files(folder: DataFolder) -> list[Path]:
    """All files of a data folder that decide labels and their weights."""
    lists = [path(task) for task in Task if task.is_propensity for path in (folder.targets, folder.popularity)]
    return [folder.window("train"), folder.window("validation"), folder.active_clients, *lists]


def targets_digest(folder: DataFolder) -> str:
    """Digest of the target files: scores are compared only where it is the same."""
    return digest(Store().files_digest(target_files(folder)))


@dataclass(frozen=True)
class TaskData:
    """Everything a probe needs besides the vectors.

    Attributes:
        task: which of the six.
        rows: (m,) positions among the submission's clients that take part, ascending; all of them but for churn.
        train: (m, L) csr float32: labels of the first window.
        validation: (m, L) csr float32: labels of the second window.
        popularity: (L,) popularity of the targets; None for churn and conversion.
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


def labels_from_window(
    window: pl.LazyFrame | pl.DataFrame | Path, task: Task, client_ids: Ids, folder: DataFolder
) -> sp.csr_matrix:
    """Labels of `task` for `client_ids`, in their order.

    Args:
        window: purchases of a target window: client_id and, for a propensity task, sku, category or price.
        task: churn and conversion give (n, 1) with 1 = no purchase; propensity tasks (n, targets) with 1 = bought.
        client_ids: (n,) distinct ids.
        folder: has the target list of a propensity task.

    Returns:
        csr_matrix float32 of zeros and ones.

    Raises:
        KitError: the window or target list is missing or unreadable, or the window lacks the label column.
    """
    column = task.label_column
    targets = None if column is None else load_targets(folder.targets(task))
    frame, place = _window_frame(window)
    wanted = ["client_id"] if column is None else ["client_id", column]
    with reading(Path(place)):
        missing = [name for name in wanted if name not in frame.collect_schema()]
        if missing:
            raise KitError(f"{place} lacks the columns {missing}.", "Run `kit data split` again.")
        spine = pl.LazyFrame({"client_id": client_ids, "row": np.arange(len(client_ids))})
        pairs = frame.select(pl.col(name).cast(pl.Int64, strict=False) for name in wanted).unique()
        pairs = pairs.join(spine, on="client_id", how="inner")
        if column is not None and targets is not None:
            labels = pl.LazyFrame({column: targets, "label": np.arange(len(targets))})
            pairs = pairs.join(labels, on=column, how="inner").select("row", "label")
        found = pairs.collect(engine="streaming")
    rows = found["row"].to_numpy()
    if targets is None:
        stayed_away = np.ones(len(client_ids), dtype=np.float32)
        stayed_away[rows] = 0.0
        return sp.csr_matrix(stayed_away[:, None])
    ones = np.ones(found.height, dtype=np.float32)
    return sp.csr_matrix((ones, (rows, found["label"].to_numpy())), shape=(len(client_ids), len(targets)))


def task_clients(task: Task, client_ids: Ids, folder: DataFolder) -> NDArray[np.bool_]:
    """(n,) mask of the clients that take part in a task: churn is scored on active clients, the others on everybody."""
    if not task.active_only:
        return np.ones(len(client_ids), dtype=np.bool_)
    active = load_ids(folder.active_clients, f"Run `kit data split {folder.root}`: it makes the list.")
    return np.isin(client_ids, active)


def load_task(task: Task, client_ids: Ids, folder: DataFolder) -> TaskData:
    """Rows, labels of both windows and popularities of one task.

    Raises:
        KitError: the task is not defined on this data («not defined here, because …») or a file is unreadable.
    """
    reason = undefined_reason(task, folder)
    if reason is None:
        rows = np.flatnonzero(task_clients(task, client_ids, folder))
        train, validation = (
            labels_from_window(folder.window(name), task, client_ids[rows], folder) for name in ("train", "validation")
        )
        reason = undefined_labels(task, train, validation)
    if reason is not None:
        raise UndefinedTask(task, reason)
    popularity = load_popularity(task, folder, train.shape[1]) if task.is_propensity else None
    return TaskData(task, rows, train, validation, popularity)


class UndefinedTask(KitError):
    """The data at hand cannot define a task; `reason` completes «not defined here, because …»."""

    def __init__(self, task: Task, reason: str) -> None:
        super().__init__(f"{task.value} is not defined here, because {reason}.", "Leave the task out with --task.")
        self.task, self.reason = task, reason

    def __reduce__(self) -> tuple[type[UndefinedTask], tuple[Task, str]]:
        return type(self), (self.task, self.reason)


def undefined_reason(task: Task, folder: DataFolder) -> str | None:
    """Why the files of a folder cannot define a task, or None if they may; labels are judged by `undefined_labels`."""
    folder.require_split()
    if task.active_only and not folder.active_clients.exists():
        return f"{folder.active_clients.name} is missing"
    column = task.label_column
    if column is None:
        return None
    for path in (folder.targets(task), folder.popularity(task)):
        if not path.exists():
            return f"the folder has no {path.name}"
    count = len(load_targets(folder.targets(task)))
    if count < 2:
        return f"its target list holds {count} of at least 2 targets"
    for name in ("train", "validation"):
        if column not in pl.read_parquet_schema(folder.window(name)):
            return f"{folder.window(name).name} has no column {column}"
    return None


def undefined_labels(task: Task, train: sp.csr_matrix, validation: sp.csr_matrix) -> str | None:
    """Why labels (m, L) cannot define a task: too few clients, or a window in which nobody or everybody did it."""
    clients, width = train.shape
    kind = "active clients" if task.active_only else "clients"
    if clients < 2:
        return f"there are {clients} {kind} and an AUROC compares at least 2"
    for name, labels in (("train", train), ("validation", validation)):
        positives = int(labels.nnz)
        if task.is_propensity and positives == 0:
            return f"none of the {clients} clients bought any of its {width} targets in the {name} window"
        if not task.is_propensity and positives in (0, clients):
            who = "none" if positives else "all"
            return f"{who} of the {clients} {kind} bought something in the {name} window"
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


def load_popularity(task: Task, folder: DataFolder, width: int) -> NDArray[np.float64]:
    """Popularity of each of `width` targets, float64.

    Raises:
        KitError: its length is not `width`, or it is not a list of finite numbers ≥ 0 of which the largest is above 0.
    """
    path = folder.popularity(task)
    remedy = f"It must give one number per target of {folder.targets(task).name}."
    values = np.asarray(_load_plain(path, remedy), dtype=np.float64)
    if values.shape != (width,) or not np.isfinite(values).all() or values.min() < 0 or values.max() <= 0:
        raise KitError(f"{path} holds {values.shape} numbers that are no popularities of {width} targets.", remedy)
    return values


def _window_frame(window: pl.LazyFrame | pl.DataFrame | Path) -> tuple[pl.LazyFrame, str]:
    """A lazy frame, and what to call it in messages."""
    if isinstance(window, Path):
        if not window.exists():
            raise KitError(f"{window} is missing.", "Run `kit data split` on the folder.")
        return pl.scan_parquet(window), str(window)
    return window.lazy(), "the target window"


class _Numbers(pickle.Unpickler):
    """Object arrays of the official folder need pickle; this one builds NumPy numbers and arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        allowed = {"dtype", "ndarray", "scalar", "_reconstruct", "_frombuffer"}
        if module.split(".", maxsplit=1)[0] == "numpy" and name in allowed:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a list of numbers")


def _load_plain(path: Path, remedy: str) -> NDArray[Any]:
    """A .npy file, also if it holds Python numbers, without running code that it may carry."""
    try:
        data = path.read_bytes()
        stream = io.BytesIO(data)
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if not dtype.hasobject:
            return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
        return np.asarray(_Numbers(stream).load()).reshape(shape)
    except (ValueError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise KitError(f"{path} cannot be read as a NumPy array ({error}).", remedy) from error
