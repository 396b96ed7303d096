"""History: the only door to events. It is bound to a cut and cannot return an event at or after it.

    past                         cut                     now
    ───────────────[ window )─────┤   a History sees only what lies left of its cut;
                   └ rewind(14) ──┘   rewinding it gives an earlier History and the window between the two cuts.

Labels for training come from `rewind` alone, so they lie before the cut too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from threading import RLock
from typing import Any, Literal, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import SKU_EVENTS, TARGET_DAYS, EventType, Task
from kit.data.layout import DataFolder, load_ids
from kit.data.scan import empty_events, scan_events, scan_products
from kit.errors import KitError
from kit.limits import memory as limits
from kit.limits.need import SAFETY, Counts, Need
from kit.progress import stage
from kit.store import Plan, Store, code_digest, digest, write_json

T = TypeVar("T")
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

SOURCES = ("history.py", "data/scan.py")
"""Code that decides the prepared tables."""
TARGET_LISTS = (Task.CATEGORY, Task.SKU)
"""Tasks whose target lists were public during the challenge."""


@dataclass(frozen=True)
class Source:
    """Where events come from: files of everybody's events, and the same narrowed to the relevant clients.

    `prepared` holds one parquet file per event type, sorted by client_id, timestamp and value, with category and price
    joined to sku events. Only History reads a Source; blocks never see one.
    """

    files: dict[EventType, Path]
    products: Path
    prepared: Path
    targets: dict[Task, Path]

    def everyone(self, kind: EventType) -> pl.LazyFrame:
        """All clients' events of the files, whatever their time."""
        path = self.files[kind]
        return scan_events(path, kind) if path.exists() else empty_events(kind)

    def relevant(self, kind: EventType) -> pl.LazyFrame:
        """The relevant clients' events before the cut that the tables were prepared for."""
        return pl.scan_parquet(self.prepared / f"{kind.value}.parquet")


@dataclass(frozen=True)
class Window:
    """Events in [start, stop) of a History whose cut is `stop`: where training labels are made from."""

    start: datetime
    stop: datetime
    _source: Source = field(repr=False)
    _clients: NDArray[np.int64] = field(repr=False)

    def events(self, kind: EventType) -> pl.LazyFrame:
        """client_id, timestamp and value (sku events: also category and price) of the relevant clients in the window."""
        inside = (pl.col("timestamp") >= self.start) & (pl.col("timestamp") < self.stop)
        return _of_clients(self._source.relevant(kind), self._clients).filter(inside)

    def purchases(self) -> pl.LazyFrame:
        """client_id, timestamp, sku, category, price of the purchases in the window, as in a target file."""
        return self.events(EventType.BUY)


