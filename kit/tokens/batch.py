"""Padded batches of token sequences, by index arithmetic: no loop over clients or events.

Technique A4.

NOTE[DIFF]: time and gaps are the only context; the data have neither device nor place.
"""

from __future__ import annotations

from typing import Final, TypedDict

import numpy as np
from numpy.typing import NDArray

from kit.challenge import CODES
from kit.tokens.table import CUT_KIND, Tokens
from kit.tokens.vocabulary import Int64s

SECOND: Final = 1_000_000
HOUR: Final = 3600 * SECOND
WEEK_HOURS: Final = 168
MONDAY: Final = 72
"""1970 began on a Thursday, three days into a week that starts on Monday."""
GAP_BUCKETS: Final = 56
"""Log gap: 0 padding, 1 first event ever, 2 + ⌊2·log2(1 + seconds)⌋: half octaves up to 155 days and more."""
HOUR_BUCKETS: Final = WEEK_HOURS + 1
"""Hour of the week: 0 padding, 1 = Monday 0 h … 168."""
AGE_BUCKETS: Final = 32
"""Log age: 0 padding, 1 + ⌊2·log2(1 + hours before the cut)⌋."""


class SequenceBatch(TypedDict):
    """B sequences of at most T tokens. They begin in column 0 and padding follows, so causal attention never meets it.

    Padding is 0 in every field. Ids that were not known before the row's own cut are 0 too.
    """

    kind: NDArray[np.int32]
    """(B, T)"""
    sku: NDArray[np.int32]
    product: NDArray[np.int32]
    category: NDArray[np.int32]
    price: NDArray[np.int32]
    url: NDArray[np.int32]
    gap: NDArray[np.int32]
    hour: NDArray[np.int32]
    age: NDArray[np.int32]
    time: Int64s
    """(B, T) microseconds; the last token's time is repeated in the padding."""
    mask: NDArray[np.bool_]
    """(B, T) True where there is a token."""
    size: Int64s
    """(B,) tokens per row, the one for the cut included; may be 0."""
    position: Int64s
    """(B, T) index into the flat arrays of Tokens, −1 in the padding and for the token of the cut."""
    live_sku: Int64s
    """(B,) sku words known before the row's cut: word w is live iff w <= live_sku."""
    codes: NDArray[np.uint8]
    """(M, 16) codes of those tokens that have some: the product's name or the query."""
    coded: Int64s
    """(M,) where they belong in the flattened (B · T) tokens."""
    asked: NDArray[np.bool_]
    """(M,) True for queries, False for names."""


def sequence_batch(
    tokens: Tokens,
    rows: Int64s,
    cut: int | Int64s | None = None,
    length: int = 128,
    width: int | None = None,
    anchor: bool = False,
) -> SequenceBatch:
    """The last `length` tokens before the cut of each of these clients.

    Args:
        tokens: a tokenisation whose cut is not before `cut`.
        rows: clients by row, int64 (B,); the same row may occur twice (at different cuts).
        cut: microseconds, one for all or one per row; the tokens' own cut if None.
        length: longest sequence.
        width: T; as small as fits the longest sequence if None.
        anchor: end every sequence with a token of CUT_KIND at the cut: its gap says how long the client has been silent, and
            its state is one that knows the cut. It comes on top of `length`; a client without tokens has it alone.

    Raises:
        ValueError: a cut lies after the tokens' own.
    """
    cuts = np.broadcast_to(np.asarray(tokens.cut if cut is None else cut, dtype=np.int64), (len(rows),))
    if len(cuts) and int(cuts.max()) > tokens.cut:
        raise ValueError("a batch was asked for a cut after that of the tokens")
    first = tokens.offsets[rows]
    stop = tokens.stops(rows, cuts)
    size = np.minimum(stop - first, length)
    span = np.arange(width if width is not None else max(int(size.max(initial=0)) + anchor, 1))
    mask = span < size[:, None]
    position = np.where(mask, (stop - size)[:, None] + span, -1)
    batch = _batch(tokens, first, cuts, size, mask, position)
    if anchor:
        _add_anchors(batch, cuts)
    return batch


