"""A sku listed twice means one thing in every table, feature, token and target: its first row in the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from toy import SKUS

from kit.blocks.sequence import SequenceBlock, SequenceSettings
from kit.challenge import SKU_EVENTS
from kit.data.check import check_folder
from kit.data.layout import DataFolder
from kit.data.split import split_folder
from kit.data.targets import CHALLENGE_LISTS
from kit.errors import Severity
from kit.features.build import build_features
from kit.history import History
from kit.store import Store
from kit.tokens import TokenSettings, tokenise

Make = Callable[..., Path]
FILE = "product_properties.parquet"


def other_values(frame: pl.DataFrame) -> pl.DataFrame:
    """The same skus with another category, price and name each."""
    return frame.with_columns(
        category=(pl.col("category") + 1) % 12,
        price=(99 - pl.col("price")).cast(pl.Int64),
        name=pl.col("name").shift(1, fill_value="[" + "9 " * 16 + "]"),
    )


def opened(root: Path, products: pl.DataFrame) -> History:
    products.write_parquet(root / FILE)
    store = Store(root.parent / f"store-{root.name}")
    split_folder(root, store=store)
    return History.open(DataFolder(root), store=store)


@pytest.fixture
def shops(make_folder: Make) -> dict[str, History]:
    """One log; its catalogue single, with the other values behind the right ones, and the same in another order."""
    made = {name: make_folder(name, rows=300) for name in ("single", "behind", "mixed")}
    single = pl.read_parquet(made["single"] / FILE)
    behind = pl.concat([single, other_values(single)])
    mixed = pl.concat([single.reverse(), other_values(single).sample(fraction=1.0, shuffle=True, seed=4)])
    return {
        name: opened(made[name], table) for name, table in (("single", single), ("behind", behind), ("mixed", mixed))
    }


def test_everything_is_as_with_the_first_rows_alone(shops: dict[str, History]) -> None:
    single = shops.pop("single")
    features = pl.concat(list(build_features(single)))
    tokens = tokenise(single, TokenSettings())
    block = SequenceBlock(SequenceSettings.model_validate({"events": {"width": 8}, "train": {"epochs": 1}}), 0)
    block.fit(single)
    vectors = block.transform(single, single.clients).values
    for history in shops.values():
        assert_frame_equal(history.products().sort("sku").collect(), single.products().sort("sku").collect())
        for kind in SKU_EVENTS:
            assert_frame_equal(history.events(kind).collect(), single.events(kind).collect())
        assert pl.concat(list(build_features(history))).equals(features, null_equal=True)
        theirs = tokenise(history, TokenSettings())
        for name in ("time", "kind", "sku", "product", "url", "query"):
            np.testing.assert_array_equal(getattr(theirs, name), getattr(tokens, name))
        np.testing.assert_array_equal(theirs.vocabulary.catalogue.category, tokens.vocabulary.catalogue.category)
        again = SequenceBlock(SequenceSettings.model_validate({"events": {"width": 8}, "train": {"epochs": 1}}), 0)
        again.fit(history)
        np.testing.assert_array_equal(again.transform(history, history.clients).values, vectors)
        mine, other = DataFolder(history._source.products.parent), DataFolder(single._source.products.parent)
        for window in ("train", "validation"):
            assert_frame_equal(pl.read_parquet(mine.window(window)), pl.read_parquet(other.window(window)))
        for task in CHALLENGE_LISTS:
            assert mine.targets(task).read_bytes() == other.targets(task).read_bytes()


def test_the_order_of_the_rows_decides(make_folder: Make) -> None:
    root = make_folder(rows=300)
    single = pl.read_parquet(root / FILE)
    history = opened(root, pl.concat([other_values(single), single]))
    expected = other_values(single).select("sku", "category", "price").sort("sku")
    assert_frame_equal(history.products().select("sku", "category", "price").sort("sku").collect(), expected)


def test_check_says_how_many_how_they_differ_and_which_row_counts(make_folder: Make, store: Store) -> None:
    root = make_folder()
    single = pl.read_parquet(root / FILE)
    sku, category = single.row(3)[:2]
    alike = pl.concat([single, single.filter(pl.col("sku") == sku)])
    alike.write_parquet(root / FILE)
    (found,) = (f for f in check_folder(root, store) if "more than one row" in f.what)
    assert found.severity is Severity.WARNING and found.where == f"{FILE} sku"
    assert found.what == f"1 skus have more than one row: [{sku}]; all rows of a sku are equal."
    pl.concat(
        [
            alike,
            other_values(single.slice(3, 1)).with_columns(
                price=pl.lit(single["price"][3], dtype=pl.Int64), name=pl.lit(single["name"][3])
            ),
        ]
    ).write_parquet(root / FILE)
    (found,) = (f for f in check_folder(root, store) if "more than one row" in f.what)
    difference = f"sku {sku} in rows 3 and {SKUS + 1}: category {category} and {(category + 1) % 12}"
    assert found.what == f"1 skus have more than one row: [{sku}]; the rows of 1 differ, {difference}."
    assert found.remedy.startswith("The first row of a sku counts, everywhere.")