class History:
    """Everything known before `cut`.

    Attributes:
        cut: an instant; every event returned has timestamp < cut.
        clients: the relevant clients that this view covers, sorted, int64 (n,).
    """

    def __init__(
        self,
        source: Source,
        cut: datetime,
        clients: NDArray[np.int64],
        *,
        memo: dict[str, Any] | None = None,
        lock: RLock | None = None,
    ) -> None:
        self._source = source
        self.cut = cut
        self.clients = clients
        self._memo: dict[str, Any] = {} if memo is None else memo
        self._lock = lock or RLock()
        self._here: dict[str, Any] = {}

    @classmethod
    def open(
        cls,
        folder: DataFolder,
        cut: Literal["input", "end"] | datetime = "input",
        *,
        store: Store | None = None,
        duplicates: Duplicates = "keep",
    ) -> History:
        """The History of a data folder.

        Args:
            folder: the challenge layout, split.
            cut: `input` = the split's train_start (for local scores), `end` = after the last event (for a real
                submission), or an instant of your own.
            store: where the prepared tables are kept; the default store if None.
            duplicates: exact duplicate rows count as often as they occur (`keep`, as the organisers do) or once (`drop`).

        Raises:
            KitError: the folder is not split, holds no relevant clients, or has no event before the cut.
        """
        store = store or Store()
        plan = plan_events(folder, cut, store, duplicates)
        artefact = store.make(plan.stage, plan.prepare)
        source = Source(plan.files, folder.products, artefact.folder, plan.targets)
        history = cls(source, plan.cut, plan.clients)
        history._memo |= {"fingerprint": plan.fingerprint, "artefact": artefact.key, "store": store}
        return history

    @property
    def artefact(self) -> str:
        """Key of the prepared tables in the store, for the lineage of what is made from them; "" after a rewind."""
        return str(self._memo.get("artefact", ""))

    @property
    def fingerprint(self) -> str:
        """Digest of what this History is made of: event files, products, clients, public target lists, cut, duplicates."""
        return dated(self._memo["fingerprint"], self.cut)

    def events(self, kind: EventType) -> pl.LazyFrame:
        """Events of `clients` before the cut, sorted by client_id, timestamp, value.

        Columns: client_id i64, timestamp Datetime("us"), then sku, category, price (i64) or url (i64) or query
        (Array(UInt8, 16)). A sku without properties has null category and price.
        """
        return _of_clients(self._source.relevant(kind), self.clients).filter(pl.col("timestamp") < self.cut)

    def prepared(self, kind: EventType) -> int:
        """Rows of the relevant clients' table up to the cut that it was prepared for: at least as many as `events` has. Read
        from the file's metadata, for planning memory."""
        rows: int = self._source.relevant(kind).select(pl.len()).collect().item()
        return rows

    def everyone(self, kind: EventType) -> pl.LazyFrame:
        """Events of all clients before the cut, in file order, without product columns: for popularity and the like."""
        return self._source.everyone(kind).filter(pl.col("timestamp") < self.cut)

    def products(self) -> pl.LazyFrame:
        """The catalogue: sku, category, price, name codes. It carries no time, and so says nothing of the future's events."""
        return scan_products(self._source.products)

    def published_targets(self, task: Task) -> NDArray[np.int64]:
        """Targets that were public during the challenge (categories and skus); empty (0,) where the folder has none."""
        path = self._source.targets.get(task)
        if path is None or not path.exists():
            return np.empty(0, dtype=np.int64)
        return load_ids(path, "Run `kit data split` again.")

    def start(self) -> datetime:
        """The first event of anybody in any table (the cut itself when there is none)."""

        def first() -> datetime:
            frames = [self.everyone(kind).select(pl.col("timestamp").min()) for kind in EventType]
            value = pl.concat(frames).collect(engine="streaming")["timestamp"].min()
            return value if isinstance(value, datetime) else self.cut

        return self.once("start", first)

    def once(self, key: str, compute: Callable[[], T]) -> T:
        """`compute()` the first time, the same object afterwards; shared by all `among` views of one cut, also by views that
        are used in different threads: the first to ask computes, the others wait."""
        if key not in self._memo:
            with self._lock:
                if key not in self._memo:
                    self._memo[key] = compute()
        value: T = self._memo[key]
        return value

    def always(self, key: str, compute: Callable[[], T]) -> T:
        """Like `once`, but shared by rewound Histories too: for what carries no time, such as the catalogue."""
        timeless: dict[str, Any] = self._memo.setdefault("timeless", {})
        if key not in timeless:
            timeless[key] = compute()
        value: T = timeless[key]
        return value

    def here(self, key: str, compute: Callable[[], T]) -> T:
        """Like `once`, but for this view alone: what concerns its clients only, dropped together with the view."""
        if key not in self._here:
            self._here[key] = compute()
        value: T = self._here[key]
        return value

    def keep(
        self, stage: str, inputs: Mapping[str, object], sources: Sequence[str], build: Callable[[Path], None]
    ) -> Path:
        """The folder that `build(folder)` filled from this view's events: made once, then found again in the store.

        For what is to be mapped into memory rather than held there. Nothing of a build that was broken off remains.

        Args:
            stage: folder under the store's root.
            inputs: what decides the bytes beside this History, its clients and `sources`.
            sources: files and folders under kit/ whose code decides the bytes.
            build: writes the files.

        Raises:
            ValueError: this History was not opened from a data folder, so it has no store.
            KitError: the disk is full.
        """
        store = self._memo.get("store")
        if not isinstance(store, Store):
            raise ValueError("a History without a store cannot keep anything")
        whole = {
            "history": self.fingerprint,
            "clients": digest_of(self.clients),
            "code": code_digest(*sources),
            **inputs,
        }
        return store.make(Plan(stage, whole, sources, parents=[self.artefact] if self.artefact else []), build).folder

    def among(self, clients: NDArray[np.int64]) -> History:
        """The same History narrowed to some of its clients; what concerns everyone is shared, not computed again."""
        return History(self._source, self.cut, np.sort(clients), memo=self._memo, lock=self._lock)

    def chunks(self, size: int) -> Iterator[History]:
        """Consecutive `among` views of at most `size` clients: bounds the memory of whatever is done per client."""
        for first in range(0, len(self.clients), size):
            yield self.among(self.clients[first : first + size])

    def rewind(self, days: int = TARGET_DAYS) -> tuple[History, Window]:
        """An earlier History, `days` before this one, and the window between the two cuts."""
        if days <= 0:
            raise ValueError(f"days must be positive, however: {days=}")
        earlier = self.cut - timedelta(days=days)
        past = History(self._source, earlier, self.clients)
        past._memo["fingerprint"] = self._memo.get("fingerprint", "")
        past._memo["store"] = self._memo.get("store")
        past._memo["timeless"] = self._memo.setdefault("timeless", {})
        return past, Window(earlier, self.cut, self._source, self.clients)


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
        fingerprint: of the tables and the public target lists, without the cut.
        targets: files of the public target lists, which need not exist.
    """

    stage: Plan
    files: dict[EventType, Path]
    products: Path
    clients: NDArray[np.int64]
    cut: datetime
    duplicates: Duplicates
    fingerprint: str
    targets: dict[Task, Path]

    def prepare(self, out: Path) -> None:
        """Write the prepared tables into the folder `out`."""
        _prepare(out, self.files, self.products, self.clients, self.cut, self.duplicates)


def plan_events(
    folder: DataFolder, cut: Literal["input", "end"] | datetime, store: Store, duplicates: Duplicates
) -> EventsPlan:
    """Fingerprints of what `History.open` reads. Arguments and errors as there."""
    folder.require_split()
    clients = folder.clients()
    if len(clients) == 0:
        raise KitError(f"{folder.relevant_clients} is empty.", "A submission needs at least one relevant client.")
    files = _event_files(folder, raw=cut != "input")
    instant = _instant(folder, files, cut)
    inputs = {
        "events": store.files_digest(files.values()),
        "layout": sorted(str(path.parent.name) for path in files.values()),
        "products": store.files_digest([folder.products]),
        "clients": store.files_digest([folder.relevant_clients]),
        "cut": instant.isoformat(),
        "duplicates": duplicates,
        "code": code_digest(*SOURCES),
    }
    stage = Plan("events", inputs, SOURCES, notes={"data": str(folder.root)})
    targets = {task: folder.targets(task) for task in TARGET_LISTS}
    fingerprint = digest([stage.fingerprint, store.files_digest(targets.values())])[:16]
    return EventsPlan(stage, files, folder.products, clients, instant, duplicates, fingerprint, targets)


def digest_of(*arrays: NDArray[Any]) -> str:
    """32 hex digits of arrays' bytes, types and shapes."""
    hasher = hashlib.blake2b(digest_size=16)
    for array in arrays:
        hasher.update(f"{array.dtype.str}{array.shape}".encode())
        hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()


