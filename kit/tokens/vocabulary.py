"""Which ids have a word of their own, since when, and the catalogue that stands in for those that have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import CODES
from kit.history import History

Int64s = NDArray[np.int64]


def index_in(ids: Int64s, values: Int64s, order: Int64s | None = None) -> NDArray[np.int32]:
    """1 + position of each value in `ids`, 0 where it does not occur. `order` sorts `ids` if they are not sorted."""
    if len(ids) == 0:
        return np.zeros(len(values), dtype=np.int32)
    ranked = ids if order is None else ids[order]  # half the time of a search that jumps through `order`
    slot = np.minimum(np.searchsorted(ranked, values), len(ids) - 1)
    place = slot if order is None else order[slot]
    return np.where(ranked[slot] == values, place + 1, 0).astype(np.int32)


@dataclass(frozen=True)
class Words:
    """Ids with an index of their own, in the order in which they became known: `ids[i]` has index i + 1, 0 = none.

    An id becomes known with the event that brings its count to the threshold. Because the index follows that order, the words
    known before a cut are the indices 1 … live(cut), and the words of a rewound History are a prefix of these: one
    tokenisation at the last cut serves all earlier ones.

    Attributes:
        ids: raw ids, int64 (v,).
        known_at: instant at which each became known, microseconds, int64 (v,), ascending.
    """

    ids: Int64s
    known_at: Int64s

    @classmethod
    def counted(cls, values: Int64s, times: Int64s, threshold: int) -> Words:
        """Words of all values that occur at least `threshold` times; `times` are the occurrences' instants."""
        frame = pl.DataFrame({"value": values, "time": times}).sort("value", "time")
        value, time = frame["value"].to_numpy(), frame["time"].to_numpy()
        first = np.flatnonzero(np.diff(value, prepend=value[:1] - 1)) if len(value) else np.empty(0, dtype=np.int64)
        enough = first[np.diff(first, append=len(value)) >= threshold]
        ids, known = value[enough], time[enough + threshold - 1]
        order = np.lexsort((ids, known))
        return cls(ids[order].astype(np.int64), known[order].astype(np.int64))

    @classmethod
    def joined(cls, parts: Sequence[Words]) -> Words:
        """Words counted apart, each part over all occurrences of its own values."""
        ids, known = (np.concatenate([np.empty(0, dtype=np.int64), *column]) for column in _columns(parts))
        order = np.lexsort((ids, known))
        return cls(ids[order], known[order])

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _sorted(self) -> Int64s:
        return np.argsort(self.ids, kind="stable")

    def index(self, values: Int64s) -> NDArray[np.int32]:
        """Index 1 … v of each raw id, 0 where it has no word."""
        return index_in(self.ids, values, self._sorted)

    def live(self, cut: int | Int64s) -> Int64s:
        """How many words were known before the cut(s), microseconds: index i is live at a cut iff 0 < i <= live(cut)."""
        return np.asarray(np.searchsorted(self.known_at, cut, side="left"))


def _columns(parts: Sequence[Words]) -> tuple[list[Int64s], list[Int64s]]:
    return [part.ids for part in parts], [part.known_at for part in parts]


@dataclass(frozen=True)
class Catalogue:
    """Every product of product_properties, whether it was ever touched or not; row 0 stands for no product.

    Attributes:
        sku: raw ids, int64 (p + 1,), ascending from row 1; row 0 holds −1.
        category: index into `categories` + 1, 0 = none, int32 (p + 1,).
        price: bucket + 1, 0 = none, uint8 (p + 1,).
        codes: name codes, uint8 (p + 1, 16); zeros in row 0.
        word: index of the sku among the vocabulary's words, 0 = none, int32 (p + 1,).
        categories: raw category ids, int64 (c,), ascending.
    """

    sku: Int64s
    category: NDArray[np.int32]
    price: NDArray[np.uint8]
    codes: NDArray[np.uint8]
    word: NDArray[np.int32]
    categories: Int64s

    @classmethod
    def of(cls, history: History, skus: Words) -> Catalogue:
        """The history's catalogue. It carries no time, so it is the same at every cut but for `word`."""
        frame = history.always("tokens.products", lambda: _products(history))
        sku = frame["sku"].to_numpy()
        raw = frame["category"].fill_null(-1).to_numpy()
        categories = np.unique(raw[raw >= 0])
        price = frame["price"].fill_null(-1).to_numpy()
        codes = np.zeros((len(sku) + 1, CODES), dtype=np.uint8)
        if len(sku):
            codes[1:] = frame["name"].to_numpy()
        return cls(
            sku=np.append(np.int64(-1), sku),
            category=np.append(np.int32(0), index_in(categories, raw)).astype(np.int32),
            price=np.append(0, price + 1).astype(np.uint8),
            codes=codes,
            word=np.append(np.int32(0), skus.index(sku)).astype(np.int32),
            categories=categories,
        )

    def __len__(self) -> int:
        return len(self.sku) - 1

    def rows(self, skus: Int64s) -> NDArray[np.int32]:
        """Row 1 … p of each raw sku, 0 where it has no properties."""
        return index_in(self.sku[1:], skus)


def _products(history: History) -> pl.DataFrame:
    """One row per sku, sorted."""
    return history.products().sort("sku").collect()


@dataclass(frozen=True)
class Vocabulary:
    """What tokens may refer to: words for skus and urls, and the catalogue."""

    skus: Words
    urls: Words
    catalogue: Catalogue
