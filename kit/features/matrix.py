"""Sparse client × thing matrices over a view's events, and exact products with them.

Sparse rows are multiplied in table order by SciPy in one thread, so they do not depend on the chunk. A dense product by BLAS
may round differently for another number of rows; `on_grid` makes its operands so short that nothing is rounded at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from kit.features.shared import ANY, active_days
from kit.history import History

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
GRID = 2.0**10
"""Components of unit vectors are rounded to 1 / GRID: a product of two takes 20 bits, and as partial sums of a product of
unit vectors stay within ±1, float32 holds every one of them exactly, in whatever order they are added."""


def client_rows(history: History, frame: pl.DataFrame) -> NDArray[np.int64]:
    """For every row of `frame` the position of its client in `history.clients`, int64 (n,)."""
    rows: NDArray[np.int64] = np.searchsorted(history.clients, frame["client_id"].to_numpy()).astype(np.int64)
    return rows


def client_matrix(
    history: History, frame: pl.DataFrame, index: NDArray[np.int64], weight: Floats, width: int
) -> sparse.csr_matrix:
    """Rows = `history.clients`; entry (client, index) holds the events' weights, one stored value per event.

    Args:
        frame: a table of the view, sorted by client_id.
        index: column of each event, int64 (n,); events with a negative index are left out.
        weight: of each event, (n,).
        width: number of columns.
    """
    kept = index >= 0
    rows = client_rows(history, frame)[kept]
    starts = np.searchsorted(rows, np.arange(len(history.clients) + 1))
    return sparse.csr_matrix((weight[kept], index[kept], starts), shape=(len(history.clients), width))


def client_sums(
    history: History, frame: pl.DataFrame, values: NDArray[np.floating], weight: Floats
) -> NDArray[np.float64]:
    """Weighted sums of the rows of `values` (n, d) per client, (clients, d)."""
    chooser = client_matrix(history, frame, np.arange(len(frame), dtype=np.int64), weight, len(frame))
    summed: NDArray[np.float64] = np.asarray(chooser @ values.astype(np.float64))
    return summed


def client_blocks(history: History, frame: pl.DataFrame, size: int = 50_000) -> Iterator[tuple[slice, slice]]:
    """(clients, events) slices of about `size` events that never split a client: bounds the memory of wide rows per event
    without changing the order in which a client's events are added up."""
    bounds = np.searchsorted(frame["client_id"].to_numpy(), history.clients)
    bounds = np.append(bounds, len(frame))
    first = 0
    while first < len(history.clients):
        stop = max(first + 1, int(np.searchsorted(bounds, bounds[first] + size, side="right")) - 1)
        yield slice(first, stop), slice(int(bounds[first]), int(bounds[stop]))
        first = stop


def day_matrix(history: History) -> sparse.csr_matrix:
    """Events per client and kind (rows: client position × (ANY + 1) + kind) and day before the cut (columns), sparse.

    Windows, trends and profiles over days are products of this matrix with a basis over days.
    """

    def fold() -> sparse.csr_matrix:
        days = active_days(history)
        rows = client_rows(history, days) * (ANY + 1) + days["kind"].to_numpy()
        height = len(history.clients) * (ANY + 1)
        starts = np.searchsorted(rows, np.arange(height + 1))
        entries = (days["n"].to_numpy().astype(np.float64), days["day"].to_numpy(), starts)
        return sparse.csr_matrix(entries, shape=(height, reach_days(history)))

    return history.here("matrix.days", fold)


def reach_days(history: History) -> int:
    """Days from the first event of anybody to the cut, rounded up."""
    return max(1, -((history.start() - history.cut) // timedelta(days=1)))


def over_days(history: History, basis: NDArray[np.floating]) -> Floats:
    """`day_matrix` times a basis (reach_days, k): (clients, ANY + 1, k)."""
    product = np.asarray(day_matrix(history) @ basis.astype(np.float64))
    return product.reshape(len(history.clients), ANY + 1, basis.shape[1])


def positions(values: pl.Series, known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each value in `known` (sorted, unique); -1 for nulls and strangers."""
    if len(known) == 0:
        return np.full(len(values), -1, dtype=np.int64)
    filled = values.fill_null(0).to_numpy()
    found = np.minimum(np.searchsorted(known, filled), len(known) - 1)
    hit = (known[found] == filled) & values.is_not_null().to_numpy()
    return np.where(hit, found, -1).astype(np.int64)


def item_positions(frame: pl.DataFrame) -> NDArray[np.int64]:
    """The `item` column of `touches` as int64, -1 for skus without properties."""
    return frame["item"].cast(pl.Int64).fill_null(-1).to_numpy()


def decayed_weight(age: pl.Series, half_life: float) -> Floats:
    """2^(-age / half_life) as a NumPy column."""
    weight: Floats = np.exp2(age.to_numpy() / -half_life)
    return weight


def unit(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows divided by their L2 norm; zero rows stay zero."""
    wide = values.astype(np.float64)
    norm = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    scaled: NDArray[np.float64] = wide / np.where(norm > 0, norm, 1.0)[:, None]
    return scaled


def on_grid(values: NDArray[np.floating]) -> Vectors:
    """Unit vectors rounded to multiples of 1 / GRID, float32: `on_grid(a) @ on_grid(b).T` is then exact."""
    rounded: Vectors = (np.trunc(values * GRID) / GRID).astype(np.float32)  # towards zero: the norm stays within 1
    return rounded


def exact_product(amounts: NDArray[np.floating], kernel: NDArray[np.floating]) -> Floats:
    """`amounts @ kernel`, the same for any split of the rows: operands are rounded to 2^-12 and 2^-14, so that sums below
    2^27 hold no rounding error that an order of adding could change. For |kernel| ≤ 1."""
    left = np.round(amounts.astype(np.float64) * 2.0**12) / 2.0**12
    right = np.round(kernel.astype(np.float64) * 2.0**14) / 2.0**14
    product: Floats = left @ right
    return product


def as_frame(history: History, values: NDArray[np.floating], names: Sequence[str]) -> pl.LazyFrame:
    """A family's result from a matrix (clients, len(names)) whose rows are `history.clients`."""
    columns = {name: values[:, k].astype(np.float32) for k, name in enumerate(names)}
    return pl.LazyFrame({"client_id": history.clients, **columns})
