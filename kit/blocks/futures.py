"""Training examples from many rewound cuts: what was known at each cut, and what happened in the windows after it.

cut − 6·stride … cut − 2·stride   cut − stride        cut
──────┤────────────────┤──────────────┤───────────────┤
      └ near 14 d ┘└ far 14 d ┘   every label lies before the cut, every input before its own rewound cut
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import TARGET_DAYS, EventType
from kit.history import History, Window
from kit.models.combined import ACTIONS, INTENSITIES
from kit.tokens import Catalogue, Tokens, microseconds

ITEM_HALF_LIFE_US = 14 * 86_400 * 1_000_000
ITEM_COLUMNS = 8
ACTION_EVENTS = {"buy": EventType.BUY, "cart": EventType.CART}


@dataclass(frozen=True)
class Positives:
    """What clients did in the windows after a cut: one entry per client and product, sorted by client row.

    Attributes:
        row: client row, int64 (m,), ascending.
        product: catalogue row, int64 (m,), > 0.
    """

    row: NDArray[np.int64]
    product: NDArray[np.int64]


@dataclass(frozen=True)
class Future:
    """One rewound cut: its instant, what was known of products, and the labels of all clients.

    Attributes:
        history: everything before the cut.
        cut: microseconds.
        items: float32 (p, ITEM_COLUMNS), statistics of every product before the cut.
        intensity: float32 (n, 4), labels of INTENSITIES.
        known: bool (n, 4), where a label is defined (the far window may reach past the last cut).
        positives: per action.
    """

    history: History
    cut: int
    items: NDArray[np.float32]
    intensity: NDArray[np.float32]
    known: NDArray[np.bool_]
    positives: dict[str, Positives]


def rewound_futures(history: History, tokens: Tokens, cuts: int, stride: int) -> list[Future]:
    """Futures of the cuts `stride`, 2·`stride` … days before the history's cut, latest first.

    Cuts before the first event of anybody are left out.
    """
    futures = []
    for k in range(1, cuts + 1):
        past, window = history.rewind(stride * k)
        if len(tokens.time) == 0 or microseconds(past.cut) <= int(tokens.time.min()):
            break
        futures.append(_future(past, window, tokens))
    return futures


def _future(past: History, window: Window, tokens: Tokens) -> Future:
    n = len(tokens.clients)
    near_stop = min(window.start + timedelta(days=TARGET_DAYS), window.stop)
    far_stop = window.start + timedelta(days=2 * TARGET_DAYS)
    near = _buyers(window, EventType.BUY, window.start, near_stop, tokens)
    far = _buyers(window, EventType.BUY, near_stop, min(far_stop, window.stop), tokens)
    carts = _buyers(window, EventType.CART, window.start, near_stop, tokens)
    whole_near = near_stop == window.start + timedelta(days=TARGET_DAYS)
    bought = past.events(EventType.BUY).select(pl.col("client_id").unique()).collect()["client_id"].to_numpy()
    known = np.ones((n, len(INTENSITIES)), dtype=bool)
    known[:, :] = whole_near
    known[:, INTENSITIES.index("far")] = far_stop <= window.stop
    known[:, INTENSITIES.index("return")] &= np.isin(tokens.clients, bought)
    labels = np.stack([near, far, carts, near], axis=1).astype(np.float32)
    positives = {name: _positives(window, ACTION_EVENTS[name], min(far_stop, window.stop), tokens) for name in ACTIONS}
    return Future(
        past, microseconds(past.cut), item_statistics(past, tokens.vocabulary.catalogue), labels, known, positives
    )


def _buyers(window: Window, kind: EventType, start: datetime, stop: datetime, tokens: Tokens) -> NDArray[np.bool_]:
    """Which clients have an event of this kind in [start, stop), bool (n,)."""
    inside = (pl.col("timestamp") >= start) & (pl.col("timestamp") < stop)
    clients = window.events(kind).filter(inside).select(pl.col("client_id").unique()).collect()["client_id"].to_numpy()
    return np.isin(tokens.clients, clients)


def _positives(window: Window, kind: EventType, stop: datetime, tokens: Tokens) -> Positives:
    pairs = (
        window.events(kind)
        .filter(pl.col("timestamp") < stop)
        .select("client_id", "sku")
        .unique()
        .sort("client_id", "sku")
        .collect()
    )
    product = tokens.vocabulary.catalogue.rows(pairs["sku"].to_numpy()).astype(np.int64)
    row = np.searchsorted(tokens.clients, pairs["client_id"].to_numpy())
    return Positives(row[product > 0], product[product > 0])


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
