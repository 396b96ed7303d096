"""The challenge's split: row for row what the organisers' split_data.py writes, streamed instead of held in memory.

input/ gets the five event files restricted to t < train_start, target/ the purchases of the two windows with category,
price and name. Duplicates and row order are those of the raw files. On top of the official split: clients, target lists
and popularities are made where the folder has none, and active clients are recomputed from the input (the official file
covers all events and so holds buyers whose first purchase lies in the target windows).

Compared once with the organisers' own code at commit e91c1a6 under pandas 2.2.3: see tests/data/test_split.py.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from kit.challenge import PRODUCT_COLUMNS, TARGET_DAYS, EventType
from kit.data.check import check_raw, keeps_windows
from kit.data.contract import require
from kit.data.layout import DataFolder, Split, load_ids
from kit.data.scan import EMBEDDING, ids_of, reading, scan_events, scan_products, scan_table
from kit.data.targets import CHALLENGE_LISTS, Bought, ListRule, popularity_of
from kit.errors import KitError, Severity
from kit.progress import say
from kit.store import Store

ROW_GROUP = 262_144
"""Rows per parquet row group: small enough to stream, large enough to compress."""
OFFICIAL_ACTIVE = "active_clients_official.npy"
"""Where a folder's own active_clients.npy is kept once ours has taken its place."""


def split_folder(
    root: Path,
    *,
    official_active_clients: bool = False,
    days: int | None = None,
    lists: Mapping[str, ListRule] = CHALLENGE_LISTS,
    store: Store | None = None,
) -> Split:
    """Split the folder at `root`: writes input/*.parquet, target/*.parquet, client and target lists, split.json last.

    Everything is written to a staging folder and then moved into place file by file, so a failed or killed run leaves
    the earlier split as it was. An unchanged folder gives identical bytes again. What an earlier run of ours made is
    made anew; lists and target windows that came with the folder are kept (official archives hold windows that lie
    after all raw events: there the input is everything).

    Args:
        root: a folder with the five raw event files and product_properties.parquet.
        official_active_clients: keep the folder's own active_clients.npy instead of recomputing it.
        days: length of each of the two target windows; None for the challenge's 14.
        lists: the target lists to make where the folder brings none, by the task's name.
        store: remembers digests and what was found in files; the default store if None.

    Raises:
        KitError: the raw files hold what `kit data check` calls an error, in its words; the folder came with windows of another
            length; another split is running; or the folder has no official active_clients.npy to keep.
    """
    folder = DataFolder(root)
    if not root.is_dir():
        raise KitError(f"There is no data folder {str(root)!r}.", "Make one with `kit data synth DIR`.")
    store = store or Store()
    sources = store.files_digest([*map(folder.raw, EventType), folder.products])
    ours = folder.made()
    keep = keeps_windows(folder)
    length = require_length(folder, days, keep=keep)
    findings = list(check_raw(folder, store, length))
    require(findings, root)
    for finding in findings:
        if finding.severity is Severity.WARNING or EMBEDDING in finding.where:
            say(f"  {finding.where}: {finding.what} {finding.remedy}")
    split = folder.split() if keep else Split.from_end(last_purchase(folder), length)
    tell_length(folder, split)
    with staging(root) as stage:
        write_input(folder, stage, split)
        train, made = keep_windows(folder, split) if keep else write_windows(folder, stage, split)
        made |= write_lists(folder, stage, train, ours, lists)
        made |= write_relevant(folder, stage, ours)
        made |= write_active(folder, stage, ours, official_active_clients)
        publish(folder, stage, split, made, ours, sources, store)
    return split


def require_length(folder: DataFolder, days: int | None, *, keep: bool) -> int:
    """The windows' length that is asked for, or the challenge's; KitError for one that cannot be."""
    if days is not None and days < 1:
        raise KitError(f"--days {days} is no length of a window.", f"Give 1 or more; the challenge's is {TARGET_DAYS}.")
    if keep and days is not None and days != (theirs := folder.split().days):
        raise KitError(
            f"{folder.root} came with target windows of {theirs} days: --days {days} would need others.",
            "Leave --days out, or delete both target files to have the raw events split anew.",
        )
    return TARGET_DAYS if days is None else days


def tell_length(folder: DataFolder, split: Split) -> None:
    """A word where an earlier split of the folder had windows of another length."""
    try:
        before = Split.read(folder.split_file).days if folder.split_file.exists() else split.days
    except KitError:  # unreadable: written anew
        return
    if before != split.days:
        say(f"  the target windows had {before} days and now have {split.days}")