def dated(fingerprint: str, cut: datetime) -> str:
    """`History.fingerprint` from its two parts."""
    return f"{fingerprint}@{cut.isoformat()}"


def _of_clients(frame: pl.LazyFrame, clients: NDArray[np.int64]) -> pl.LazyFrame:
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


def _instant(folder: DataFolder, files: dict[EventType, Path], cut: Literal["input", "end"] | datetime) -> datetime:
    if isinstance(cut, datetime):
        return cut
    if cut == "input":
        return folder.split().train_start
    if cut != "end":
        raise KitError(f"The cut {cut!r} is unknown.", "Use `input` (local scores) or `end` (all events).")
    last = [
        scan_events(path, kind).select(pl.col("timestamp").max()).collect(engine="streaming").item()
        for kind, path in files.items()
        if path.exists()
    ]
    known = [value for value in last if isinstance(value, datetime)]
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
) -> None:
    """Narrow every table to the relevant clients before the cut, type it, join category and price, sort, write."""
    catalogue = (
        scan_products(products).select("sku", "category", "price").unique("sku", keep="first", maintain_order=True)
    )
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
    if rows == 0:
        raise KitError(
            f"None of the {len(clients):,} relevant clients has an event before the cut {cut}.",
            "Check that input/relevant_clients.npy belongs to these event files.",
        )


def _sorted_part(
    frame: pl.LazyFrame,
    kind: EventType,
    clients: NDArray[np.int64],
    cut: datetime,
    duplicates: Duplicates,
    catalogue: pl.LazyFrame,
) -> pl.LazyFrame:
    """The rows of some clients (sorted) before the cut, with category and price, in order."""
    narrow = _of_clients(frame, clients).filter(pl.col("timestamp") < cut)
    if duplicates == "drop":
        narrow = narrow.unique()
    if kind in SKU_EVENTS:
        narrow = narrow.join(catalogue, on="sku", how="left")
    # Arrays cannot be sorted by, so searches are tied by their first codes: equal rows are equal anyway.
    ties = [pl.col("query").arr.to_list().list.eval(pl.element().cast(pl.String).str.zfill(3)).list.join("")]
    return narrow.sort(["client_id", "timestamp", *(ties if kind is EventType.SEARCH else [kind.value_column])])


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
