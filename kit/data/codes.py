"""What the 16 x 256 codes are: product- or residual-quantised, and whether queries and names share one quantiser.

Two measurements. (1) Mutual information between each code and the product's category: about equal over the
positions means a product quantiser (positions are exchangeable parts), falling means a residual one (a prefix says most).
(2) Agreeing positions between a query and the name of the product carted within 30 minutes, against the same queries with
names of other pairs: only if the interval of the difference excludes 0 may both look their codes up in the same table.

Technique E1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import CODE_VALUES, CODES, EventType
from kit.data.layout import DataFolder
from kit.data.scan import scan_events, scan_products
from kit.errors import KitError

MINUTES: Final = 30
MOST_PAIRS: Final = 200_000
"""About so many pairs are looked at."""
RESAMPLES: Final = 1000
FLAT: Final = 0.5
"""If the second half of the positions tells at least this share of what the first half tells, the codes count as flat."""
LEAST: Final = 100
"""Products or clients below which nothing is concluded."""
PERMUTATIONS: Final = 5


@dataclass(frozen=True)
class CodeReport:
    """What was measured.

    Attributes:
        information: I(code_m; category) in bits for m = 1 … 16, less its mean under permuted categories; None without categories.
        products: products it was measured on.
        kind: `product`, `residual` or `unknown` (no codes that tell the category, or too few products).
        pairs: (query, carted name) pairs within 30 minutes.
        agreeing: mean number of agreeing positions, of 16.
        by_chance: the same for permuted pairs.
        interval: 95 % interval of the difference, by bootstrap over clients.
        shared: whether the interval lies above 0; None with fewer than 100 clients.
    """

    information: tuple[float, ...] | None
    products: int
    kind: str
    pairs: int
    agreeing: float | None
    by_chance: float | None
    interval: tuple[float, float] | None
    shared: bool | None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(self.__dict__)


def describe_codes(root: Path, seed: int = 0) -> CodeReport:
    """Measure the codes of a data folder, on its input events if it has been split (else on all).

    Raises:
        KitError: product_properties is missing or unreadable.
    """
    folder = DataFolder(root)
    rng = np.random.default_rng(seed)
    products = scan_products(folder.products).sort("sku").collect()
    if products.is_empty():
        raise KitError(f"{folder.products} holds no product.", "Check the folder with `kit data check`.")
    known = products.drop_nulls(["category", "name"])
    information = code_information(known["name"].to_numpy(), known["category"].to_numpy(), rng) if len(known) else None
    client, query, name = searched_then_carted(folder, products)
    agreeing = by_chance = interval = shared = None
    if len(client):
        same, chance = (query == name).sum(axis=1), _permuted_agreement(client, query, name, rng)
        agreeing, by_chance = float(same.mean()), float(chance.mean())
        interval = _bootstrap(client, same - chance, rng)
        shared = interval[0] > 0 if len(np.unique(client)) >= LEAST else None
    return CodeReport(
        information=None if information is None else tuple(round(float(bits), 4) for bits in information),
        products=len(known),
        kind=_kind(information, len(known)),
        pairs=len(client),
        agreeing=agreeing,
        by_chance=by_chance,
        interval=interval,
        shared=shared,
    )


def code_information(codes: NDArray[np.uint8], category: NDArray[np.int64], rng: np.random.Generator) -> NDArray[Any]:
    """I(code_m; category) in bits per position, (16,), less what permuted categories give (small samples look informative)."""
    _, label = np.unique(category, return_inverse=True)
    found = np.array([mutual_information(codes[:, m], label) for m in range(CODES)])
    chance = [
        [mutual_information(codes[:, m], shuffled) for m in range(CODES)]
        for shuffled in (rng.permutation(label) for _ in range(PERMUTATIONS))
    ]
    return np.asarray(found - np.mean(chance, axis=0))


def mutual_information(code: NDArray[np.uint8], label: NDArray[np.int64]) -> float:
    """I(code; label) in bits from their joint counts; labels are 0 … k − 1."""
    joint, times = np.unique(label.astype(np.int64) * CODE_VALUES + code, return_counts=True)
    p = times / times.sum()
    p_code = np.bincount(code, minlength=CODE_VALUES) / len(code)
    p_label = np.bincount(label) / len(label)
    return float((p * np.log2(p / (p_code[joint % CODE_VALUES] * p_label[joint // CODE_VALUES]))).sum())


def searched_then_carted(
    folder: DataFolder, products: pl.DataFrame
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint8]]:
    """client (m,), query codes (m, 16), name codes (m, 16): each cart add with its client's last query within 30 minutes."""
    paths = [_events(folder, kind) for kind in (EventType.SEARCH, EventType.CART)]
    nothing = np.empty(0, dtype=np.int64), np.empty((0, CODES), dtype=np.uint8), np.empty((0, CODES), dtype=np.uint8)
    if not all(path.exists() for path in paths):
        return nothing
    names = products.lazy().select("sku", "name").drop_nulls()
    carts = scan_events(paths[1], EventType.CART).unique().join(names, on="sku", how="inner")
    searches = (
        scan_events(paths[0], EventType.SEARCH)
        .drop_nulls()
        .join(carts.select("client_id").unique(), on="client_id", how="semi")
    )
    found = (
        carts.sort("timestamp", "client_id", "sku")
        .join_asof(
            searches.sort("timestamp"),
            on="timestamp",
            by="client_id",
            strategy="backward",
            tolerance=f"{MINUTES}m",
            check_sortedness=False,
        )
        .drop_nulls("query")
        .collect()
    )
    if found.is_empty():
        return nothing
    # Whole clients by the hash of their id, not the first pairs: those would all be of the earliest weeks.
    pairs = found.filter(pl.col("client_id").hash(0) % (len(found) // MOST_PAIRS + 1) == 0)
    return pairs["client_id"].to_numpy(), pairs["query"].to_numpy(), pairs["name"].to_numpy()


def _events(folder: DataFolder, kind: EventType) -> Path:
    return folder.input(kind) if folder.input(kind).exists() else folder.raw(kind)


def _permuted_agreement(
    client: NDArray[np.int64], query: NDArray[np.uint8], name: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Mean agreement of each query with names drawn from all pairs."""
    drawn = [(query == name[rng.permutation(len(client))]).sum(axis=1) for _ in range(PERMUTATIONS)]
    return np.asarray(np.mean(drawn, axis=0))


def _bootstrap(client: NDArray[np.int64], value: NDArray[Any], rng: np.random.Generator) -> tuple[float, float]:
    """95 % interval of the mean of `value`, clients drawn with replacement."""
    _, row = np.unique(client, return_inverse=True)
    total, count = np.bincount(row, weights=value), np.bincount(row)
    even, means = np.full(len(total), 1 / len(total)), np.empty(RESAMPLES)
    for i in range(RESAMPLES):  # one at a time: all draws together would take RESAMPLES numbers a client
        drawn = rng.multinomial(len(total), even)
        means[i] = (drawn @ total) / (drawn @ count)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _kind(information: NDArray[Any] | None, products: int) -> str:
    """Flat over the positions: product; falling: residual."""
    if information is None or products < LEAST or information.max() < 0.02:
        return "unknown"
    first, second = information[: CODES // 2].mean(), information[CODES // 2 :].mean()
    return "product" if second >= FLAT * first else "residual"
