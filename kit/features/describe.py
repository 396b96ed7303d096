"""What the families yield, found by running them on a handful of made-up events: the list can never be out of date."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from kit.challenge import CODES, SKU_EVENTS, EventType, TaskName
from kit.data.scan import CODE_ARRAY
from kit.features.build import run_family
from kit.features.registry import FAMILIES, FeatureSettings
from kit.history import EventSource, History
from kit.trouble import disk_trouble

CUT = datetime(2022, 10, 1)
CLIENTS, SKUS, EVENTS = 12, 60, 240


@dataclass(frozen=True)
class Description:
    """One line of `kit features list`.

    Attributes:
        family: its name.
        columns: how many columns it had on the example; lists of the most popular things may be longer on real data.
        examples: the first, the middle and the last of them.
        windows: days of windows and half-lives that occur in the names.
        purpose: what it is for.
        absent: value for clients without a row; None = missing, imputed later.
        default: whether a recipe that names no families gets it.
    """

    family: str
    columns: int
    examples: tuple[str, ...]
    windows: str
    purpose: str
    absent: float | None
    default: bool


def describe(settings: FeatureSettings | None = None) -> list[Description]:
    """All registered families by name."""
    settings = settings or FeatureSettings()
    with tempfile.TemporaryDirectory() as folder:
        history = example_history(Path(folder))
        lines = []
        for name, item in FAMILIES.loaded().items():
            columns = [column for column in run_family(item, history, settings).columns if column != "client_id"]
            spread = [columns[at] for at in sorted({0, len(columns) // 2, len(columns) - 1})]
            lines.append(
                Description(
                    name, len(columns), tuple(spread), _windows(columns), item.description, item.absent, item.default
                )
            )
    return lines


def widths(settings: FeatureSettings, targets: tuple[int, int]) -> dict[str, int]:
    """Family → its number of columns on a shop that has enough of everything: as many as any data give.

    Args:
        settings: of the families; `top` decides how long lists are.
        targets: published categories and skus.

    Raises:
        KitError: no room for a few temporary files.
    """
    return _widths(settings.model_dump_json(), targets, tuple(FAMILIES.loaded()))


@cache
def _widths(shared: str, targets: tuple[int, int], families: tuple[str, ...]) -> dict[str, int]:
    settings = FeatureSettings.model_validate_json(shared)
    things = max(settings.top, *targets, SKUS // 2)
    with tempfile.TemporaryDirectory() as folder:
        try:
            history = example_history(
                Path(folder), skus=2 * things, categories=things, events=max(EVENTS, 4 * things), targets=targets
            )
        except (OSError, pl.exceptions.PolarsError) as error:
            raise disk_trouble(error, Path(folder)) from error
        known = dict(FAMILIES.loaded().items())
        return {name: run_family(known[name], history, settings).width - 1 for name in families}


def _windows(columns: list[str]) -> str:
    days = sorted({int(found) for name in columns for found in re.findall(r"(?:^|_)(\d+)d(?:_|$)", name)})
    halves = sorted({float(found) for name in columns for found in re.findall(r"_h(\d+(?:\.\d+)?)$", name)})
    windows = f"{'/'.join(map(str, days))} d" if days else ""
    decays = f"half-lives {'/'.join(f'{half:g}' for half in halves)} d" if halves else ""
    return ", ".join(part for part in (windows, decays) if part) or "all time"


def example_history(
    folder: Path, *, skus: int = SKUS, categories: int = 8, events: int = EVENTS, targets: tuple[int, int] = (4, 5)
) -> History:
    """A History of made-up events that occur in every table, written below `folder`.

    Args:
        folder: where to.
        skus: of the catalogue; half of them are touched.
        categories: of the products.
        events: per table.
        targets: published categories and skus.
    """
    rng = np.random.default_rng(0)
    products = pl.DataFrame(
        {
            "sku": np.arange(skus),
            "category": np.arange(skus) % categories,
            "price": rng.integers(0, 100, skus),
            "name": pl.Series(rng.integers(0, 256, (skus, CODES), dtype=np.uint8), dtype=CODE_ARRAY),
        }
    )
    products.write_parquet(folder / "products.parquet")
    files = {}
    for kind in EventType:
        column = kind.value_column
        # The last skus are never touched: something has to be new.
        values = np.arange(events) % (skus // 2)
        value = pl.Series(column, values)
        if kind is EventType.SEARCH:
            value = pl.Series(column, products["name"].to_numpy()[values], dtype=CODE_ARRAY)
        seconds = rng.integers(1, 100 * 86_400, events)
        frame = pl.DataFrame(
            {
                "client_id": rng.integers(0, CLIENTS, events),
                "timestamp": pl.Series([CUT - timedelta(seconds=int(s)) for s in seconds], dtype=pl.Datetime("us")),
                column: value,
            }
        )
        files[kind] = folder / f"raw_{kind.value}.parquet"
        frame.write_parquet(files[kind])
        if kind in SKU_EVENTS:
            frame = frame.join(products.select("sku", "category", "price"), on="sku", how="left")
        frame.sort("client_id", "timestamp").write_parquet(folder / f"{kind.value}.parquet")
    lists = {TaskName.CATEGORY.value: folder / "category.npy", TaskName.SKU.value: folder / "sku.npy"}
    for (_, path), count in zip(lists.items(), targets, strict=True):
        np.save(path, np.arange(count))
    return History(EventSource(files, folder / "products.parquet", folder, lists, CUT), CUT, np.arange(CLIENTS))
