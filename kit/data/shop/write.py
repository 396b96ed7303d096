"""Writing the shop: event tables as text-stamped parquet, products, the list of relevant clients, the kept truth."""

from __future__ import annotations

import shutil
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import EventType
from kit.data.layout import DataFolder
from kit.data.scan import columns_of
from kit.data.shop.behaviour import Ints
from kit.data.shop.codes import as_text
from kit.data.shop.content import DAY_SECONDS, Events
from kit.data.shop.presets import DAYS, FIRST_DAY
from kit.data.shop.world import World

ROW_GROUP: Final = 250_000
BROKEN: Final = 0.1
"""Share of code vectors printed over two lines."""


def _bytes_table(texts: list[str]) -> NDArray[np.uint8]:
    return np.array([list(text.encode()) for text in texts], dtype=np.uint8)


def _text(column: NDArray[np.bytes_], name: str) -> pl.Series:
    return pl.Series(name, column).cast(pl.String)


@cache
def _clock() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Text of every day of the shop, with a space behind it, and of every second of a day."""
    dates = _bytes_table([f"{FIRST_DAY + timedelta(days=day)} " for day in range(DAYS)])
    return dates, _bytes_table([f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in range(DAY_SECONDS)])


def timestamps(second: Ints) -> pl.Series:
    """Seconds since day 0 as `YYYY-MM-DD HH:MM:SS`."""
    dates, clock = _clock()
    text = np.concatenate([dates[second // DAY_SECONDS], clock[second % DAY_SECONDS]], axis=1)
    return _text(text.view("S19").ravel(), "timestamp")


def event_frame(kind: EventType, events: Events) -> pl.DataFrame:
    """One shard's table as it is written."""
    client, timestamp, value = columns_of(kind)
    if kind is EventType.SEARCH:
        codes = events.value.astype(np.uint8)
        values = _text(as_text(codes, _broken(codes)), value)
    else:
        values = pl.Series(value, events.value.astype(np.int64))
    return pl.DataFrame([pl.Series(client, events.client), timestamps(events.second).alias(timestamp), values])


def _broken(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which rows break their line: a fixed share, told by the codes themselves."""
    return np.asarray(codes.astype(np.int64).sum(axis=1) % 1000 < 1000 * BROKEN)


def write_products(root: Path, world: World) -> None:
    """product_properties.parquet, rows in no order of meaning."""
    codes = world.quantiser(world.latent)
    frame = pl.DataFrame(
        {
            "sku": world.sku_ids,
            "category": world.category_ids[world.category],
            "price": world.price,
            "name": _text(as_text(codes, _broken(codes)), "name"),
        }
    )
    frame.write_parquet(DataFolder(root).products, row_group_size=ROW_GROUP)


class ShopTables:
    """Collects the shards of the five tables under `root` and joins them into one file each."""

    def __init__(self, root: Path) -> None:
        self.root, self.parts = root, root / "parts"
        self.parts.mkdir()

    def part(self, kind: EventType, shard: int) -> Path:
        """File of one shard of one table."""
        return self.parts / f"{kind.value}-{shard:04d}.parquet"

    def add(self, shard: int, tables: dict[EventType, Events]) -> None:
        """Write one shard."""
        for kind, events in tables.items():
            event_frame(kind, events).write_parquet(self.part(kind, shard), row_group_size=ROW_GROUP)

    def join(self, shards: int) -> None:
        """One file per table, shard after shard, without holding a table in memory."""
        for kind in EventType:
            parts, whole = [self.part(kind, shard) for shard in range(shards)], DataFolder(self.root).raw(kind)
            if shards == 1:
                parts[0].replace(whole)
            else:
                pl.scan_parquet(parts).sink_parquet(whole, row_group_size=ROW_GROUP, maintain_order=True)
        shutil.rmtree(self.parts)
