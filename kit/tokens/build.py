"""Tokens from a History in bounded memory: ranges of clients one after the other, arrays appended to flat files.

Events come sorted by client, so the tokens of a range of clients are a stretch of the arrays, whatever the range. Ids get
their indices in a second pass, when it is known which of them have a word: counted by residues of the ids, so that no pass
holds more than a part of the occurrences. The bytes do not depend on the ranges.

Technique A2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.arrays import BLOCK, Growing, blocks, digest_of, read_array, save_arrays
from kit.challenge import CODES, SKU_EVENTS, EventType
from kit.history import History
from kit.progress import progress
from kit.tokens.table import (
    KINDS,
    Tokens,
    TokenSettings,
    kind_code,
    microseconds,
    vocabulary_arrays,
)
from kit.tokens.vocabulary import Catalogue, Int64s, Vocabulary, Words

CHUNK: Final = 50_000
"""Clients whose events are sorted at a time."""
SKU_CODES: Final = tuple(kind_code(kind) for kind in SKU_EVENTS)
URL_CODES: Final = (kind_code(EventType.VISIT),)


def tokenise(history: History, settings: TokenSettings, vocabulary: Vocabulary | None = None) -> Tokens:
    """The tokens of `history.clients` before the history's cut, as files of the store mapped into memory.

    Args:
        history: where the events come from.
        settings: thresholds and duplicates.
        vocabulary: that of a fitted model; made from this history's events if None.
    """
    given = None if vocabulary is None else digest_of(*vocabulary_arrays(vocabulary).values())
    inputs = {"settings": settings.model_dump(mode="json"), "vocabulary": given}
    folder = history.keep("tokens", inputs, lambda folder: write_tokens(folder, history, settings, vocabulary))
    return Tokens.load(folder, vocabulary)


def write_tokens(
    folder: Path,
    history: History,
    settings: TokenSettings,
    vocabulary: Vocabulary | None = None,
    *,
    chunk: int = CHUNK,
    block: int = BLOCK,
) -> None:
    """What `Tokens.load` reads; without the vocabulary's files if one is given.

    Args:
        folder: where to; it exists.
        history, settings, vocabulary: as for `tokenise`.
        chunk: clients sorted at a time.
        block: tokens looked up, and occurrences counted, at a time.
    """
    value_file = folder / "value.npy"
    rows, queries = _distinct(history)
    offsets, counts = _write_events(folder, value_file, history, rows, settings.collapse, chunk)
    value, time, kind = (read_array(folder / f"{name}.npy") for name in ("value", "time", "kind"))
    if vocabulary is None:
        parts = [max(1, math.ceil(counts[list(codes)].sum() / block)) for codes in (SKU_CODES, URL_CODES)]
        skus = _words(value, time, kind, SKU_CODES, settings.min_sku, parts[0], block)
        urls = _words(value, time, kind, URL_CODES, settings.min_url, parts[1], block)
        vocabulary = Vocabulary(skus, urls, Catalogue.of(history, skus))
        save_arrays(folder, vocabulary_arrays(vocabulary))
    _write_indices(folder, value, kind, vocabulary, block)
    value_file.unlink()
    cut = np.array(microseconds(history.cut))
    save_arrays(folder, {"clients": history.clients, "offsets": offsets, "queries": queries, "cut": cut})


def _write_events(
    folder: Path, value_file: Path, history: History, queries: NDArray[np.int32], collapse: bool, chunk: int
) -> tuple[Int64s, Int64s]:
    """First pass: time.npy, kind.npy and the raw values; returns the clients' offsets and the number of tokens per kind."""
    sizes, counts, searched = [np.zeros(1, dtype=np.int64)], np.zeros(len(KINDS) + 1, dtype=np.int64), 0
    with ExitStack() as stack:
        time, kind = (
            stack.enter_context(Growing(folder / f"{name}.npy", dtype))
            for name, dtype in (("time", "i8"), ("kind", "u1"))
        )
        value = stack.enter_context(Growing(value_file, "i8"))
        advance = stack.enter_context(progress("tokens", len(history.clients), "clients"))
        for part in history.chunks(chunk):
            frame, searches = _merged(part, queries[searched:], collapse)
            searched += searches
            time.append(frame["time"].to_numpy())
            kind.append(frame["kind"].to_numpy())
            value.append(frame["value"].to_numpy())
            sizes.append(np.bincount(frame["client"].to_numpy(), minlength=len(part.clients)))
            counts += np.bincount(frame["kind"].to_numpy(), minlength=len(counts))
            advance(len(part.clients))
    return np.cumsum(np.concatenate(sizes)).astype(np.int64), counts


