"""Prices, names, categories: gathered from rows, numbers read or refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from own_shop import LOG_HEADER, SHOP, converted, own, prices
from pydantic import ValidationError

from kit.data.check import check_folder
from kit.data.convert import convert
from kit.data.convert.mapping import Attribute
from kit.data.convert.products import price_buckets
from kit.errors import KitError


@pytest.mark.parametrize(("mark", "dear"), [(",", "1.854,50"), (".", "1,854.50")])
def test_prices_of_other_forms_are_read_or_refused_but_never_dropped(tmp_path: Path, mark: str, dear: str) -> None:
    """Left out in silence, the dearest product would get the middle bucket."""
    data = SHOP.replace(";2.0", f";{dear}").replace(";4.0", f";{dear}")
    mapping, src, out = own(tmp_path, data=data)
    with pytest.raises(KitError, match=re.escape(dear)):
        convert(mapping, src, out)
    text = data if mark == "." else data.replace("9.5", "9,5")
    mapping, src, out = own(tmp_path, ('price = "cost"', f'price = {{ column = "cost", decimal = "{mark}" }}'), text)
    convert(mapping, src, out)
    assert prices(out)["A-1"] > prices(out)["B-2"]


@pytest.mark.parametrize(
    ("pick", "order", "category"),
    [
        ("last", ("2024-02-01", "2024-03-01", "2024-01-01"), "zeta"),  # sortable text
        ("first", ("2024-02-01", "2024-03-01", "2024-01-01"), "alpha"),
        ("last", ("9", " 10", "8.5"), "zeta"),  # a number is no text: 10 comes after 9
        ("first", ("9", "10", "8.5"), "alpha"),
        ("first", ("9", "10", ""), "mid"),  # nothing is neither first nor last
        ("last", ("1700000000000000001", "1700000000000000002", "1700000000000000000"), "zeta"),  # floats would tie
    ],
)
def test_first_and_last_go_by_numbers_or_sortable_text(
    tmp_path: Path, pick: str, order: tuple[str, ...], category: str
) -> None:
    lines = [f"u,p,2024-01-01,{name},{at}" for name, at in zip(("mid", "zeta", "alpha"), order, strict=True)]
    changed = f'[products]\ncategory = {{ column = "price", pick = "{pick}", order = "action" }}\n'
    out = converted(tmp_path, "\n".join([LOG_HEADER, *lines]), changed)
    assert pl.read_parquet(out / "ids" / "category.parquet")["own"].to_list() == [category]


def test_an_order_of_numbers_and_other_text_is_refused(tmp_path: Path) -> None:
    log = f"{LOG_HEADER}\nu,p,2024-01-01,a,9\nu,p,2024-01-01,b,10\nu,p,2024-01-01,c,soon"
    with pytest.raises(KitError, match=r"'action' of log.csv holds numbers and other text, such as 'soon'"):
        converted(tmp_path, log, '[products]\ncategory = { column = "price", pick = "last", order = "action" }\n')


def test_first_and_last_want_an_order() -> None:
    with pytest.raises(ValidationError, match="needs order"):
        Attribute.model_validate({"column": "label", "pick": "last"})


def first_seen(root: Path) -> dict[str, str | None]:
    """Own id → when it was first named."""
    ids = pl.read_parquet(root / "ids" / "sku.parquet").rename({"id": "sku"})
    frame = pl.read_parquet(root / "product_properties.parquet").join(ids, on="sku")
    return dict(frame.select("own", pl.col("first_seen").dt.to_string("%Y-%m-%d %H:%M")).rows())


def test_a_catalogue_gathered_from_the_log_says_when_it_first_knew_an_item(tmp_path: Path) -> None:
    mapping, src, out = own(tmp_path)
    convert(mapping, src, out)
    assert first_seen(out) == {"A-1": "2022-06-03 01:30", "B-2": "2022-06-03 12:05"}
    assert not [f for f in check_folder(out) if "first_seen" in f.what]


def test_a_catalogue_of_the_shops_own_is_always_known(tmp_path: Path) -> None:
    (tmp_path / "catalogue.csv").write_text("what;cost\nA-1;2\nB-2;9\nC-3;4\n")
    listed = '[files.list]\npath = "catalogue.csv"\nseparator = ";"\n[files.log]'
    mapping, src, out = own(tmp_path, ("[files.log]", listed))
    text = Path(mapping).read_text()
    text = text[: text.index("[products]")] + '[products]\nfile = "list"\nitem = "what"\nprice = "cost"\n'
    Path(mapping).write_text(text.replace("[log]", '[log]\nfile = "log"', 1))
    convert(mapping, src, out)
    assert first_seen(out) == {"A-1": None, "B-2": None, "C-3": None}


def test_price_buckets_are_quantiles_and_equal_prices_share_one() -> None:
    rng = np.random.default_rng(0)
    price = rng.lognormal(size=10_000)
    buckets = price_buckets(price, np.zeros(10_000, dtype=np.int64))
    assert np.bincount(buckets, minlength=100).tolist() == [100] * 100
    assert (np.diff(buckets[np.argsort(price)]) >= 0).all()
    same = price_buckets(np.array([1.0, 1.0, 5.0, 5.0, np.nan]), np.array([0, 0, 1, 1, 1]))
    assert same[0] == same[1] < same[2] == same[3] == same[4]
    assert price_buckets(np.full(3, np.nan), np.zeros(3, dtype=np.int64)).tolist() == [0, 0, 0]
