"""A tiny challenge folder written by hand: odd code spacing, duplicates, unordered rows, equal seeds give equal folders."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from kit.challenge import EventType

BEGIN = datetime(2022, 5, 23, 7, 30)
DAYS = 60
SKUS = 140


def code_text(rng: np.random.Generator) -> str:
    """16 codes as the raw files print them: padded numbers, now and then a line break."""
    codes = rng.integers(0, 256, 16)
    return "[" + "\n ".join(" ".join(f"{c:3d}" for c in half) for half in (codes[:9], codes[9:])) + "]"


def write_folder(root: Path, seed: int = 0, rows: int = 900, categories: int = 12, clients: int = 79) -> Path:
    """Five raw event files and product_properties.parquet under `root`."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    for kind in EventType:
        seconds = rng.integers(0, DAYS * 86400, rows)
        times = [(BEGIN + timedelta(seconds=int(s))).strftime("%Y-%m-%d %H:%M:%S") for s in seconds]
        value: list[object]
        match kind.value_column:
            case "url":
                value = rng.integers(0, 500, rows).tolist()
            case "query":
                value = [code_text(rng) for _ in range(rows)]
            case _:
                value = (1000 + np.minimum(rng.geometric(0.02, rows), SKUS - 1)).tolist()
        frame = pl.DataFrame(
            {"client_id": rng.integers(1, clients + 1, rows), "timestamp": times, kind.value_column: value}
        ).sample(fraction=1.15, with_replacement=True, seed=seed)
        frame.write_parquet(root / f"{kind.value}.parquet")
    pl.DataFrame(
        {
            "sku": rng.permutation(np.arange(1000, 1000 + SKUS)),
            "category": rng.integers(0, categories, SKUS),
            "price": rng.integers(0, 100, SKUS),
            "name": [code_text(rng) for _ in range(SKUS)],
        }
    ).write_parquet(root / "product_properties.parquet")
    return root
