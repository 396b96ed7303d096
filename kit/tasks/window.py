"""The two target windows of a data folder, read as a `kit.history.Window` is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import polars as pl

from kit.challenge import SKU_EVENTS, EventType
from kit.data.layout import DataFolder
from kit.data.scan import scan_events, scan_products
from kit.errors import KitError


@dataclass(frozen=True)
class TargetWindow:
    """A target window, or the first days of it.

    Attributes:
        folder: a split data folder.
        name: `train` or `validation`.
        days: only the first so many days; None for all of it.
    """

    folder: DataFolder
    name: str
    days: int | None = None

    @property
    def path(self) -> Path:
        """The file of its purchases."""
        return self.folder.window(self.name)

    @cached_property
    def start(self) -> datetime:
        """Its first instant."""
        split = self.folder.split()
        return split.train_start if self.name == "train" else split.validation_start

    @cached_property
    def stop(self) -> datetime:
        """The first instant after it."""
        return self.start + timedelta(days=self.folder.split().days if self.days is None else self.days)

    def purchases(self) -> pl.LazyFrame:
        """client_id, timestamp, sku, category, price, name codes of the purchases.

        Raises:
            KitError: the file is missing.
        """
        if not self.path.exists():
            raise KitError(f"{self.path} is missing.", "Run `kit data split` on the folder.")
        rows = pl.scan_parquet(self.path)
        return rows if self.days is None else rows.filter(pl.col("timestamp").cast(pl.Datetime("us")) < self.stop)

    def events(self, kind: EventType) -> pl.LazyFrame:
        """Events of any type in the window, from the raw file: client_id, timestamp, value; sku events also category and price.

        Raises:
            KitError: the file is missing or unreadable.
        """
        inside = (pl.col("timestamp") >= self.start) & (pl.col("timestamp") < self.stop)
        rows = scan_events(self.folder.raw(kind), kind).filter(inside)
        if kind not in SKU_EVENTS:
            return rows
        products = scan_products(self.folder.products).select("sku", "category", "price")
        return rows.join(products.unique("sku", keep="first", maintain_order=True), on="sku", how="left")
