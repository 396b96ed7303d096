"""The tables that a History reads, made once per data folder and cut: the relevant clients' events, typed, joined, sorted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.arrays import digest_of
from kit.challenge import PUBLISHED_LISTS, SKU_EVENTS, EventType
from kit.data.clients import Clients, known_clients, require_choice
from kit.data.contract import event_findings, inspect, require
from kit.data.layout import DataFolder
from kit.data.scan import columns_of, empty_events, scan_events, scan_products
from kit.errors import KitError
from kit.fingerprint import code_of
from kit.limits import memory as limits
from kit.limits.need import SAFETY, Counts, Need
from kit.progress import stage
from kit.store import Plan, Store, digest, write_json

Duplicates = Literal["keep", "drop"]
ROW_GROUP = 250_000
"""Rows per row group of prepared tables: small enough that a range of clients skips most of the file."""

VISITED = "visited.json"
"""File beside the prepared tables: how many urls have how many visits."""
COUNTED = 32
PIECES = 16
"""Ranges of clients at most that a table is sorted in, when memory is limited."""
SORTED_BYTES = {
    kind: 16 + (24 if kind in SKU_EVENTS else 64 if kind is EventType.SEARCH else 8) + 35 + 8 for kind in EventType
}
"""Bytes per row while a table is sorted: client, time and value (sku, category and price; codes and their text; url), the encoded
key (three numbers of 8 with a mark, and where each begins) and the order. Measured on up to 4.7 M rows: .6 to .9 of this."""


@dataclass(frozen=True)
class EventsPlan:
    """What `History.open` would prepare, known without preparing it.

    Attributes:
        stage: the store's plan of the prepared tables.
        files: event files, which need not exist.
        products: the catalogue's file.
        clients: sorted int64 (n,).
        cut: an instant.
        duplicates: keep or drop.
        fingerprint: of the tables, the public target lists and the windows' length, without the cut.
        targets: files of the public target lists, which need not exist.
        days: length of the folder's target windows.
    """

    stage: Plan
    files: dict[EventType, Path]
    products: Path
    clients: NDArray[np.int64]
    cut: datetime
    duplicates: Duplicates
    fingerprint: str
    targets: dict[str, Path]
    days: int
    silent: bool = False
    """Whether nobody's having an event is an answer rather than a mistake."""

    def prepare(self, out: Path) -> None:
        """Write the prepared tables into the folder `out`."""
        rows = _prepare(out, self.files, self.products, self.clients, self.cut, self.duplicates)
        if rows == 0 and not self.silent:
            raise KitError(
                f"None of the {len(self.clients):,} relevant clients has an event before the cut {self.cut}.",
                "Check that input/relevant_clients.npy belongs to these event files.",
            )


def plan_events(
    folder: DataFolder,
    cut: Literal["input", "end"] | datetime,
    store: Store,
    duplicates: Duplicates,
    who: Clients | NDArray[np.int64] = "relevant",
) -> EventsPlan:
    """Fingerprints of what `History.open` reads. Arguments and errors as there."""
    folder.require_split()
    named = None if isinstance(who, str) else np.unique(who)
    if isinstance(who, str):
        require_choice(folder, who, cut)
    files = _event_files(folder, raw=cut != "input")
    instant = _instant(folder, files, cut, store)
    if named is not None:
        clients = named
    elif who == "all":
        require(event_findings(folder, files, store), folder.root)
        clients = known_clients(files, instant, store)
    else:
        clients = folder.clients()
    if len(clients) == 0:
        raise KitError(f"{folder.relevant_clients} is empty.", "A submission needs at least one relevant client.")
    code = code_of(plan_events)
    inputs = {
        "events": store.files_digest(files.values()),
        "layout": sorted(str(path.parent.name) for path in files.values()),
        "products": store.files_digest([folder.products]),
        "clients": digest_of(clients)
        if named is not None or who == "all"
        else store.files_digest([folder.relevant_clients]),
        "cut": instant.isoformat(),
        "duplicates": duplicates,
        "code": code.digest,
    }
    stage = Plan("events", inputs, code.files, notes={"data": str(folder.root)})
    targets = {str(task): folder.targets(task) for task in PUBLISHED_LISTS}
    days = folder.split().days
    fingerprint = digest([stage.fingerprint, store.files_digest(targets.values()), days])[:16]
    return EventsPlan(
        stage, files, folder.products, clients, instant, duplicates, fingerprint, targets, days, named is not None
    )


def require_sound(folder: DataFolder, plan: EventsPlan, store: Store) -> None:
    """KitError if the files that a plan reads hold what `kit data check` calls an error, in its words."""
    require(event_findings(folder, plan.files, store), folder.root)


def dated(fingerprint: str, cut: datetime) -> str:
    """`History.fingerprint` from its two parts."""
    return f"{fingerprint}@{cut.isoformat()}"


def of_clients(frame: pl.LazyFrame, clients: NDArray[np.int64]) -> pl.LazyFrame:
    """Rows of `clients` (sorted). The range test lets parquet skip row groups; the semi-join settles the rest."""
    if len(clients) == 0:
        return frame.filter(False)
    wanted = pl.LazyFrame({"client_id": clients})
    ranged = frame.filter(pl.col("client_id").is_between(int(clients[0]), int(clients[-1])))
    return ranged.join(wanted, on="client_id", how="semi", maintain_order="left")