def last_purchase(folder: DataFolder) -> datetime:
    """Time of the last raw purchase, which dates the split."""
    path = folder.raw(EventType.BUY)
    with reading(path):
        end = scan_events(path, EventType.BUY).select(pl.col("timestamp").max()).collect().item()
    if not isinstance(end, datetime):
        raise KitError(f"{path} holds no purchases.", "The split is dated by the last purchase: it needs at least one.")
    return end


def write_input(folder: DataFolder, stage: Path, split: Split) -> None:
    """The five event files restricted to t < train_start, timestamps as datetimes, streamed."""
    for kind in EventType:
        before = scan_events(folder.raw(kind), kind, parse_codes=False).filter(pl.col("timestamp") < split.train_start)
        with reading(folder.raw(kind)):
            sink(before, stage / "input" / f"{kind.value}.parquet")


def keep_windows(folder: DataFolder, split: Split) -> tuple[pl.DataFrame, set[str]]:
    """The train-target window of a folder that came with both windows, as the official archive does."""
    path = folder.window("train")
    with reading(path):
        train = scan_table(path, ("timestamp", *PRODUCT_COLUMNS))[0].collect()
    times = train["timestamp"].cast(pl.Datetime("us"))
    if not times.is_between(split.train_start, split.validation_start, closed="left").all() or train.is_empty():
        raise KitError(
            f"{path} spans {times.min()!s} … {times.max()!s}, not [{split.train_start}, {split.validation_start}), "
            f"as the last purchase of {folder.window('validation')} says.",
            "Delete both target files to have the raw events split anew.",
        )
    say(f"  keeping the target windows that came with {folder.root}")
    return train, set()


def write_windows(folder: DataFolder, stage: Path, split: Split) -> tuple[pl.DataFrame, set[str]]:
    """Both target files with product properties joined; returns the train-target window and the names of both files."""
    time = pl.col("timestamp")
    raw = folder.raw(EventType.BUY)
    inside = (time >= split.train_start) & (time <= split.end)
    with reading(raw):
        bought = scan_events(raw, EventType.BUY).filter(inside).collect(engine="streaming")
    joined = join_properties(bought, folder)
    train = joined.filter(time < split.validation_start)
    made: set[str] = set()
    for name, frame in (("train", train), ("validation", joined.filter(time >= split.validation_start))):
        file = folder.window(name).name
        sink(frame.lazy(), stage / "target" / file)
        made.add(f"target/{file}")
    if train.is_empty():
        raise KitError(
            f"{raw} holds no purchases in [{split.train_start}, {split.validation_start}).",
            "Probes learn on this window: the log has a hole there, or its last purchase is misdated.",
        )
    return train, made


def join_properties(bought: pl.DataFrame, folder: DataFolder) -> pl.DataFrame:
    """Purchases with category, price and name in the order they came; `check_raw` has seen to it that every sku has them."""
    with reading(folder.products):
        properties = scan_products(folder.products, parse_codes=False)
        wanted = properties.join(bought.lazy().select("sku").unique(), on="sku", how="semi").collect(engine="streaming")
    joined = bought.join(wanted, on="sku", how="left", maintain_order="left")
    return joined.select("client_id", "timestamp", *PRODUCT_COLUMNS)


def write_lists(
    folder: DataFolder, stage: Path, train: pl.DataFrame, ours: set[str], lists: Mapping[str, ListRule]
) -> set[str]:
    """Target lists and popularities that the folder does not bring; returns the names of what was made."""
    before = pl.scan_parquet(stage / "input" / f"{EventType.BUY.value}.parquet").select(pl.col("sku").unique())
    categories = scan_products(folder.products).select(pl.col("category").n_unique())
    with reading(folder.products):
        bought = Bought(train, before.collect()["sku"], categories.collect(engine="streaming").item())
    written: set[str] = set()
    for task, rule in lists.items():
        targets, popularity = folder.targets(task), folder.popularity(task)
        if brought(targets, ours):
            if not brought(popularity, ours):
                written.add(save(_counted(targets, rule, train), stage, popularity.name))
            continue
        made = rule.make(bought)
        if len(made.ids):
            written |= {save(made.ids, stage, targets.name), save(made.popularity, stage, popularity.name)}
        if made.note:
            say(f"  {task}: {made.note}")
    return written


def _counted(targets: Path, rule: ListRule, train: pl.DataFrame) -> NDArray[np.int64]:
    """Purchases of the targets that a folder brought without their popularity."""
    ids = load_ids(targets, "It must list the targets of the task as integer ids.")
    if rule.column not in train.columns:
        raise KitError(
            f"{targets} came without popularity_{targets.name}, and {rule.column} is no column of purchases to count.",
            "Put the popularities beside it, or delete it to have both made.",
        )
    return popularity_of(train, rule.column, ids)


