"""Training examples from many rewound cuts: what was known at each cut, and what happened in the windows after it.

cut − 6·stride … cut − 2·stride   cut − stride        cut
──────┤────────────────┤──────────────┤───────────────┤
      └─ near ──┘└── far ──┘   each as long as a target window (14 days in the challenge); every label lies before the cut,
                               every input before its own rewound cut
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import EventType
from kit.history import History
from kit.models.heads import HEADS
from kit.models.heads.ahead import Ahead, Labels
from kit.recipe import Strict
from kit.tokens import Catalogue, Tokens, microseconds

ITEM_HALF_LIFE_US = 14 * 86_400 * 1_000_000
ITEM_COLUMNS = 8


@dataclass(frozen=True)
class Future:
    """One rewound cut: its instant, what was known of products, and the labels of all clients.

    Attributes:
        history: everything before the cut.
        cut: microseconds.
        items: float32 (p, ITEM_COLUMNS), statistics of every product before the cut.
        labels: by head.
        purchases: how many pairs of client and product were bought after the cut.
    """

    history: History
    cut: int
    items: NDArray[np.float32]
    labels: dict[str, Labels]
    purchases: int


def rewound_futures(
    history: History, tokens: Tokens, cuts: int, stride: int, heads: Mapping[str, Strict]
) -> list[Future]:
    """Futures of the cuts `stride`, 2·`stride` … days before the history's cut, latest first, with the labels of `heads`.

    Cuts before the first event of anybody are left out.
    """
    futures = []
    for k in range(1, cuts + 1):
        past, window = history.rewind(stride * k)
        if len(tokens.time) == 0 or microseconds(past.cut) <= int(tokens.time.min()):
            break
        ahead = Ahead(past, window, tokens)
        labels = {kind: HEADS.loaded()[kind].labels(ahead, settings) for kind, settings in heads.items()}
        items = item_statistics(past, tokens.vocabulary.catalogue)
        purchases = len(ahead.positives(EventType.BUY).row)
        futures.append(Future(past, microseconds(past.cut), items, labels, purchases))
    return futures


def item_statistics(history: History, catalogue: Catalogue) -> NDArray[np.float32]:
    """What everybody's events before the cut say of each product, float32 (p, ITEM_COLUMNS).

    Columns: log1p of purchases and of cart adds, decayed by 14 days and over all time; days since the product was first
    touched, as log1p; never touched; never bought; removals over cart adds.
    """
    size, cut = len(catalogue) + 1, microseconds(history.cut)
    first = np.full(size, np.inf)
    recent, ever = {}, {}
    for kind in (EventType.BUY, EventType.CART, EventType.REMOVE):
        events = history.everyone(kind).select("sku", pl.col("timestamp").cast(pl.Int64)).collect()
        product, age = catalogue.rows(events["sku"].to_numpy()), cut - events["timestamp"].to_numpy()
        order = np.lexsort((age, product))  # sums must not depend on the order of rows in the file
        product, age = product[order], age[order]
        recent[kind] = np.bincount(product, weights=np.exp2(-age / ITEM_HALF_LIFE_US), minlength=size)
        ever[kind] = np.bincount(product, minlength=size).astype(np.float64)
        np.minimum.at(first, product, -age.astype(np.float64))
    days = np.where(np.isfinite(first), -first / 86_400e6, 0)
    carts = np.maximum(ever[EventType.CART], 1)
    columns = [
        *(np.log1p(table[kind]) for table in (recent, ever) for kind in (EventType.BUY, EventType.CART)),
        np.log1p(days),
        ~np.isfinite(first),
        ever[EventType.BUY] == 0,
        np.minimum(ever[EventType.REMOVE] / carts, 1),
    ]
    return np.stack(columns, axis=1).astype(np.float32)[1:]
