"""All five event tables of a History as one flat array per field, sorted by client, time, kind and value.

A client's sequence at an earlier cut is the prefix of its tokens with time < cut: one tokenisation at the last cut serves all
rewound ones (`Words` says how ids that were not known by then are told apart).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kit.arrays import read_array, save_arrays, where
from kit.challenge import EventType
from kit.errors import KitError
from kit.recipe import Strict
from kit.tokens.vocabulary import Catalogue, Int64s, Vocabulary, Words

KINDS: Final = tuple(EventType)
"""Event types in the order of their codes: KINDS[i] has code i + 1; 0 is padding."""
CUT_KIND: Final = len(KINDS) + 1
"""Kind of the token that may stand for the cut itself at the end of a batch's sequence."""
EPOCH: Final = datetime(1970, 1, 1)
COLUMNS: Final = ("time", "kind", "sku", "product", "url", "query")
FLAT: Final = ("clients", "offsets", *COLUMNS, "queries")


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

    @property
    def category(self) -> NDArray[np.int32]:
        """Category index of every token, 0 = none, int32 (N,); made anew at each call."""
        return self.vocabulary.catalogue.category[self.product]

    @property
    def price(self) -> NDArray[np.uint8]:
        """Price bucket + 1 of every token, 0 = none, uint8 (N,); made anew at each call."""
        return self.vocabulary.catalogue.price[self.product]

    def owners(self, at: Int64s) -> NDArray[np.int32]:
        """Row of the client of each of these tokens, int32, shaped as `at`."""
        return (np.searchsorted(self.offsets, at, side="right") - 1).astype(np.int32)

    @cached_property
    def touches(self) -> Tokens:
        """The tokens that name a product (purchases, cart adds and removals), in memory: few beside the page visits."""
        return self.only(where(self.product, lambda product: product > 0))

    def only(self, at: Int64s) -> Tokens:
        """The tokens at these places, ascending; clients without any stay, with none."""
        offsets = np.searchsorted(at, self.offsets).astype(np.int64)
        return replace(self, offsets=offsets, **{name: getattr(self, name)[at] for name in COLUMNS})

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
        save_arrays(folder, self._arrays())

    @classmethod
    def load(cls, folder: Path, vocabulary: Vocabulary | None = None, *, mapped: bool = True) -> Tokens:
        """What `save` or `tokenise` wrote.

        Args:
            folder: where the files lie.
            vocabulary: the one that the tokens were made with, where it is not among the files.
            mapped: arrays are read-only views of the files, of which the system holds in memory what is in use.

        Raises:
            KitError: a file is missing.
        """

        def read(name: str) -> NDArray[Any]:
            path = folder / f"{name}.npy"
            if not path.exists():
                raise KitError(f"{path} is missing: the tokens in {folder} are not whole.", "Make them again.")
            return read_array(path, mapped=mapped)

        if vocabulary is None:
            vocabulary = vocabulary_of(read)
        flat = {name: read(name) for name in FLAT}
        return cls(**flat, vocabulary=vocabulary, cut=int(read("cut")))

    def _arrays(self) -> Mapping[str, NDArray[np.generic]]:
        arrays: dict[str, NDArray[np.generic]] = {name: getattr(self, name) for name in FLAT}
        return arrays | vocabulary_arrays(self.vocabulary) | {"cut": np.array(self.cut)}


def vocabulary_of(read: Callable[[str], NDArray[Any]]) -> Vocabulary:
    """The vocabulary whose arrays `read(name)` gives, named as by `vocabulary_arrays`."""
    skus, urls = (Words(read(f"{name}_ids"), read(f"{name}_known")) for name in ("sku", "url"))
    return Vocabulary(skus, urls, Catalogue(**{f.name: read(f"catalogue_{f.name}") for f in fields(Catalogue)}))


def vocabulary_arrays(vocabulary: Vocabulary) -> dict[str, NDArray[np.generic]]:
    """A vocabulary's arrays under the names of their files."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, words in (("sku", vocabulary.skus), ("url", vocabulary.urls)):
        arrays |= {f"{name}_ids": words.ids, f"{name}_known": words.known_at}
    return arrays | {f"catalogue_{f.name}": getattr(vocabulary.catalogue, f.name) for f in fields(Catalogue)}
