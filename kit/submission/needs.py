"""What a submission will take, stage by stage, said before anything runs: memory, and disk for what is not there yet."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kit.blocks.base import make_block
from kit.challenge import PUBLISHED_LISTS
from kit.data.layout import load_ids
from kit.data.prepare import VISITED, EventsPlan, events_need
from kit.data.scan import columns_of, scan_table
from kit.errors import KitError
from kit.limits.memory import in_use, memory
from kit.limits.need import SAFETY, START, Counts, Need, matrix
from kit.limits.size import shown
from kit.profile.assemble import profile_need, select
from kit.progress import say
from kit.store import Plan, Store, is_whole
from kit.submission.plan import SubmissionPlan

PLACES, EACH = 4, 20_000
"""Where, and how many rows at a time, a table is looked at to estimate how many of its rows are relevant clients'."""


@dataclass(frozen=True)
class StageNeed:
    """One stage of a submission.

    Attributes:
        name: `events`, `block NAME`, `profile` or `submission`.
        fresh: nothing is left to do.
        need: the estimate, without the safety factor.
        settings: where the setting lies that helps: `[blocks.x]`.
    """

    name: str
    fresh: bool
    need: Need
    settings: str = ""

    @property
    def memory(self) -> int:
        """Most bytes beyond what the program takes by itself, if nothing limits it."""
        return int(START + SAFETY * self.need.memory) if self.need.memory else 0

    @property
    def least(self) -> int:
        """The same with pieces as small, and as much in files, as the stage can."""
        return int(START + SAFETY * self.need.floor) if self.need.memory else 0

    def as_json(self) -> dict[str, Any]:
        """Bytes as they are judged, the safety factor included."""
        return {
            "stage": self.name,
            "state": "fresh" if self.fresh else "missing",
            "memory": self.memory,
            "memory_at_least": self.least,
            "disk": self.need.disk,
            "columns": self.need.width or None,
            "helps": self.need.helps or None,
        }


def stage_needs(plan: SubmissionPlan) -> list[StageNeed]:
    """The estimate of every stage. Reads metadata, a sample of a few rows, and digests of the files (remembered).

    Raises:
        KitError: bad data folder, unknown block or setting.
    """
    recipe, store, done = plan.recipe, plan.store, plan.is_fresh
    counts = count(plan.events, store)
    stages = [_stage("events", plan.events.stage, events_need(counts), store, done)]
    widths: list[int] = []
    seen: set[str] = set()
    for name, entry in recipe.blocks.items():
        block = plan.blocks[name]
        need = make_block(name, entry, recipe.seed).need(counts)
        names = _columns(store, block)
        widths.append(_width(entry.columns, names, need.width) if entry.profile else 0)
        if block.key not in seen:  # entries that are alike share one output
            stages.append(replace(_stage(f"block {name}", block, need, store, done), settings=f"[blocks.{name}]"))
        seen.add(block.key)
    profile = profile_need(counts.clients, list(zip(recipe.blocks.values(), widths, strict=True)), recipe.assembly)
    stages.append(StageNeed("profile", done, profile))
    written = matrix(counts.clients, profile.width, 2) + 8 * counts.clients
    return [*stages, StageNeed("submission", done, Need(0, 0, written))]


def require_room(
    stages: Sequence[StageNeed], limit: int | None, store: Path, folder: Path, base: int | None = None
) -> None:
    """Refuse to begin what cannot be finished.

    Args:
        stages: from `stage_needs`.
        limit: bytes that may be used; None = the memory that is available, and then a stage above it is only warned of.
        store: the store's root; `folder`: the submission's folder.
        base: bytes that the program takes by itself; measured if None.

    Raises:
        KitError: a stage needs more memory than `limit` even in its smallest pieces, or the disk is too full.
    """
    base = in_use() if base is None else base
    most = base + memory().available if limit is None else limit
    for stage in stages:
        least = base + stage.least
        if stage.fresh or least <= most:
            continue
        helps = " ".join(["in " + stage.settings] * bool(stage.settings) + [stage.need.helps])
        if limit is not None:
            raise KitError(
                f"The stage `{stage.name}` needs about {shown(least)} of memory (estimated); --memory-limit is {shown(limit)}.",
                f"What helps {helps}; or a higher limit.",
            )
        say(
            f"warning: the stage `{stage.name}` needs about {shown(least)} of memory (estimated), {shown(most - base)} are "
            f"available. What helps {helps}."
        )
    _require_disk(stages, most - base, store, folder)


