"""The second half of `kit data check`: relevant clients, and a split that may be stale or at odds with itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.arrays import read_numbers
from kit.challenge import NOVELTY_TOP, TARGET_LIST, EventType
from kit.data.contract import inspect, missing, require, stale
from kit.data.layout import DataFolder, Split, load_ids
from kit.data.scan import columns_of, ids_of, scan_events, scan_table
from kit.data.table import UNREADABLE
from kit.data.targets import CHALLENGE_LISTS
from kit.errors import Finding, KitError, Severity
from kit.store import Store

WINDOW_COLUMNS = ("client_id", "timestamp", "sku", "category", "price")
"""What labels are made of."""
FEW_EVENTS = 0.25
"""A local split of the official data leaves 14 % of the relevant clients without an event; far more is worth a warning."""


def check_clients(folder: DataFolder, sound: list[EventType]) -> Iterator[Finding]:
    """The list of relevant clients: form, duplicates, and the share without any event (of the input, where split)."""
    path = folder.relevant_clients
    if not path.exists():
        remedy = (
            f"`kit data split {folder.root}` makes it from all clients of the input, or put the official file there."
        )
        severity = Severity.ERROR if folder.is_split else Severity.INFO
        yield Finding(severity, "There is no list of relevant clients yet.", f"input/{path.name}", remedy)
        return
    try:
        ids = load_ids(path, "It must be a one-dimensional int64 array.")
    except KitError as error:
        yield Finding(Severity.ERROR, error.what, f"input/{path.name}", error.remedy)
        return
    values, counts = np.unique(ids, return_counts=True)
    if len(values) < len(ids):
        what = f"{len(ids) - len(values)} ids occur twice, such as {values[counts > 1][:3].tolist()}."
        yield Finding(Severity.ERROR, what, f"input/{path.name}", "Keep each once: one vector per client is scored.")
    if not len(ids):
        yield Finding(Severity.ERROR, "The list is empty.", f"input/{path.name}", "Delete it and split again.")
        return
    files = [p for kind in sound for p in [folder.input(kind) if folder.input(kind).exists() else folder.raw(kind)]]
    if not files:
        return
    wanted = pl.LazyFrame({"client_id": values})
    clients = [pl.scan_parquet(file).select(pl.col("client_id").cast(pl.Int64)) for file in files]
    seen = pl.concat(clients).join(wanted, on="client_id", how="semi").select(pl.col("client_id").n_unique())
    silent = len(values) - int(seen.collect(engine="streaming").item())
    if silent:
        share = silent / len(values)
        severity = Severity.WARNING if share > FEW_EVENTS else Severity.INFO
        what = f"{silent} of {len(values)} relevant clients ({share:.1%}) have no event before the cut."
        remedy = "They get a row all the same, marked as without history. Official data split locally: 14 %."
        yield Finding(severity, what, f"input/{path.name}", remedy)


def check_split(folder: DataFolder, sound: list[EventType], store: Store) -> Iterator[Finding]:
    """Is there a split, does it belong to these raw files, and do its lists fit together?

    Whether it belongs to them is judged by the digests that it records, and by the number of rows where it has none.
    """
    if not folder.is_split:
        yield Finding(Severity.INFO, "The folder is not split yet.", "target/", f"Run `kit data split {folder.root}`.")
        return
    again = f"Run `kit data split {folder.root}` again."
    try:
        split = folder.split()
    except (KitError, *UNREADABLE) as error:
        what = error.what if isinstance(error, KitError) else f"The split's instants cannot be read ({error})."
        yield Finding(Severity.ERROR, what, "target/split.json", again)
        return
    if not folder.split_file.exists():
        remedy = f"Made by other means, or interrupted: {again[0].lower()}{again[1:]}"
        yield Finding(Severity.WARNING, "The split has no split.json.", "target/split.json", remedy)
    yield from stale(folder, store, "input")
    recorded = folder.sources()
    for kind in sound:
        yield from _input(folder, kind, split, folder.raw(kind).name not in recorded, store, again)
    yield from stale(folder, store, "target")
    yield from _windows(folder, split, EventType.BUY in sound and not recorded, store, again)
    others = sorted(
        path.stem.removeprefix("popularity_") for path in folder.active_clients.parent.glob("popularity_*.npy")
    )
    for task in dict.fromkeys([*map(str, CHALLENGE_LISTS), *others]):  # tasks of one's own have lists too
        yield from _lists(folder, task, again)
    yield from _active(folder)
    yield from altered(folder, store)


def altered(folder: DataFolder, store: Store) -> Iterator[Finding]:
    """Files of input/ and target/ that are others than when the split ended, though their values may be valid: a list of one's
    own, or one that somebody changed by mistake. Nothing where the split has no record of them."""
    remedy = f"Fine if you put it there; `kit data split {folder.root}` makes what it made before anew."
    for name, digest in folder.written().items():
        path = folder.root / name
        if not path.exists():
            yield Finding(Severity.WARNING, "is gone since the folder was split.", name, remedy)
        elif not path.is_file() or store.file_digest(path) != digest:
            yield Finding(Severity.WARNING, "is another than when the folder was split.", name, remedy)


def require_targets(folder: DataFolder, store: Store) -> None:
    """KitError where the target windows were made from other files than the folder holds now, or hold what is no purchase of
    theirs, in the words of `kit data check`.

    Lists that cannot be read are refused by whoever makes labels of them.
    """
    folder.require_split()
    require(stale(folder, store, "target"), folder.root)
    again = f"Run `kit data split {folder.root}` again."
    require(_window_tables(folder, store, again), folder.root)
    if folder.split_file.exists():  # else the windows lie where their purchases do
        require(_windows(folder, folder.split(), False, store, again), folder.root)


def _input(
    folder: DataFolder, kind: EventType, split: Split, count: bool, store: Store, again: str
) -> Iterator[Finding]:
    """One file of the input: there, sound, nothing after the cut, and, where `count`, as many rows as lie before it."""
    path, where = folder.input(kind), f"input/{kind.value}.parquet"
    if not path.exists():
        yield missing(folder, path)
        return
    table = inspect(path, columns_of(kind), store)
    yield from (finding for finding in table.findings if finding.severity is Severity.ERROR)
    if table.last is not None and table.last >= split.train_start:
        what = f"holds events up to {table.last}, after the cut {split.train_start}: the targets leak."
        yield Finding(Severity.ERROR, what, where, again)
    if not count or not table.whole:
        return
    times = scan_events(folder.raw(kind), kind, parse_codes=False).select("timestamp")
    before = times.filter(pl.col("timestamp") < split.train_start).select(pl.len()).collect(engine="streaming").item()
    if table.rows != before:
        what = f"has {table.rows} rows, but {before} raw events lie before {split.train_start}: the split is stale."
        yield Finding(Severity.ERROR, what, where, again)


def _window_tables(
    folder: DataFolder, store: Store, again: str, names: Sequence[str] = ("train", "validation")
) -> Iterator[Finding]:
    """What breaks the contract in target windows, whatever the split's instants are."""
    for path in map(folder.window, names):
        remake = f"target/{path.name}" in folder.made() or not path.exists()
        for finding in inspect(path, WINDOW_COLUMNS, store).findings:
            if finding.severity is Severity.ERROR:
                yield replace(finding, remedy=again) if remake else finding


