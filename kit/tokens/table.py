"""All five event tables of a History as one flat array per field, sorted by client, time, kind and value.

A client's sequence at an earlier cut is the prefix of its tokens with time < cut: one tokenisation at the last cut serves all
rewound ones (`Words` says how ids that were not known by then are told apart).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from kit.challenge import CODES, SKU_EVENTS, EventType
from kit.errors import KitError
from kit.history import History
from kit.recipe import Strict
from kit.store import write_atomically
from kit.tokens.vocabulary import Catalogue, Int64s, Vocabulary, Words

KINDS: Final = tuple(EventType)
"""Event types in the order of their codes: KINDS[i] has code i + 1; 0 is padding."""
CUT_KIND: Final = len(KINDS) + 1
"""Kind of the token that may stand for the cut itself at the end of a batch's sequence."""
EPOCH: Final = datetime(1970, 1, 1)
SMALL_FILE: Final = 4096
"""Bytes up to which a file is read rather than mapped (an empty one cannot be mapped)."""
COLUMNS: Final = ("time", "kind", "sku", "product", "url", "query")


def kind_code(kind: EventType) -> int:
    """1 … 5, the code of an event type in `Tokens.kind`."""
    return KINDS.index(kind) + 1


def microseconds(instant: datetime) -> int:
    """An instant as the tokens hold it: microseconds since 1970."""
    delta = instant - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


class TokenSettings(Strict):
    """What becomes a token, and which ids get a word of their own."""

    min_sku: int = Field(
        3, ge=1, description="Events that a sku needs among the relevant clients to have an embedding."
    )
    min_url: int = Field(5, ge=1, description="Likewise for urls; rarer ones share the empty word.")
    collapse: bool = Field(True, description="Exact duplicates (same client, second, type and value) become one token.")


@dataclass(frozen=True)
class Tokens:
    """Flat arrays over all tokens of all clients; client i owns the slice offsets[i] : offsets[i + 1].

    Attributes:
        clients: sorted client ids, int64 (n,).
        offsets: int64 (n + 1,).
        time: microseconds since 1970, int64 (N,).
        kind: 1 … 5 (see KINDS), uint8 (N,).
        sku: word index of the sku, 0 = no sku or none of its own, int32 (N,).
        product: catalogue row, 0 = none, int32 (N,).
        url: word index of the url, int32 (N,).
        query: row of `queries`, 0 = none, int32 (N,).
        queries: distinct query codes, uint8 (q + 1, 16); row 0 holds zeros.
        vocabulary: words and catalogue.
        cut: microseconds; every token lies before it.
    """

    clients: Int64s
    offsets: Int64s
    time: Int64s
    kind: NDArray[np.uint8]
    sku: NDArray[np.int32]
    product: NDArray[np.int32]
    url: NDArray[np.int32]
    query: NDArray[np.int32]
    queries: NDArray[np.uint8]
    vocabulary: Vocabulary
    cut: int

    def __len__(self) -> int:
        return len(self.time)

    @cached_property
    def category(self) -> NDArray[np.int32]:
        """Category index of every token, 0 = none, int32 (N,)."""
        return self.vocabulary.catalogue.category[self.product]

    @cached_property
    def price(self) -> NDArray[np.uint8]:
        """Price bucket + 1 of every token, 0 = none, uint8 (N,)."""
        return self.vocabulary.catalogue.price[self.product]

    @cached_property
    def owner(self) -> NDArray[np.int32]:
        """Row of the client of every token, int32 (N,)."""
        return np.repeat(np.arange(len(self.clients), dtype=np.int32), np.diff(self.offsets))

    @cached_property
    def touches(self) -> Tokens:
        """The tokens that name a product: purchases, cart adds and removals."""
        return self.only(self.product > 0)

    def only(self, keep: NDArray[np.bool_]) -> Tokens:
        """The tokens where `keep`, bool (N,), is True; clients without any stay, with none."""
        offsets = np.concatenate([[0], np.cumsum(keep)])[self.offsets].astype(np.int64)
        return replace(self, offsets=offsets, **{name: getattr(self, name)[keep] for name in COLUMNS})

    def rows(self, clients: Int64s) -> Int64s:
        """Row of each client id; ValueError if one is not covered."""
        rows = np.searchsorted(self.clients, clients)
        if len(clients) and (rows.max() >= len(self.clients) or not np.array_equal(self.clients[rows], clients)):
            raise ValueError("these tokens do not cover all clients asked for")
        return rows

    def stops(self, rows: Int64s, cut: int | Int64s | None = None) -> Int64s:
        """End of each client's tokens before the cut (one for all, or one per row): offsets[row] <= stop."""
        if cut is None or (np.ndim(cut) == 0 and int(cut) >= self.cut):
            return self.offsets[rows + 1]
        return self.first_at(self.offsets[rows], self.offsets[rows + 1], cut)

    def lengths(self, cut: int | Int64s | None = None) -> Int64s:
        """Tokens of every client before the cut, int64 (n,)."""
        rows = np.arange(len(self.clients))
        return self.stops(rows, cut) - self.offsets[rows]

    def first_at(self, low: Int64s, high: Int64s, instant: int | Int64s) -> Int64s:
        """First position in [low, high) whose time is at or after the instant, else high; all ranges searched at once.

        Each range must lie within one client's slice, where times ascend.
        """
        low, high = low.copy(), np.maximum(low, high)
        while True:
            open_ = low < high
            if not open_.any():
                return low
            middle = (low + high) // 2
            before = np.zeros(len(low), dtype=bool)
            before[open_] = self.time[middle[open_]] < np.broadcast_to(instant, low.shape)[open_]
            low = np.where(before, middle + 1, low)
            high = np.where(open_ & ~before, middle, high)

    def save(self, folder: Path) -> None:
        """One .npy per array, so that readers can map them into memory instead of loading them."""
        for name, array in self._arrays().items():
            write_atomically(folder / f"{name}.npy", partial(_write, array))

    @classmethod
    def load(cls, folder: Path, *, mapped: bool = True) -> Tokens:
        """What `save` wrote; `mapped` arrays are read-only views of the files.

        Raises:
            KitError: a file is missing.
        """

        def read(name: str) -> NDArray[Any]:
            path = folder / f"{name}.npy"
            if not path.exists():
                raise KitError(f"{path} is missing: the tokens in {folder} are not whole.", "Make them again.")
            array: NDArray[Any] = np.load(path, mmap_mode="r" if mapped and path.stat().st_size > SMALL_FILE else None)
            return array

        skus, urls = (Words(read(f"{name}_ids"), read(f"{name}_known")) for name in ("sku", "url"))
        catalogue = Catalogue(**{f.name: read(f"catalogue_{f.name}") for f in fields(Catalogue)})
        flat = {name: read(name) for name in ("clients", "offsets", *COLUMNS, "queries")}
        return cls(**flat, vocabulary=Vocabulary(skus, urls, catalogue), cut=int(read("cut")))

    def _arrays(self) -> Mapping[str, NDArray[np.generic]]:
        known = self.vocabulary
        arrays: dict[str, NDArray[np.generic]] = {
            name: getattr(self, name) for name in ("clients", "offsets", *COLUMNS, "queries")
        }
        for name, words in (("sku", known.skus), ("url", known.urls)):
            arrays |= {f"{name}_ids": words.ids, f"{name}_known": words.known_at}
        arrays |= {f"catalogue_{f.name}": getattr(known.catalogue, f.name) for f in fields(Catalogue)}
        return arrays | {"cut": np.array(self.cut)}


