"""Worlds of whole data folders, for blocks: two co-purchase communities, and tastes that drift."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from planted.bench import world
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from kit.challenge import EventType
from kit.data.layout import DataFolder
from kit.data.split import split_folder
from kit.history import History
from kit.store import Store

BEGIN = datetime(2022, 5, 23)
BEFORE, DAYS = 32, 60
"""The cut lies 28 days before the end."""
CLIENTS, PRODUCTS, BUYS = 300, 80, 6
KEPT = tempfile.TemporaryDirectory(prefix="planted-")


def opened(name: str, seed: int, product: np.ndarray, day: np.ndarray) -> History:
    """A folder whose client i buys products product[i] on day[i], (CLIENTS, BUYS); product p is of category p modulo 10."""
    rng = np.random.default_rng([seed, 1])
    root = Path(KEPT.name) / f"{name}-{seed}"
    root.mkdir()
    client = np.repeat(np.arange(1, CLIENTS + 1), product.shape[1])
    bought = pl.DataFrame({"client_id": client, "timestamp": _times(day.ravel(), rng), "sku": 1 + product.ravel()})
    late = np.arange(1, CLIENTS + 1)
    tail = {"client_id": late, "timestamp": _times(rng.uniform(BEFORE, DAYS, CLIENTS), rng)}
    after = pl.DataFrame({**tail, "sku": rng.integers(1, PRODUCTS + 1, CLIENTS)})
    end = pl.DataFrame({"client_id": [1], "timestamp": _times(np.array([DAYS - 0.01]), rng), "sku": [1]})
    for kind in EventType:
        column = kind.value_column
        frame = pl.concat([bought, after, end]) if kind is EventType.BUY else end
        if column == "query":
            frame = frame.select("client_id", "timestamp", pl.lit("[" + " ".join(["1"] * 16) + "]").alias("query"))
        elif column == "url":
            frame = frame.rename({"sku": "url"})
        frame.write_parquet(root / f"{kind.value}.parquet")
    names = ["[" + " ".join(map(str, rng.integers(0, 256, 16))) + "]" for _ in range(PRODUCTS)]
    rows = np.arange(PRODUCTS)
    catalogue = {"sku": 1 + rows, "category": rows % 10, "price": rng.integers(0, 100, PRODUCTS), "name": names}
    pl.DataFrame(catalogue).write_parquet(root / "product_properties.parquet")
    split_folder(root)
    return History.open(DataFolder(root), store=Store(Path(KEPT.name) / "store"))


def _times(day: np.ndarray, rng: np.random.Generator) -> list[str]:
    return [(BEGIN + timedelta(seconds=round(float(d) * 86_400))).strftime("%Y-%m-%d %H:%M:%S") for d in day]


def told(part, settings, history: History, label: np.ndarray, seed: int) -> float:
    """AUROC of a linear probe on a block's numbers that is taught 40 clients."""
    block = part(settings, seed).fit(history)
    values = block.transform(history, history.clients).values
    values = np.nan_to_num(values / (np.linalg.norm(values, axis=1, keepdims=True) + 1e-9))
    truth = label[history.clients - 1]
    probe = LogisticRegression(C=10.0).fit(values[:40], truth[:40])
    return float(roc_auc_score(truth[40:], probe.decision_function(values[40:])))


@cache
def two_communities(seed: int) -> tuple[History, np.ndarray]:
    rng = np.random.default_rng(seed)
    of_client, of_product = rng.integers(0, 2, CLIENTS), rng.permutation(np.arange(PRODUCTS) % 2)
    each = [np.flatnonzero(of_product == side) for side in (0, 1)]
    own = np.stack([rng.choice(each[side], BUYS) for side in of_client])
    product = np.where(rng.random((CLIENTS, BUYS)) < 0.2, rng.integers(0, PRODUCTS, (CLIENTS, BUYS)), own)
    return opened("communities", seed, product, rng.uniform(0, BEFORE, (CLIENTS, BUYS))), of_client


@world("communities", "block")
def communities(part, settings, seed: int) -> float:
    """Two groups of products that are bought together; categories, prices and names say nothing of them."""
    history, side = two_communities(seed)
    return told(part, settings, history, side, seed)


@cache
def drifting(seed: int) -> tuple[History, np.ndarray]:
    rng = np.random.default_rng(seed)
    old, new = rng.integers(0, 2, (2, CLIENTS))
    day = np.tile(np.append(np.linspace(1, 20, BUYS - 2), [29, 31]), (CLIENTS, 1)) + rng.random((CLIENTS, BUYS))
    side = np.where(day < 25, old[:, None], new[:, None])
    product = rng.integers(0, PRODUCTS // 10, (CLIENTS, BUYS)) * 10 + side  # category = side
    return opened("drift", seed, product, day), new


@world("drift", "block")
def drift(part, settings, seed: int) -> float:
    """What clients bought until three weeks ago says nothing of the two purchases of late, whose category is asked for."""
    history, side = drifting(seed)
    return told(part, settings, history, side, seed)