def _windows(folder: DataFolder, split: Split, count: bool, store: Store, again: str) -> Iterator[Finding]:
    """What breaks the contract, purchases outside of their window, and, where `count`, windows of ours that hold more or fewer
    than the raw file."""
    time = pl.col("timestamp")
    ours = folder.made()
    spans = {"train": (split.train_start, split.validation_start), "validation": (split.validation_start, None)}
    for name, (start, stop) in spans.items():
        path = folder.window(name)
        errors = list(_window_tables(folder, store, again, (name,)))
        yield from errors
        if errors:
            continue
        inside = (time >= start) & ((time < stop) if stop else (time <= split.end))
        try:
            stamps = scan_table(path, ("timestamp",))[0].select(time.cast(pl.Datetime("us")))
            rows, held = stamps.select(pl.len(), inside.sum().alias("held")).collect().row(0)
        except UNREADABLE as error:
            first = " ".join(str(error).strip().splitlines()[:1])
            yield Finding(Severity.ERROR, f"cannot be read ({first}).", f"target/{path.name}", again)
            continue
        if rows != held:
            what = f"{rows - held} of {rows} purchases lie outside the window from {start}."
            yield Finding(Severity.ERROR, what, f"target/{path.name}", again)
        if not count or f"target/{path.name}" not in ours:
            continue  # official windows lie after all raw events: nothing to compare with
        raw = scan_events(folder.raw(EventType.BUY), EventType.BUY).filter(inside)
        expected = raw.select(pl.len()).collect(engine="streaming").item()
        if expected != rows:
            what = f"has {rows} purchases, but the raw file has {expected} in this window: the split is stale."
            yield Finding(Severity.ERROR, what, f"target/{path.name}", again)


