"""Block `organisers`: the aggregated features of the organisers' baseline, re-created as the yardstick of every score.

Per event type with products: number of events, then for the last 1, 7 and 30 days the counts of the 10 most frequent skus,
categories and price buckets; page visits: the same over urls; searches: the mean query code vector. 320 columns, unscaled.
Source: baseline/aggregated_features_baseline in Synerise/recsys2025 at e91c1a6 (read, not copied).

NOTE[DIFF] Their window takes the *last rows in file order*, as many as there are events in the window, because values are not
sorted along with the timestamps. Here a window holds the events of that window. Clients without events, whom their code
leaves out (and their validator then refuses), get zeros.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.blocks.base import Block, BlockOutput, block
from kit.challenge import CODES, SKU_EVENTS, EventType
from kit.history import History
from kit.limits import memory as limits
from kit.limits.need import Counts, Need, matrix
from kit.store import write_json

DAYS = (1, 7, 30)
TOP = 10
WIDTH = 320
CHUNK = 50_000
"""Clients at a time: bounds the memory of what is made of their events."""
ROW_BYTES = 2 * 40 + len(DAYS) * 3 * TOP
"""Of a row on the way: client, time, value and product columns twice, and one mark for each of the 90 aggregates."""
ORDER = (EventType.BUY, EventType.CART, EventType.REMOVE, EventType.VISIT, EventType.SEARCH)


@block
class Organisers(Block):
    """The organisers' aggregates: counts of the most frequent values in three windows, and mean query codes."""

    kind = "organisers"
    description = "The organisers' baseline features, as a yardstick."

    def fit(self, history: History) -> Organisers:
        """Find the most frequent values and the last event of each type, among the relevant clients as they do: windows end
        with it. At another cut they end as long before it as at this one."""
        self.top: dict[tuple[EventType, str], list[int]] = {}
        self.behind: dict[EventType, timedelta | None] = {}
        for kind in ORDER[:-1]:
            events = history.events(kind)
            last = events.select(pl.col("timestamp").max()).collect().item()
            self.behind[kind] = None if last is None else history.cut - last
            for column in _columns(kind):
                counts = (
                    events.drop_nulls(column).group_by(column).len().sort(["len", column], descending=[True, False])
                )
                self.top[kind, column] = counts.head(TOP).collect()[column].to_list()
        return self

    def transform(self, history: History, clients: NDArray[np.int64]) -> BlockOutput:
        """float32 (n, ≤ 320); fewer columns where a value has fewer than ten different ones."""
        names = tuple(self._table(history.among(clients[:0])).columns)
        values = limits.empty((len(clients), len(names)), np.float32)
        for number, part in enumerate(history.among(clients).chunks(CHUNK)):
            values[number * CHUNK : number * CHUNK + len(part.clients)] = self._table(part).to_numpy()
        return BlockOutput(values, names)

    def need(self, counts: Counts) -> Need:
        """The matrix; of a CHUNK of clients the columns of the largest table with a mark per aggregate, and 320 columns as
        frames (8) and float32; counting the values of everyone, a table of 24 bytes an entry."""
        values = matrix(counts.clients, WIDTH)
        share = min(1.0, CHUNK / max(counts.clients, 1))
        part = int(share * (ROW_BYTES * max(counts.events.values()) + 4 * values))
        memory = values + max(part, 24 * (counts.urls(1) + counts.products))
        return Need(memory, memory, values, WIDTH, "another kind of block: this one is a yardstick")

    def save(self, folder: Path) -> None:
        """learned.json: per event type the most frequent values, and how long before the cut the last event was, in
        microseconds."""
        tables = {
            kind.value: {
                "behind": None if behind is None else behind // timedelta(microseconds=1),
                "top": {column: self.top[kind, column] for column in _columns(kind)},
            }
            for kind, behind in self.behind.items()
        }
        write_json(folder / "learned.json", tables)

    def load(self, folder: Path) -> Organisers:
        """The most frequent values at the cut of the fit."""
        tables = json.loads((folder / "learned.json").read_text(encoding="utf-8"))
        self.top, self.behind = {}, {}
        for name, table in tables.items():
            kind, behind = EventType(name), table["behind"]
            self.behind[kind] = None if behind is None else timedelta(microseconds=behind)
            self.top |= {(kind, column): values for column, values in table["top"].items()}
        return self

    def _table(self, history: History) -> pl.DataFrame:
        """All columns for the history's clients, in their order."""
        frames = [self._counts(history, kind) for kind in ORDER[:-1]]
        return pl.concat([*frames, _mean_query(history)], how="horizontal")

    def _counts(self, history: History, kind: EventType) -> pl.DataFrame:
        aggregates = [pl.len().alias(f"{kind.short}_n")]
        for days in DAYS:
            behind = self.behind[kind]
            start = None if behind is None else history.cut - behind - timedelta(days=days)
            recent = pl.lit(False) if start is None else pl.col("timestamp") >= pl.lit(start)
            for column in _columns(kind):
                aggregates += [
                    (recent & (pl.col(column) == value)).sum().alias(f"{kind.short}_{days}d_{column}_{value}")
                    for value in self.top[kind, column]
                ]
        counts = history.events(kind).group_by("client_id").agg(aggregates).collect()
        return _on_rows(counts, history.clients)


def _columns(kind: EventType) -> tuple[str, ...]:
    return ("sku", "category", "price") if kind in SKU_EVENTS else ("url",)


def _mean_query(history: History) -> pl.DataFrame:
    means = [pl.col("query").arr.get(i).cast(pl.Float64).mean().alias(f"query_{i}") for i in range(CODES)]
    return _on_rows(history.events(EventType.SEARCH).group_by("client_id").agg(means).collect(), history.clients)


def _on_rows(frame: pl.DataFrame, clients: NDArray[np.int64]) -> pl.DataFrame:
    """Rows in the order of `clients`, zeros where a client has no event of the type."""
    spine = pl.DataFrame({"client_id": clients})
    return spine.join(frame, on="client_id", how="left", maintain_order="left").drop("client_id").fill_null(0)
