"""Where things lie in a data folder (the challenge layout), and the instants of its split."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.arrays import read_array
from kit.challenge import TARGET_DAYS, EventType
from kit.errors import KitError

CEILING_VERSION = 2
"""Version of what a synthetic shop's ceiling may know. The first knew the tastes of clients whom history hardly shows."""


@dataclass(frozen=True)
class Split:
    """The instants of the challenge's split. Windows are half-open; `end` is the last purchase and still counts.

    input: t < train_start; train target: [train_start, validation_start); validation target: [validation_start, end].
    """

    train_start: datetime
    validation_start: datetime
    end: datetime

    @classmethod
    def from_end(cls, end: datetime, days: int = TARGET_DAYS) -> Split:
        """The organisers' rule: whole days, twice `days` of them, the last one being the day of the last purchase."""
        first = end - timedelta(days=2 * days - 1)
        train_start = first.replace(hour=0, minute=0, second=0, microsecond=0)
        return cls(train_start, train_start + timedelta(days=days), end)

    @property
    def days(self) -> int:
        """Length of each target window in days: 14 in the challenge."""
        return (self.validation_start - self.train_start).days

    @classmethod
    def read(cls, path: Path) -> Split:
        """The instants that `kit data split` left in split.json.

        Raises:
            KitError: the file is not what the split writes, or its length is not that of its windows.
        """
        again = f"Run `kit data split {path.parent.parent}` again."
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            split = cls(*(datetime.fromisoformat(stored[k]) for k in ("train_start", "validation_start", "end")))
        except (ValueError, KeyError, TypeError) as error:
            raise KitError(f"{path}: the split's instants cannot be read ({error!r}).", again) from error
        if stored.get("days", split.days) != split.days or split.days < 1:
            raise KitError(f"{path} says days = {stored.get('days')}, but its windows have {split.days}.", again)
        return split


@dataclass(frozen=True)
class DataFolder:
    """Paths of one data folder. Nothing is opened on construction."""

    root: Path

    def raw(self, kind: EventType) -> Path:
        """Event file at the top of the folder: all events."""
        return self.root / f"{kind.value}.parquet"

    def input(self, kind: EventType) -> Path:
        """Event file that the split wrote: events before train_start."""
        return self.root / "input" / f"{kind.value}.parquet"

    @property
    def products(self) -> Path:
        """product_properties.parquet."""
        return self.root / "product_properties.parquet"

    @property
    def relevant_clients(self) -> Path:
        """The clients that a submission must hold."""
        return self.root / "input" / "relevant_clients.npy"

    @property
    def active_clients(self) -> Path:
        """Clients with a purchase before the cut; churn is scored on them."""
        return self.root / "target" / "active_clients.npy"

    def targets(self, task: str) -> Path:
        """The targets of a task that has a list, in label order, by the task's name."""
        return self.root / "target" / f"{task}.npy"

    def popularity(self, task: str) -> Path:
        """Popularity of each target, aligned with `targets`; the novelty term needs it."""
        return self.root / "target" / f"popularity_{task}.npy"

    def window(self, name: str) -> Path:
        """Purchases of a target window: name is `train` or `validation`."""
        return self.root / "target" / f"{name}_target.parquet"

    @property
    def split_file(self) -> Path:
        """The split's instants, written by `kit data split`; official folders have none."""
        return self.root / "target" / "split.json"

    @property
    def made_file(self) -> Path:
        """Names of the lists and windows that `kit data split` made itself; they are made anew next time, all others kept."""
        return self.root / "target" / "made.json"

    def made(self) -> set[str]:
        """Names (`room/file`) of the lists and windows that our split made; empty where it never ran.

        Raises:
            KitError: the file is no list of names.
        """
        if not self.made_file.exists():
            return set()
        try:
            return {str(name) for name in json.loads(self.made_file.read_text(encoding="utf-8"))}
        except (ValueError, TypeError) as error:
            remedy = "Delete it and the lists that you want made anew."
            raise KitError(f"{self.made_file} is not JSON ({error}).", remedy) from error

    def sources(self) -> dict[str, str]:
        """Digests of the files that the split was made from, by name; empty where it has no record of them."""
        try:
            found = json.loads(self.split_file.read_text(encoding="utf-8"))["sources"]
            return {str(name): str(digest) for name, digest in found.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def written(self) -> dict[str, str]:
        """Digests of the files of input/ and target/ as the split left them, by `room/file`; empty where it has no record."""
        try:
            found = json.loads(self.split_file.read_text(encoding="utf-8"))["written"]
            return {str(name): str(digest) for name, digest in found.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    @property
    def ceiling(self) -> Path:
        """Scores of a near-optimal prediction; synthetic shops only."""
        return self.root / "ceiling.json"

    @property
    def has_ceiling(self) -> bool:
        """Whether there is a ceiling of this version."""
        try:
            return bool(json.loads(self.ceiling.read_text(encoding="utf-8")).get("version") == CEILING_VERSION)
        except (OSError, ValueError, AttributeError):
            return False

    @property
    def is_split(self) -> bool:
        """Whether both target windows are there."""
        return self.window("train").exists() and self.window("validation").exists()

    def require_split(self) -> None:
        """Raise KitError unless the folder has been split."""
        if not self.root.is_dir():
            raise KitError(f"There is no data folder {str(self.root)!r}.", "Make one with `kit data synth DIR`.")
        if not self.is_split:
            raise KitError(f"{str(self.root)!r} has no target windows yet.", f"Run `kit data split {self.root}` first.")

    def clients(self) -> NDArray[np.int64]:
        """The relevant clients, sorted, int64 (n,).

        Raises:
            KitError: the file is missing, not one-dimensional, not integer, or holds an id twice.
        """
        path = self.relevant_clients
        ids = load_ids(path, f"Run `kit data split {self.root}`: it makes the list where the folder has none.")
        unique: NDArray[np.int64] = np.unique(ids)
        if len(unique) != len(ids):
            raise KitError(
                f"{path} holds {len(ids) - len(unique)} duplicate ids.", "Remove them: one vector per client is scored."
            )
        return unique

    def split(self) -> Split:
        """The split's instants: from split.json, else inferred from the target files (official folders)."""
        self.require_split()
        if self.split_file.exists():
            return Split.read(self.split_file)
        times = pl.scan_parquet(self.window("validation")).select(
            first=pl.col("timestamp").cast(pl.Datetime("us")).min(),
            last=pl.col("timestamp").cast(pl.Datetime("us")).max(),
        )
        _, last = times.collect().row(0)
        if last is None:
            raise KitError(
                f"{self.window('validation')} is empty.", "A split without purchases cannot be dated or scored."
            )
        return Split.from_end(last)


def load_ids(path: Path, remedy: str) -> NDArray[np.int64]:
    """One-dimensional int64 ids from a .npy file; KitError with `remedy` if it is missing or of another shape."""
    if not path.exists():
        raise KitError(f"{path} is missing.", remedy)
    try:
        ids = read_array(path)
    except (ValueError, EOFError, OSError) as error:
        raise KitError(f"{path} cannot be read as a NumPy array ({error}).", remedy) from error
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise KitError(f"{path} holds {ids.dtype} of shape {ids.shape}, not a list of integer ids.", remedy)
    if ids.dtype == np.uint64 and len(ids) and ids.max() > np.iinfo(np.int64).max:
        raise KitError(f"{path} holds the id {ids.max()}, which does not fit into int64.", remedy)
    checked: NDArray[np.int64] = ids.astype(np.int64)
    return checked