def _event_files(folder: DataFolder, *, raw: bool) -> dict[EventType, Path]:
    """The input files for a local split; the raw ones otherwise, or where the folder has no input files (and vice versa)."""
    inputs = {kind: folder.input(kind) for kind in EventType}
    raws = {kind: folder.raw(kind) for kind in EventType}
    first, second = (raws, inputs) if raw else (inputs, raws)
    return first if any(path.exists() for path in first.values()) else second


def _instant(
    folder: DataFolder, files: dict[EventType, Path], cut: Literal["input", "end"] | datetime, store: Store
) -> datetime:
    if isinstance(cut, datetime):
        return cut
    if cut == "input":
        return folder.split().train_start
    if cut != "end":
        raise KitError(f"The cut {cut!r} is unknown.", "Use `input` (local scores) or `end` (all events).")
    last = [inspect(path, columns_of(kind), store).last for kind, path in files.items() if path.exists()]
    known = [value for value in last if value is not None]
    if not known:
        raise KitError(f"{folder.root} holds no event at all.", "Check the folder with `kit data check`.")
    return max(known) + timedelta(seconds=1)


def _prepare(
    out: Path,
    files: dict[EventType, Path],
    products: Path,
    clients: NDArray[np.int64],
    cut: datetime,
    duplicates: Duplicates,
) -> int:
    """Narrow every table to the relevant clients before the cut, type it, join category and price, sort, write; the rows."""
    catalogue = scan_products(products).select("sku", "category", "price")
    rows = 0
    for kind in EventType:
        with stage(f"events {kind.value}"):
            frame = scan_events(files[kind], kind) if files[kind].exists() else empty_events(kind)
            path = out / f"{kind.value}.parquet"
            parts = [
                _sorted_part(frame, kind, some, cut, duplicates, catalogue) for some in _pieces(clients, frame, kind)
            ]
            _sink(parts, path)
            rows += pl.scan_parquet(path).select(pl.len()).collect().item()
    write_json(out / VISITED, _visited(pl.scan_parquet(out / f"{EventType.VISIT.value}.parquet")))
    return rows


def _sorted_part(
    frame: pl.LazyFrame,
    kind: EventType,
    clients: NDArray[np.int64],
    cut: datetime,
    duplicates: Duplicates,
    catalogue: pl.LazyFrame,
) -> pl.LazyFrame:
    """The rows of some clients (sorted) before the cut, with category and price, by client and time; ties in file order."""
    narrow = of_clients(frame, clients).filter(pl.col("timestamp") < cut)
    if duplicates == "drop":
        narrow = narrow.unique(keep="first", maintain_order=True)
    if kind in SKU_EVENTS:
        narrow = narrow.join(catalogue, on="sku", how="left", maintain_order="left")
    return narrow.sort(["client_id", "timestamp"], maintain_order=True)


def _pieces(clients: NDArray[np.int64], frame: pl.LazyFrame, kind: EventType) -> list[NDArray[np.int64]]:
    """The clients as one piece, or as ranges whose rows can be sorted in the memory that is left (each range is another pass
    over the file, so there are at most PIECES)."""
    if limits.room() is None or len(clients) == 0:
        return [clients]
    rows = frame.select(pl.len()).collect().item()
    each = SAFETY * SORTED_BYTES[kind] * rows / len(clients)
    size = limits.at_once(each, len(clients), -(-len(clients) // PIECES))
    return [clients[first : first + size] for first in range(0, len(clients), size)]


def _sink(parts: list[pl.LazyFrame], path: Path) -> None:
    """Write the parts one after the other, so that one is held in memory at a time, as one table."""
    if len(parts) == 1:
        parts[0].sink_parquet(path, row_group_size=ROW_GROUP, statistics=True)
        return
    pieces = [path.with_name(f".{path.name}.{number:02d}") for number in range(len(parts))]
    for part, piece in zip(parts, pieces, strict=True):
        part.sink_parquet(piece, row_group_size=ROW_GROUP)
    pl.scan_parquet(pieces).sink_parquet(path, row_group_size=ROW_GROUP, statistics=True, maintain_order=True)
    for piece in pieces:
        piece.unlink()


def _visited(visits: pl.LazyFrame) -> list[int]:
    """Entry k: urls with more than k visits, k < COUNTED; it sizes embedding tables before they are made."""
    counted = visits.group_by("url").agg(n=pl.len().clip(upper_bound=COUNTED))
    sizes = counted.group_by("n").agg(urls=pl.len()).collect(engine="streaming")
    histogram = np.bincount(sizes["n"].to_numpy(), weights=sizes["urls"].to_numpy(), minlength=COUNTED + 1)
    return [int(number) for number in np.cumsum(histogram[::-1])[::-1][1:]]


def events_need(counts: Counts) -> Need:
    """What preparing the tables takes: the largest table while it is sorted, and the catalogue that is joined to it (sku,
    category and price, without duplicates, and as a join's index: thrice 24)."""
    largest = max(SORTED_BYTES[kind] * rows for kind, rows in counts.events.items())
    fixed = 3 * 24 * counts.products + 16 * counts.clients
    disk = sum(
        round(counts.stored[kind] * counts.events[kind] / max(counts.rows[kind], 1))
        + (4 if kind in SKU_EVENTS else 0) * rows
        for kind, rows in counts.events.items()
    )
    return Need(
        fixed + largest,
        fixed + largest // PIECES,
        disk,
        helps="fewer clients or events: nothing in a recipe changes it",
    )
