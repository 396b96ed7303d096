"""A small seeded challenge folder and profiles for it, made with NumPy alone: the data behind the golden record.

`python tests/probes/golden/world.py DIR` writes the folder to DIR/data and one submission per profile to DIR/<profile>.
Clients have a rate and tastes; purchases in both windows follow them, and the profiles show them more or less well. About a
third of the labels have no positives, as in a small shop.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl

CLIENTS, SKUS, CATEGORIES, FACTORS = 700, 400, 140, 6
PROFILES = ("raw_counts", "scaled", "random", "learned")
TASK_LISTS = ("category", "sku", "new_sku", "price")


def write_world(root: Path, seed: int = 7) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Write target files, relevant and active clients to `root`; returns profile → (client_ids, vectors float16)."""
    rng = np.random.default_rng(seed)
    tastes = rng.normal(size=(CLIENTS, FACTORS))
    items = rng.normal(size=(SKUS, FACTORS))
    rate = np.exp(rng.normal(0, 1.0, CLIENTS))
    fame = np.exp(rng.normal(0, 1.2, SKUS))
    chances = fame * np.exp(0.7 * tastes @ items.T)
    chances = chances / chances.sum(axis=1, keepdims=True) * rate[:, None]
    ids = rng.permutation(10 * CLIENTS)[:CLIENTS].astype(np.int64)
    category, price = rng.integers(0, CATEGORIES, SKUS), rng.integers(0, 100, SKUS)

    past = rng.poisson(4 * chances)
    windows = {name: rng.poisson(scale * chances) for name, scale in (("train", 1.0), ("validation", 0.8))}
    (root / "target").mkdir(parents=True, exist_ok=True)
    (root / "input").mkdir(exist_ok=True)
    for day, (name, counts) in zip((1, 15), windows.items(), strict=True):
        who, what = np.nonzero(counts)
        order = rng.permutation(np.repeat(np.arange(len(who)), counts[who, what]))
        who, what = who[order], what[order]
        pl.DataFrame(
            {
                "client_id": ids[who],
                "timestamp": pl.Series(np.datetime64("2022-11-01") + day + rng.integers(0, 14, len(who))).cast(
                    pl.Datetime("us")
                ),
                "sku": what.astype(np.int64),
                "category": category[what].astype(np.int64),
                "price": price[what].astype(np.int64),
                "name": ["[" + " ".join(["7"] * 16) + "]"] * len(who),
            }
        ).write_parquet(root / "target" / f"{name}_target.parquet")
    pl.DataFrame({"sku": np.arange(SKUS)}).write_parquet(root / "product_properties.parquet")
    np.save(root / "input" / "relevant_clients.npy", np.sort(ids))
    np.save(root / "target" / "active_clients.npy", np.sort(ids[past.sum(axis=1) > 2]))
    bought = windows["train"].sum(axis=0)
    lists = {
        "sku": np.argsort(-bought, kind="stable")[:100],
        "new_sku": np.argsort(-bought, kind="stable")[60:160],
        "category": np.arange(20, 120),
        "price": np.arange(100),
    }
    values = {"sku": np.arange(SKUS), "new_sku": np.arange(SKUS), "category": category, "price": price}
    for name, chosen in lists.items():
        np.save(root / "target" / f"propensity_{name}.npy", chosen.astype(np.int64))
        sums = [bought[values[name] == value].sum() for value in chosen]
        np.save(root / "target" / f"popularity_propensity_{name}.npy", np.array(sums))
    order = rng.permutation(CLIENTS)
    raw = np.hstack([past[:, :200], past.sum(axis=1, keepdims=True) * 30, past @ price[:, None]]).astype(np.float64)
    scaled = np.hstack([np.log1p(raw), tastes + rng.normal(size=tastes.shape)])
    scaled = (scaled - scaled.mean(axis=0)) / (scaled.std(axis=0) + 1e-6) * 0.3
    vectors = {"raw_counts": raw, "scaled": scaled, "random": rng.normal(size=(CLIENTS, 64))}
    vectors["learned"] = factorise(past.astype(np.float64))
    return {name: (ids[order], vectors[name][order].astype(np.float16)) for name in PROFILES}


def factorise(counts: np.ndarray, factors: int = 16, rounds: int = 8) -> np.ndarray:
    """Client vectors (n, factors + 1) learned by weighted alternating least squares (Hu et al. 2008), and the total's log."""
    rng = np.random.default_rng(0)
    sides = [rng.normal(0, 0.1, (size, factors)) for size in counts.shape]
    for _ in range(rounds):
        for side, matrix in ((0, counts), (1, counts.T)):
            other = sides[1 - side]
            gram = other.T @ other + 3.0 * np.eye(factors)
            for row, seen in enumerate(matrix):
                some = np.flatnonzero(seen)
                own, weights = other[some], 2.0 * seen[some]
                sides[side][row] = np.linalg.solve(gram + own.T * weights @ own, own.T @ (1 + weights))
    total = np.log1p(counts.sum(axis=1, keepdims=True))
    both = np.hstack([sides[0], total])
    return (both - both.mean(axis=0)) / both.std(axis=0) * 0.5


if __name__ == "__main__":
    out = Path(sys.argv[1])
    for profile, (clients, matrix) in write_world(out / "data").items():
        (out / profile).mkdir(exist_ok=True)
        np.save(out / profile / "client_ids.npy", clients)
        np.save(out / profile / "embeddings.npy", matrix)