def _lists(folder: DataFolder, task: str, again: str) -> Iterator[Finding]:
    path, where = folder.targets(task), f"target/{task}.npy"
    if not path.exists():
        remedy = "Fine if the shop cannot define it; `kit data split` says why."
        yield Finding(Severity.INFO, f"has no targets: {task} is not defined here.", where, remedy)
        return
    try:
        targets = _whole(read_numbers(path))
        popularity = read_numbers(folder.popularity(task))
    except (OSError, ValueError, TypeError, EOFError) as error:
        yield Finding(Severity.ERROR, f"targets or popularity cannot be read ({error}).", where, again)
        return
    if popularity.shape != targets.shape:
        what = f"has {len(targets)} targets, but popularity has the shape {popularity.shape}."
        yield Finding(Severity.ERROR, what, where, again)
    elif not _are_popularities(popularity):
        what = "has popularities that are not numbers from 0 on, or nothing above 0: novelty would divide by 0."
        yield Finding(Severity.ERROR, what, f"target/{folder.popularity(task).name}", again)
    if len(np.unique(targets)) < len(targets):
        yield Finding(Severity.ERROR, "lists a target twice.", where, again)
    if len(targets) != TARGET_LIST:
        remedy = "Scores are comparable within this folder only."
        yield Finding(Severity.INFO, f"has {len(targets)} targets, not {TARGET_LIST}.", where, remedy)


def _whole(values: NDArray[Any]) -> NDArray[np.int64]:
    """Targets as ids, whatever numbers they are stored as; ValueError or TypeError if they are something else."""
    whole = values.astype(np.int64)
    if values.ndim != 1 or not np.array_equal(values, whole):
        raise ValueError(f"{values.dtype} of shape {values.shape} are no list of ids")
    return np.asarray(whole)


def _are_popularities(values: NDArray[Any]) -> bool:
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return bool(np.isfinite(numbers).all() and (numbers >= 0).all() and np.sort(numbers)[-NOVELTY_TOP:].sum() > 0)


def _active(folder: DataFolder) -> Iterator[Finding]:
    path, where = folder.active_clients, "target/active_clients.npy"
    if not path.exists():
        what = "There is no list of active clients: churn is not defined here."
        yield Finding(Severity.WARNING, what, where, f"`kit data split {folder.root}` makes it.")
        return
    try:
        active = load_ids(path, f"Run `kit data split {folder.root}`.")
    except KitError as error:
        yield Finding(Severity.ERROR, error.what, where, error.remedy)
        return
    if not folder.input(EventType.BUY).exists():
        return
    ids = pl.read_parquet(folder.input(EventType.BUY), columns=["client_id"])["client_id"]
    buyers = ids_of(ids.drop_nulls().unique())
    late = int((~np.isin(active, buyers)).sum())
    if late:
        what = f"{late} of {len(active)} active clients have no purchase in the input."
        remedy = "So it is in the official file; churn then reads too high. `kit data split` recomputes the list."
        yield Finding(Severity.WARNING, what, where, remedy)
    if not len(active):
        remedy = "Churn is not defined: no relevant client bought before the cut."
        yield Finding(Severity.WARNING, "There are no active clients.", where, remedy)