def write_relevant(folder: DataFolder, stage: Path, ours: set[str]) -> set[str]:
    """input/relevant_clients.npy = all clients with an event before the cut, unless the folder brings the file."""
    if brought(folder.relevant_clients, ours):
        return set()
    files = [stage / "input" / f"{kind.value}.parquet" for kind in EventType]
    clients = pl.concat([pl.scan_parquet(path).select("client_id") for path in files]).unique()
    ids = ids_of(clients.collect(engine="streaming")["client_id"].sort())
    return {save(ids, stage, folder.relevant_clients.name, room="input")}


def write_active(folder: DataFolder, stage: Path, ours: set[str], official: bool) -> set[str]:
    """target/active_clients.npy: relevant clients with a purchase in the input, or the folder's own file on request."""
    path, kept = folder.active_clients, folder.active_clients.with_name(OFFICIAL_ACTIVE)
    source = path if brought(path, ours) else kept
    if official:
        if not source.exists():
            raise KitError(f"{path} did not come with this folder.", "Leave out --official-active-clients.")
        shutil.copyfile(source, stage / "target" / path.name)
        return set()
    if brought(path, ours):
        shutil.copyfile(path, stage / "target" / kept.name)
    made_list = stage / "input" / folder.relevant_clients.name
    relevant = np.load(made_list) if made_list.exists() else folder.clients()
    buyers = pl.read_parquet(stage / "input" / f"{EventType.BUY.value}.parquet", columns=["client_id"])["client_id"]
    return {save(np.intersect1d(relevant, ids_of(buyers)), stage, path.name)}


def brought(path: Path, ours: set[str]) -> bool:
    """Whether a file of input/ or target/ came with the folder, rather than from an earlier run of the split."""
    return path.exists() and f"{path.parent.name}/{path.name}" not in ours


def sink(frame: pl.LazyFrame, path: Path) -> None:
    """Stream a frame to parquet in moderate row groups, rows in order."""
    frame.sink_parquet(path, row_group_size=ROW_GROUP, maintain_order=True, engine="streaming")


def save(ids: NDArray[np.int64], stage: Path, name: str, room: str = "target") -> str:
    """Save ids as .npy in the staging folder; returns `room/name`."""
    np.save(stage / room / name, ids.astype(np.int64))
    return f"{room}/{name}"


@contextmanager
def staging(root: Path) -> Iterator[Path]:
    """A staging folder beside input/ and target/, alone in the folder: a second split at the same time is refused."""
    lock = FileLock(root / ".split.lock")
    try:
        if not os.access(root, os.W_OK):
            raise KitError(
                f"{root} cannot be written: a split lies in its folders input/ and target/.",
                "Mend its permissions, or copy the folder to where you may write.",
            )
        lock.acquire(timeout=0)
    except Timeout as error:
        raise KitError(f"Another split of {root} is running.", "Wait for it to end.") from error
    stage = root / ".split"
    try:
        shutil.rmtree(stage, ignore_errors=True)  # left by a killed run
        for room in ("input", "target"):
            (stage / room).mkdir(parents=True)
            (root / room).mkdir(exist_ok=True)
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        lock.release()


def publish(
    folder: DataFolder,
    stage: Path,
    split: Split,
    made: set[str],
    ours: set[str],
    sources: dict[str, str],
    store: Store,
) -> None:
    """Move the staged files into place; split.json goes first and comes last, so its presence means a whole split.

    It records the digests of the raw files that the split was made from, and of all that lies in its two folders now.
    """
    folder.split_file.unlink(missing_ok=True)
    place(ours | made, folder.made_file)  # before the lists: a killed run must not make ours look official
    for path in sorted(stage.glob("*/*")):
        path.replace(folder.root / path.parent.name / path.name)
    for name in ours - made - {f"target/{folder.active_clients.name}"}:
        (folder.root / name).unlink(missing_ok=True)  # a list that this shop no longer defines
    place(made, folder.made_file)
    instants = {name: getattr(split, name).isoformat() for name in ("train_start", "validation_start", "end")}
    found = sorted(
        path for room in ("input", "target") for path in (folder.root / room).glob("[!.]*") if path.is_file()
    )
    written = {path.relative_to(folder.root).as_posix(): store.file_digest(path) for path in found}
    place({"days": split.days, **instants, "sources": sources, "written": written}, folder.split_file)


def place(content: set[str] | Mapping[str, object], path: Path) -> None:
    """Write JSON atomically; sets as sorted lists."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(
        json.dumps(sorted(content) if isinstance(content, set) else content, indent=1) + "\n", encoding="utf-8"
    )
    part.replace(path)
