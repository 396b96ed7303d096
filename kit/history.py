"""History: the only door to events. It is bound to a cut and cannot return an event at or after it.

    past                         cut                     now
    ───────────────[ window )─────┤   a History sees only what lies left of its cut;
                   └── rewind() ──┘   rewinding it gives an earlier History and the window between the two cuts.

Labels for training come from `rewind` alone, so they lie before the cut too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from threading import RLock
from typing import Any, Literal, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.arrays import digest_of
from kit.challenge import SKU_EVENTS, TARGET_DAYS, EventType
from kit.data.clients import Clients
from kit.data.layout import DataFolder, load_ids
from kit.data.prepare import Duplicates, dated, of_clients, plan_events, require_sound
from kit.data.scan import empty_events, scan_events, scan_products
from kit.fingerprint import code_of
from kit.store import Plan, Store

T = TypeVar("T")


@dataclass(frozen=True)
class EventSource:
    """Where events come from: files of everybody's events, and the same narrowed to the relevant clients.

    `prepared` holds one parquet file per event type, sorted by client_id and timestamp, ties in file order, with category and
    price joined to sku events. Only History reads a Source; blocks never see one.
    """

    files: dict[EventType, Path]
    products: Path
    prepared: Path
    targets: dict[str, Path]
    cut: datetime
    """That the tables were prepared for; rewound histories share it."""
    days: int = TARGET_DAYS
    """Length of the data folder's target windows."""

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
    _source: EventSource = field(repr=False)
    _clients: NDArray[np.int64] = field(repr=False)

    def events(self, kind: EventType) -> pl.LazyFrame:
        """client_id, timestamp and value (sku events: also category and price) of the relevant clients in the window."""
        inside = (pl.col("timestamp") >= self.start) & (pl.col("timestamp") < self.stop)
        return of_clients(self._source.relevant(kind), self._clients).filter(inside)

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
        source: EventSource,
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
        clients: Clients | NDArray[np.int64] = "relevant",
    ) -> History:
        """The History of a data folder.

        Args:
            folder: the challenge layout, split.
            cut: `input` = the split's train_start (for local scores), `end` = after the last event (for a real
                submission), or an instant of your own.
            store: where the prepared tables are kept; the default store if None.
            duplicates: exact duplicate rows count as often as they occur (`keep`, as the organisers do) or once (`drop`).
            clients: `relevant` = the folder's list; `all` = everybody with an event before the cut, where the list is ours;
                or ids of your own, who need not have events.

        Raises:
            KitError: the folder is not split, holds no relevant clients, or has no event before the cut; its files hold
                what `kit data check` calls an error; or the split was made from other files.
        """
        store = store or Store()
        plan = plan_events(folder, cut, store, duplicates, clients)
        require_sound(folder, plan, store)
        artefact = store.make(plan.stage, plan.prepare)
        source = EventSource(plan.files, folder.products, artefact.folder, plan.targets, plan.cut, plan.days)
        history = cls(source, plan.cut, plan.clients)
        history._memo |= {"fingerprint": plan.fingerprint, "artefact": artefact.key, "store": store}
        return history

    @property
    def days(self) -> int:
        """Length of the data folder's target windows in days: what lies ahead of the cut is asked about for so long."""
        return self._source.days

    @property
    def artefact(self) -> str:
        """Key of the prepared tables in the store, for the lineage of what is made from them; "" after a rewind."""
        return str(self._memo.get("artefact", ""))

    @property
    def fingerprint(self) -> str:
        """Digest of what this History is made of: event files, products, clients, public target lists, the windows' length,
        cut, duplicates."""
        return dated(self._memo["fingerprint"], self.cut)

    def events(self, kind: EventType) -> pl.LazyFrame:
        """Events of `clients` before the cut, sorted by client_id and timestamp; ties stay in the order of the file.

        Columns: client_id i64, timestamp Datetime("us"), then sku, category, price (i64) or url (i64) or query
        (Array(UInt8, 16)). A sku without properties has null category and price.
        """
        return of_clients(self._source.relevant(kind), self.clients).filter(pl.col("timestamp") < self.cut)

    def unlisted(self) -> tuple[int, int]:
        """Purchases, cart adds and removals of the relevant clients whose sku has no row in the catalogue, and all of them."""
        counts = [
            self._source.relevant(kind).select(pl.col("category").null_count(), rows=pl.len()).collect().row(0)
            for kind in SKU_EVENTS
        ]
        return sum(lost for lost, _ in counts), sum(rows for _, rows in counts)

    def prepared(self, kind: EventType) -> int:
        """Rows of the relevant clients' table up to the cut that it was prepared for: at least as many as `events` has. Read
        from the file's metadata, for planning memory."""
        rows: int = self._source.relevant(kind).select(pl.len()).collect().item()
        return rows

    def everyone(self, kind: EventType) -> pl.LazyFrame:
        """Events of all clients before the cut, in file order, without product columns: for popularity and the like."""
        return self._source.everyone(kind).filter(pl.col("timestamp") < self.cut)

    def products(self) -> pl.LazyFrame:
        """The catalogue, one row per sku: sku, category, price, name codes; the same at rewound cuts, in one numbering.

        A catalogue of the shop's own carries no time, and so says nothing of the future's events. One that was gathered from
        the log (`kit data convert`) holds only what the log named before the cut that this history was opened at.
        """
        return scan_products(self._source.products, before=self._source.cut)

    def published_targets(self, task: str) -> NDArray[np.int64]:
        """Targets of a task, by its name, that were public during the challenge (`PUBLISHED_LISTS`: categories and skus);
        empty (0,) where the folder has none."""
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

    def knowing(self, facts: Mapping[str, Any], timeless: Mapping[str, Any]) -> History:
        """The same view, in which `once` answers `facts` and `always` answers `timeless`, whatever this cut would give.

        For what was learned at an earlier cut and must mean the same here. Nothing that was computed here is taken over, as it
        may rest on other facts: it is computed again. A history that found these very objects itself is returned as it is.
        """
        own = self._memo.get("timeless", {})
        if all(self._memo.get(key) is value for key, value in facts.items()) and all(
            own.get(key) is value for key, value in timeless.items()
        ):
            return self
        kept: dict[str, Any] = {
            key: self._memo[key] for key in ("fingerprint", "artefact", "store") if key in self._memo
        }
        memo = {**kept, **facts, "timeless": dict(timeless)}
        return History(self._source, self.cut, self.clients, memo=memo)

    def always(self, key: str, compute: Callable[[], T]) -> T:
        """Like `once`, but shared by rewound Histories too: for what carries no time, such as the catalogue."""
        timeless: dict[str, Any] = self._memo.setdefault("timeless", {})
        if key not in timeless:
            with self._lock:
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

    def keep(self, stage: str, inputs: Mapping[str, object], build: Callable[[Path], None]) -> Path:
        """The folder that `build(folder)` filled from this view's events: made once, then found again in the store.

        For what is to be mapped into memory rather than held there. Nothing of a build that was broken off remains.

        Args:
            stage: folder under the store's root.
            inputs: what decides the bytes beside this History, its clients and the code.
            build: writes the files. The module that it is written in decides the bytes, with all that this imports.

        Raises:
            ValueError: this History was not opened from a data folder, so it has no store.
            KitError: the disk is full.
        """
        store = self._memo.get("store")
        if not isinstance(store, Store):
            raise ValueError("a History without a store cannot keep anything")
        code = code_of(build)
        whole = {
            "history": self.fingerprint,
            "clients": digest_of(self.clients),
            "code": code.digest,
            **inputs,
        }
        return store.make(
            Plan(stage, whole, code.files, parents=[self.artefact] if self.artefact else []), build
        ).folder

    def among(self, clients: NDArray[np.int64]) -> History:
        """The same History narrowed to some of its clients; what concerns everyone is shared, not computed again."""
        return History(self._source, self.cut, np.sort(clients), memo=self._memo, lock=self._lock)

    def chunks(self, size: int) -> Iterator[History]:
        """Consecutive `among` views of at most `size` clients: bounds the memory of whatever is done per client."""
        for first in range(0, len(self.clients), size):
            yield self.among(self.clients[first : first + size])

    def rewind(self, days: int | None = None) -> tuple[History, Window]:
        """An earlier History and the window between the two cuts.

        Args:
            days: how much earlier; None for the length of the data folder's target windows.
        """
        days = self.days if days is None else days
        if days <= 0:
            raise ValueError(f"days must be positive, however: {days=}")
        earlier = self.cut - timedelta(days=days)
        past = History(self._source, earlier, self.clients)
        past._memo["fingerprint"] = self._memo.get("fingerprint", "")
        past._memo["store"] = self._memo.get("store")
        past._memo["timeless"] = self._memo.setdefault("timeless", {})
        return past, Window(earlier, self.cut, self._source, self.clients)