def _require_disk(stages: Sequence[StageNeed], room: float, store: Path, folder: Path) -> None:
    """Compare what is missing with what is free on the disks of store and submission, which may be one."""
    places = {store: _kept(stages, room), folder.parent: {s.name: s.need.disk for s in stages[-1:] if not s.fresh}}
    disks: dict[int, tuple[Path, dict[str, int]]] = {}
    for place, parts in places.items():
        there = next(above for above in (place.absolute(), *place.absolute().parents) if above.is_dir())
        _, known = disks.setdefault(there.stat().st_dev, (there, {}))
        known |= parts
    for there, parts in disks.values():
        needed, free = sum(parts.values()), shutil.disk_usage(there).free
        if needed > free:
            listed = ", ".join(f"{name} {shown(size)}" for name, size in parts.items() if size)
            raise KitError(
                f"{shown(free)} are free on the disk of {there}; what is missing needs about {shown(needed)} ({listed}).",
                "Make room (`kit clean` lists what can go), or set KIT_STORE and --out to folders on a larger disk.",
            )


def _kept(stages: Iterable[StageNeed], room: float) -> dict[str, int]:
    """What will be written into the store: outputs, and the arrays that go into files because they do not fit into memory."""
    parts = {}
    scratch = 0
    for stage in stages:
        if stage.fresh or stage.name == "submission":
            continue
        parts[stage.name] = 0 if stage.name == "profile" else stage.need.disk
        if stage.memory > room:
            scratch = max(scratch, stage.need.memory - stage.need.floor)
    return parts | ({"temporary files": scratch} if scratch else {})


def count(events: EventsPlan, store: Store) -> Counts:
    """How much there is: from the metadata of the files, and of the prepared tables where they exist.

    Raises:
        KitError: a file is no parquet, or lacks a column.
    """
    prepared = store.folder(events.stage)
    exact = is_whole(prepared)
    rows, mine, stored = {}, {}, {}
    for kind, path in events.files.items():
        there = path.exists()
        stored[kind] = path.stat().st_size if there else 0
        frame = scan_table(path, columns_of(kind))[0] if there else None
        rows[kind] = 0 if frame is None else _length(frame)
        if exact:
            mine[kind] = _length(pl.scan_parquet(prepared / f"{kind.value}.parquet"))
        else:
            mine[kind] = 0 if frame is None else round(rows[kind] * _share(frame, rows[kind], events.clients))
    products = _length(scan_table(events.products, ("sku",))[0])
    lists = [events.targets.get(task) for task in PUBLISHED_LISTS]
    again = f"Run `kit data split {events.products.parent}` again."
    targets = [len(load_ids(path, again)) if path is not None and path.exists() else 0 for path in lists]
    visited = tuple(json.loads((prepared / VISITED).read_text(encoding="utf-8"))) if exact else ()
    return Counts(len(events.clients), products, rows, mine, stored, (targets[0], targets[1]), visited)


def _length(frame: pl.LazyFrame) -> int:
    rows: int = frame.select(pl.len()).collect().item()
    return rows


def _share(frame: pl.LazyFrame, rows: int, clients: np.ndarray[Any, Any]) -> float:
    """Share of the rows that belong to `clients` (sorted), from rows at a few places, a tenth added for what they missed.

    A small table is read whole.
    """
    if rows == 0:
        return 0.0
    ids = frame.select(pl.col("client_id").cast(pl.Int64))
    starts = [0] if rows <= PLACES * EACH else [rows * place // PLACES for place in range(PLACES)]
    size = rows if len(starts) == 1 else EACH
    found = np.concatenate([ids.slice(start, size).collect()["client_id"].drop_nulls().to_numpy() for start in starts])
    place = np.minimum(np.searchsorted(clients, found), len(clients) - 1)
    share = float((clients[place] == found).mean())
    return share if len(starts) == 1 else min(1.1 * share, 1.0)


def _stage(name: str, plan: Plan, need: Need, store: Store, done: bool) -> StageNeed:
    return StageNeed(name, done or is_whole(store.folder(plan)), need)


def _columns(store: Store, plan: Plan) -> tuple[str, ...] | None:
    folder = store.folder(plan)
    return tuple(json.loads((folder / "columns.json").read_text(encoding="utf-8"))) if is_whole(folder) else None


def _width(patterns: Sequence[str], names: tuple[str, ...] | None, width: int) -> int:
    """Columns that an entry takes of its block: counted if the block is there, else at most."""
    if names is not None:
        return len(select(names, patterns))
    exact = bool(patterns) and not any(letter in pattern for pattern in patterns for letter in "*?[")
    return min(len(patterns), width) if exact else width


def summary(stages: Sequence[StageNeed], limit: int | None) -> Mapping[str, Any]:
    """For programs: the stages, and the memory to compare them with."""
    here = memory()
    numbers = {"limit": limit, "available": here.available, "program": in_use(), "safety": SAFETY}
    left = [stage.as_json()["disk"] for stage in stages if not stage.fresh]
    return numbers | {"disk": sum(left), "stages": [s.as_json() for s in stages]}
