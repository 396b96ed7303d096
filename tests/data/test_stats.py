"""Folder statistics: known answers on a folder written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kit.challenge import EventType
from kit.data import stats
from kit.data.split import split_folder
from kit.data.stats import Stat, folder_stats
from kit.errors import KitError

CODES = "[" + " ".join(["1"] * 16) + "]"
ROWS: dict[EventType, list[tuple[int, str, object]]] = {
    EventType.BUY: [
        (1, "2022-10-01 10:07:00", 7),
        (1, "2022-10-01 10:07:00", 7),  # an exact duplicate
        (1, "2022-10-11 10:07:00", 8),
        (2, "2022-10-02 09:00:00", 8),
        (1, "2022-11-12 12:00:00", 7),  # train window
        (4, "2022-11-13 12:00:00", 9),  # never seen before
        (3, "2022-11-30 12:00:00", 9),  # validation window
        (9, "2022-12-06 12:00:00", 9),  # not relevant, never seen; dates the split: cut 2022-11-09
    ],
    EventType.CART: [
        (1, "2022-10-01 10:00:00", 7),
        (2, "2022-10-02 08:00:00", 9),
        (2, "2022-10-02 08:30:00", 7),
        (3, "2022-10-03 08:30:00", 7),
    ],
    EventType.REMOVE: [(2, "2022-10-02 08:10:00", 9)],
    EventType.VISIT: [
        (1, "2022-10-03 20:00:00", 50),  # a Monday
        (1, "2022-10-03 21:00:00", 50),
        (1, "2022-10-03 20:30:00", 51),
        (3, "2022-10-08 20:00:00", 50),  # a Saturday
        (5, "2022-11-20 20:00:00", 50),  # after the cut
    ],
    EventType.SEARCH: [(3, "2022-10-08 20:00:00", CODES)],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for kind, rows in ROWS.items():
        names = ["client_id", "timestamp", kind.value_column]
        pl.DataFrame(rows, schema=names, orient="row").write_parquet(tmp_path / f"{kind.value}.parquet")
    products = {"sku": [7, 8, 9, 10], "category": [1, 1, 2, 2], "price": [0, 20, 40, 60], "name": [CODES] * 4}
    pl.DataFrame(products).write_parquet(tmp_path / "product_properties.parquet")
    (tmp_path / "input").mkdir()
    np.save(tmp_path / "input" / "relevant_clients.npy", np.array([1, 2, 3, 4]))
    return tmp_path


def test_known_answers(folder: Path) -> None:
    here = {row.metric: row.here for row in folder_stats(folder)}
    expected = {
        "product_buy rows before the cut": 4,
        "clients with an event before the cut": 3,
        "products": 4,
        "categories": 2,
        "pages visited": 2,
        "events per client, median": 4,  # 7, 4 and 3 events
        "clients active on one day": 1 / 3,
        "clients who buy": 2 / 3,
        "most visits of one client": 3,
        "relevant clients without an event before the cut": 0.25,
        "share with product_buy": 0.5,
        "product_buy mean": 1.0,
        "add_to_cart median": 1.0,
        "product_buy maximum": 3,
        "product_buy rows that repeat another exactly": 0.25,
        "visits to a page seen before by the client": 0.25,
        "purchase rows of one-purchase clients": 0.25,
        "buyers who buy on one day only": 0.5,
        "days between purchase days, median": 10.0,
        "cart additions that are bought": 0.25,
        "minutes from cart to purchase, median": 7.0,
        "removals per cart addition": 0.25,
        "train: past buyers who do not buy (churn)": 0.5,
        "train: buyers with an event before the cut": 0.5,
        "train: relevant clients who buy": 0.5,
        "validation: past buyers who do not buy (churn)": 1.0,
        "validation: buyers with an event before the cut": 0.5,
        "price bucket of products, mean": 30.0,
        "visits on Mon": 0.75,
        "visits on Sat": 0.25,
        "busiest hour of the day": 20,
    }
    assert {name: here[name] for name in expected} == pytest.approx(expected)


def test_published_figures_stand_beside(folder: Path) -> None:
    rows = {row.metric: row for row in folder_stats(folder)}
    assert rows["page_visit mean"].published == 49.6
    assert rows["validation: past buyers who do not buy (churn)"].published == 0.94
    assert len(rows) == len(folder_stats(folder))  # no metric is named twice
    assert rows["products"].as_json() == {"section": "sizes", "metric": "products", "here": 4.0, "published": 1_260_000}


def test_missing_tables_are_empty_tables(folder: Path) -> None:
    for kind in (EventType.VISIT, EventType.SEARCH, EventType.CART):
        (folder / f"{kind.value}.parquet").unlink()
    here = {row.metric: row.here for row in folder_stats(folder)}
    assert here["page_visit rows before the cut"] == 0
    assert here["cart additions that are bought"] is None
    assert here["removals per cart addition"] is None
    assert here["visits at the weekend"] is None
    assert here["clients who buy"] == pytest.approx(1.0)


def test_large_folders_are_described_by_a_sample_of_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    rng = np.random.default_rng(0)
    many = pl.DataFrame(
        {
            "client_id": rng.integers(0, 3_000, 30_000),
            "timestamp": ["2022-10-03 20:00:00"] * 30_000,
            "url": rng.integers(0, 9, 30_000),
        }
    )
    many.write_parquet(folder / "page_visit.parquet")
    np.save(folder / "input" / "relevant_clients.npy", np.arange(3_000))
    whole = {row.metric: row.here for row in folder_stats(folder)}
    monkeypatch.setattr(stats, "SAMPLE_ROWS", 10_000)
    sample = {row.metric: row.here for row in folder_stats(folder)}
    for metric in ("page_visit rows before the cut", "page_visit mean", "visits to a page seen before by the client"):
        assert sample[metric] == pytest.approx(whole[metric], rel=0.1)
        assert sample[metric] != whole[metric]


def test_an_archive_whose_raw_files_end_at_the_cut_is_dated_by_its_windows(folder: Path) -> None:
    """As the official archive comes: whoever dated it by its last raw purchase would cut four weeks too early."""
    split_folder(folder)
    whole = {row.metric: row.here for row in folder_stats(folder)}
    for kind, rows in ROWS.items():
        early = [row for row in rows if row[1] < "2022-11-09"]
        names = ["client_id", "timestamp", kind.value_column]
        pl.DataFrame(early, schema=names, orient="row").write_parquet(folder / f"{kind.value}.parquet")
    (folder / "target" / "split.json").unlink()
    windows = [pl.read_parquet(folder / "target" / f"{name}_target.parquet") for name in ("train", "validation")]
    assert [len(window) for window in windows] == [2, 2]
    assert {row.metric: row.here for row in folder_stats(folder)} == pytest.approx(whole, nan_ok=True)


def test_a_folder_without_purchases_cannot_be_described(folder: Path) -> None:
    (folder / "product_buy.parquet").unlink()
    with pytest.raises(KitError, match="no purchase"):
        folder_stats(folder)


def test_a_stat_is_plain_data() -> None:
    assert Stat("s", "m", None, 2.0).as_json() == {"section": "s", "metric": "m", "here": None, "published": 2.0}