def _batch(
    tokens: Tokens, first: Int64s, cuts: Int64s, size: Int64s, mask: NDArray[np.bool_], position: Int64s
) -> SequenceBatch:
    """The fields of tokens at `position` (B, T) where `mask` is true; `first`, `cuts`, `size` (B,): a row's first token ever, its
    cut, its tokens here."""
    at = position[mask]
    row = np.nonzero(mask)[0]

    def padded(values: NDArray[np.generic]) -> NDArray[np.int32]:
        out = np.zeros(mask.shape, dtype=np.int32)
        out[mask] = values
        return out

    words = tokens.vocabulary
    live_sku, live_url = words.skus.live(cuts), words.urls.live(cuts)
    sku, url, time, product, query = (getattr(tokens, name)[at] for name in ("sku", "url", "time", "product", "query"))
    begins = at == first[row]
    gap = (time - tokens.time[np.maximum(at - 1, 0)]) // SECOND
    age = (cuts[row] - time) / HOUR
    coded, asked, codes = _codes(tokens, product, query)
    return SequenceBatch(
        kind=padded(tokens.kind[at]),
        sku=padded(np.where(sku <= live_sku[row], sku, 0)),
        product=padded(product),
        category=padded(words.catalogue.category[product]),
        price=padded(words.catalogue.price[product]),
        url=padded(np.where(url <= live_url[row], url, 0)),
        gap=padded(np.where(begins, 1, gap_bucket(gap))),
        hour=padded(1 + (time // HOUR + MONDAY) % WEEK_HOURS),
        age=padded(np.minimum(1 + (2 * np.log2(1 + age)).astype(np.int64), AGE_BUCKETS - 1)),
        time=_times(time, mask, size),
        mask=mask,
        size=size,
        position=position,
        live_sku=live_sku,
        codes=codes,
        coded=np.flatnonzero(mask.ravel())[coded],
        asked=asked,
    )


def _codes(
    tokens: Tokens, product: NDArray[np.integer], query: NDArray[np.integer]
) -> tuple[Int64s, NDArray[np.bool_], NDArray[np.uint8]]:
    """Of tokens with these products and queries, (N,) both: which M have codes, whether a query's, and the (M, 16) codes."""
    coded = np.flatnonzero((product > 0) | (query > 0))
    asked = query[coded] > 0
    codes = np.zeros((len(coded), CODES), dtype=np.uint8)
    codes[asked] = tokens.queries[query[coded][asked]]
    codes[~asked] = tokens.vocabulary.catalogue.codes[product[coded][~asked]]
    return coded, asked, codes


def _times(time: Int64s, mask: NDArray[np.bool_], size: Int64s) -> Int64s:
    """(B, T) times of the tokens, the row's last one repeated in its padding."""
    times = np.zeros(mask.shape, dtype=np.int64)
    times[mask] = time
    last = times[np.arange(len(size)), np.maximum(size - 1, 0)] if len(size) else times[:, 0]
    return np.where(mask, times, last[:, None])


def _add_anchors(batch: SequenceBatch, cuts: Int64s) -> None:
    """Put a token for the cut after the last one of every row, in place."""
    row, column = np.arange(len(cuts)), batch["size"]
    silent = (cuts - batch["time"][row, np.maximum(column - 1, 0)]) // SECOND
    batch["kind"][row, column] = CUT_KIND
    batch["gap"][row, column] = np.where(column > 0, gap_bucket(silent), 1)
    batch["time"][row, column] = cuts
    later = np.arange(batch["mask"].shape[1]) > column[:, None]
    batch["time"] = np.where(later, cuts[:, None], batch["time"])
    batch["mask"][row, column] = True
    batch["size"] = column + 1


def gap_bucket(seconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """2 + half octaves of 1 + seconds, at most GAP_BUCKETS − 1."""
    return np.minimum(2 + (2 * np.log2(1.0 + np.maximum(seconds, 0))).astype(np.int64), GAP_BUCKETS - 1)


def length_buckets(
    sizes: Int64s, budget: int, rng: np.random.Generator | None = None, most: int = 4096, jitter: float = 0.05
) -> list[Int64s]:
    """Groups of rows of similar length, each at most `budget` padded tokens; rows of length 0 are left out.

    Args:
        sizes: tokens per row, already capped at the longest sequence, int64 (n,).
        budget: padded tokens (B · T) per batch.
        rng: draws how ties are broken and the order of the batches; without it the order is by length, then row.
        most: rows per batch at most.
        jitter: lengths are perturbed by up to this share before sorting, so that batches differ between epochs.
    """
    rows = np.flatnonzero(sizes > 0)
    if rng is None:
        ranked = rows[np.argsort(-sizes[rows], kind="stable")]
    else:
        noise = 1.0 + jitter * rng.random(len(rows))
        ranked = rows[np.lexsort((rng.random(len(rows)), -sizes[rows] * noise))]
    batches, at = [], 0
    longest = sizes[ranked]
    while at < len(ranked):
        ahead = np.maximum.accumulate(longest[at : at + most])
        fits = int(np.searchsorted(ahead * np.arange(1, len(ahead) + 1), budget, side="right"))
        batches.append(ranked[at : at + max(fits, 1)])
        at += max(fits, 1)
    if rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches
