"""A small shop of one's own and what came of it: shared by the tests of conversions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from kit.challenge import EventType
from kit.data.check import check_folder
from kit.data.convert import convert
from kit.data.scan import scan_events, scan_products
from kit.errors import Severity


def rows(root: Path, kind: EventType) -> list[tuple[object, ...]]:
    return pl.read_parquet(root / f"{kind.value}.parquet").rows()


def layout_is_sound(root: Path) -> None:
    """All six files can be scanned, and no finding concerns their form (the logs here are too short to be split)."""
    for kind in EventType:
        scan_events(root / f"{kind.value}.parquet", kind).collect()
    products = scan_products(root / "product_properties.parquet").collect()
    assert products["sku"].is_unique().all()
    assert [f for f in check_folder(root) if f.severity is Severity.ERROR and "span" not in f.what] == []


SHOP = """when;who;what;did;label;cost
02.06.2022 23:30;bob;A-1;buy;red mug;2.0
03.06.2022 10:00;amy;A-1;buy;red mug large;4.0
03.06.2022 10:05;amy;B-2;buy;blue mug;9.5
03.06.2022 10:06;amy;mugs;search;;
03.06.2022 10:07;bob;mugs;search;;
04.06.2022 11:00;;B-2;buy;blue mug;9.5
"""
OWN = """
[files.log]
path = "shop.csv"
separator = ";"
[log]
client = "who"
item = "what"
time = { column = "when", format = "%d.%m.%Y %H:%M", zone = "Europe/Berlin" }
[tables.product_buy]
keep = [{ column = "did", equals = "buy" }]
[tables.search_query]
keep = [{ column = "did", equals = "search" }]
[products]
keep = [{ column = "did", equals = "buy" }]
price = "cost"
name = "label"
"""


def own(tmp_path: Path, change: tuple[str, str] = ("", ""), data: str = SHOP) -> tuple[str, Path, Path]:
    """Writes the own shop with one change in its mapping; the arguments of convert."""
    assert change[0] in OWN
    (tmp_path / "shop.csv").write_text(data)
    (tmp_path / "my.toml").write_text(OWN.replace(change[0], change[1], 1) if change[0] else OWN)
    return str(tmp_path / "my.toml"), tmp_path, tmp_path / "out"


def prices(root: Path) -> dict[str, int]:
    """Own id → price bucket."""
    ids = pl.read_parquet(root / "ids" / "sku.parquet").rename({"id": "sku"})
    return dict(pl.read_parquet(root / "product_properties.parquet").join(ids, on="sku").select("own", "price").rows())


LOG_HEADER = "user,product,when,price,action"
LOG = """[files.log]
path = "log.csv"
[log]
client = "user"
item = "product"
time = { column = "when" }
[tables.product_buy]
"""
"""The plainest mapping: every row a purchase."""


def converted(root: Path, log: str | pl.DataFrame, more: str = "", change: tuple[str, str] = ("", "")) -> Path:
    """The folder that a log becomes.

    Args:
        root: an empty folder.
        log: csv text, or a table that is written as parquet.
        more: what follows the mapping LOG: rules of product_buy, other tables.
        change: text in LOG and what stands there instead.
    """
    mapping = LOG.replace(change[0], change[1], 1) if change[0] else LOG
    assert change[0] in LOG
    if isinstance(log, pl.DataFrame):
        mapping = mapping.replace("log.csv", "log.parquet")
        log.write_parquet(root / "log.parquet")
    else:
        (root / "log.csv").write_text(log + "\n", encoding="utf-8")
    (root / "my.toml").write_text(mapping + more, encoding="utf-8")
    convert(str(root / "my.toml"), root, root / "out")
    return root / "out"


def account(out: Path) -> dict[str, Any]:
    """What became of the rows of the only source of events."""
    source: dict[str, Any] = json.loads((out / "convert.json").read_text(encoding="utf-8"))["sources"][0]
    return source