def _merged(history: History, queries: NDArray[np.int32], collapse: bool) -> tuple[pl.DataFrame, int]:
    """client (row), time, kind, value (sku, url, or row of the distinct queries) in order; how many searches there are.

    Args:
        history: a range of clients.
        queries: the rows of its searches among the distinct ones, in the order of the table; more may follow.
        collapse: exact duplicates become one.
    """
    parts, searches = [], 0
    for kind in KINDS:
        search = kind is EventType.SEARCH
        columns = ["client_id", pl.col("timestamp").cast(pl.Int64), *([] if search else [kind.value_column])]
        events = history.events(kind).select(columns).collect()
        if search:
            searches = len(events)
        value = queries[:searches] if search else events[kind.value_column].to_numpy()
        part = {
            "client": np.searchsorted(history.clients, events["client_id"].to_numpy()),
            "time": events["timestamp"].to_numpy(),
            "kind": np.full(len(events), kind_code(kind), dtype=np.uint8),
            "value": value.astype(np.int64),
        }
        parts.append(pl.DataFrame(part))
    merged = pl.concat(parts).sort("client", "time", "kind", maintain_order=True)  # ties of a kind stay in file order
    return (merged.unique(keep="first", maintain_order=True) if collapse else merged), searches


def _distinct(history: History) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Row of each search's query among the distinct ones (from 1), in the order of the table, and those, sorted by their codes.

    The one table that is read whole: 16 bytes a search.
    """
    column = history.events(EventType.SEARCH).select("query").collect()["query"]
    if len(column) == 0:
        return np.empty(0, dtype=np.int32), np.zeros((1, CODES), dtype=np.uint8)
    codes = np.ascontiguousarray(column.to_numpy())
    halves = codes.view(">u8").astype(np.uint64)  # big-endian: order of the numbers = order of the codes
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    ranked = halves[order]
    fresh = np.append(True, (ranked[1:] != ranked[:-1]).any(axis=1))
    row = np.empty(len(codes), dtype=np.int32)
    row[order] = np.cumsum(fresh)
    return row, np.concatenate([np.zeros((1, CODES), dtype=np.uint8), codes[order[fresh]]])


def _words(
    value: Int64s, time: Int64s, kind: NDArray[np.uint8], codes: Sequence[int], threshold: int, parts: int, block: int
) -> Words:
    """The words of some kinds' values: `parts` passes, each over the values of one residue."""
    found = []
    for residue in range(parts):
        picked = []
        for at in blocks(len(value), block):
            mine = np.isin(kind[at], codes)
            if parts > 1:
                mine &= value[at] % parts == residue
            picked.append((value[at][mine], time[at][mine]))
        values, times = (np.concatenate([np.empty(0, dtype=np.int64), *column]) for column in _transposed(picked))
        found.append(Words.counted(values, times, threshold))
    return Words.joined(found)


def _transposed(pairs: Sequence[tuple[Int64s, Int64s]]) -> tuple[list[Int64s], list[Int64s]]:
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _write_indices(folder: Path, value: Int64s, kind: NDArray[np.uint8], vocabulary: Vocabulary, block: int) -> None:
    """Second pass: sku.npy, product.npy, url.npy, query.npy from the raw values."""
    lookups = {
        "sku": (SKU_CODES, vocabulary.skus.index),
        "product": (SKU_CODES, vocabulary.catalogue.rows),
        "url": (URL_CODES, vocabulary.urls.index),
        "query": ((kind_code(EventType.SEARCH),), lambda rows: rows.astype(np.int32)),
    }
    for name, (codes, look_up) in lookups.items():
        with Growing(folder / f"{name}.npy", "i4") as column:
            for at in blocks(len(value), block):
                mine = np.isin(kind[at], codes)
                indices = np.zeros(len(mine), dtype=np.int32)
                indices[mine] = look_up(value[at][mine])
                column.append(indices)