def _write(array: NDArray[np.generic], path: Path) -> None:
    with path.open("wb") as stream:  # np.save would append .npy to the temporary name
        np.save(stream, array)


def tokenise(history: History, settings: TokenSettings, vocabulary: Vocabulary | None = None) -> Tokens:
    """The tokens of `history.clients`, before the history's cut.

    Args:
        history: where the events come from.
        settings: thresholds and duplicates.
        vocabulary: that of a fitted model; made from this history's events if None.
    """
    frame, queries = _merged(history, settings.collapse)
    client, time, kind, value = (frame[name].to_numpy() for name in ("client", "time", "kind", "value"))
    of_sku = np.isin(kind, [kind_code(k) for k in SKU_EVENTS])
    of_url = kind == kind_code(EventType.VISIT)
    if vocabulary is None:
        skus = Words.counted(value[of_sku], time[of_sku], settings.min_sku)
        urls = Words.counted(value[of_url], time[of_url], settings.min_url)
        vocabulary = Vocabulary(skus, urls, Catalogue.of(history, skus))

    def placed(where: NDArray[np.bool_], values: NDArray[np.int32]) -> NDArray[np.int32]:
        column = np.zeros(len(kind), dtype=np.int32)
        column[where] = values
        return column

    of_query = kind == kind_code(EventType.SEARCH)
    return Tokens(
        clients=history.clients,
        offsets=np.searchsorted(client, np.arange(len(history.clients) + 1)).astype(np.int64),
        time=time,
        kind=kind,
        sku=placed(of_sku, vocabulary.skus.index(value[of_sku])),
        product=placed(of_sku, vocabulary.catalogue.rows(value[of_sku])),
        url=placed(of_url, vocabulary.urls.index(value[of_url])),
        query=placed(of_query, value[of_query].astype(np.int32)),
        queries=queries,
        vocabulary=vocabulary,
        cut=microseconds(history.cut),
    )


def _merged(history: History, collapse: bool) -> tuple[pl.DataFrame, NDArray[np.uint8]]:
    """client (row), time, kind, value (sku, url, or row of the distinct queries) in order, and those queries."""
    parts = []
    queries = np.zeros((1, CODES), dtype=np.uint8)
    for kind in KINDS:
        events = (
            history.events(kind).select("client_id", pl.col("timestamp").cast(pl.Int64), kind.value_column).collect()
        )
        if kind is EventType.SEARCH:
            value, queries = _distinct(events[kind.value_column])
        else:
            value = events[kind.value_column].to_numpy()
        part = {
            "client": np.searchsorted(history.clients, events["client_id"].to_numpy()),
            "time": events["timestamp"].to_numpy(),
            "kind": np.full(len(events), kind_code(kind), dtype=np.uint8),
            "value": value.astype(np.int64),
        }
        parts.append(pl.DataFrame(part))
    key = ["client", "time", "kind", "value"]
    merged = pl.concat(parts).sort(key)
    return (merged.unique(key, keep="first", maintain_order=True) if collapse else merged), queries


def _distinct(queries: pl.Series) -> tuple[Int64s, NDArray[np.uint8]]:
    """Row of each query among the distinct ones (from 1), and those, sorted by their codes."""
    if len(queries) == 0:
        return np.empty(0, dtype=np.int64), np.zeros((1, CODES), dtype=np.uint8)
    codes = np.ascontiguousarray(queries.to_numpy())
    halves = codes.view(">u8").astype(np.uint64)  # big-endian: order of the numbers = order of the codes
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    ranked = halves[order]
    fresh = np.append(True, (ranked[1:] != ranked[:-1]).any(axis=1))
    row = np.empty(len(codes), dtype=np.int64)
    row[order] = np.cumsum(fresh)
    return row, np.concatenate([np.zeros((1, CODES), dtype=np.uint8), codes[order[fresh]]])
