"""Histories from a few hand-written events, without the detour over a data folder and its split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from kit.challenge import SKU_EVENTS, EventType
from kit.data.scan import CODE_ARRAY
from kit.features.build import build_features
from kit.features.registry import FeatureSettings
from kit.history import EventSource, History

CUT = datetime(2022, 10, 3)  # a Monday
Rows = Sequence[tuple[int, float, object]]
"""(client, days before the cut, sku or url or 16 codes)."""


def product_table(rows: Sequence[tuple[int, int | None, int | None, Sequence[int]]]) -> pl.DataFrame:
    sku, category, price, name = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
    return pl.DataFrame(
        {
            "sku": pl.Series(sku, dtype=pl.Int64),
            "category": pl.Series(category, dtype=pl.Int64),
            "price": pl.Series(price, dtype=pl.Int64),
            "name": pl.Series(name, dtype=CODE_ARRAY),
        }
    )


def history(
    folder: Path,
    events: Mapping[EventType, Rows],
    products: pl.DataFrame,
    clients: Sequence[int],
    *,
    cut: datetime = CUT,
    targets: Mapping[str, Sequence[int]] | None = None,
) -> History:
    folder.mkdir(parents=True, exist_ok=True)
    products.write_parquet(folder / "products.parquet")
    files = {}
    for kind in EventType:
        column = kind.value_column
        rows = events.get(kind, [])
        frame = pl.DataFrame(
            {
                "client_id": pl.Series([row[0] for row in rows], dtype=pl.Int64),
                "timestamp": pl.Series([CUT - timedelta(days=row[1]) for row in rows], dtype=pl.Datetime("us")),
                column: pl.Series([row[2] for row in rows], dtype=CODE_ARRAY if column == "query" else pl.Int64),
            }
        )
        files[kind] = folder / f"raw_{kind.value}.parquet"
        frame.write_parquet(files[kind])
        if kind in SKU_EVENTS:
            frame = frame.join(products.select("sku", "category", "price"), on="sku", how="left")
        order = ["client_id", "timestamp"] + ([column] if column != "query" else [])
        frame.sort(order).write_parquet(folder / f"{kind.value}.parquet")
    paths = {}
    for task, ids in (targets or {}).items():
        paths[str(task)] = folder / f"{task}.npy"
        np.save(paths[str(task)], np.array(ids, dtype=np.int64))
    source = EventSource(files, folder / "products.parquet", folder, paths, cut)
    return History(source, cut, np.array(sorted(clients), dtype=np.int64))


def built(view: History, *families: str, chunk: int = 10**9, settings: FeatureSettings | None = None) -> pl.DataFrame:
    return pl.concat(list(build_features(view, families, settings, chunk=chunk)))


def value(frame: pl.DataFrame, client: int, column: str) -> float | None:
    found = frame.filter(pl.col("client_id") == client)[column].item()
    return None if found is None else float(found)
