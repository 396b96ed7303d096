"""History: nothing at or after the cut, rewind as the only source of labels, views that agree with the whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from time import sleep

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from kit.challenge import SKU_EVENTS, EventType
from kit.data.layout import DataFolder
from kit.data.scan import scan_events, scan_products
from kit.errors import KitError
from kit.history import History
from kit.store import Store


@pytest.mark.parametrize("kind", list(EventType))
def test_events_are_those_before_the_cut_of_relevant_clients(toy: DataFolder, toy_history: History, kind: EventType):
    expected = [
        row
        for row in scan_events(toy.raw(kind), kind).collect().rows()
        if row[1] < toy_history.cut and row[0] in set(toy.clients().tolist())
    ]
    got = toy_history.events(kind).collect()
    assert sorted(map(str, got.select("client_id", "timestamp", kind.value_column).rows())) == sorted(
        map(str, expected)
    )
    assert got.select("client_id", "timestamp").rows() == sorted(got.select("client_id", "timestamp").rows())


def test_sku_events_carry_category_and_price(toy: DataFolder, toy_history: History):
    properties = {row[0]: row[1:3] for row in scan_products(toy.products).collect().rows()}
    for kind in SKU_EVENTS:
        for _, _, sku, category, price in toy_history.events(kind).collect().rows():
            assert properties.get(sku, (None, None)) == (category, price)


def test_rewind_splits_the_past_in_two(toy_history: History):
    past, window = toy_history.rewind(14)
    assert window.stop == toy_history.cut
    assert window.start == past.cut == toy_history.cut - timedelta(days=14)
    for kind in EventType:
        whole = toy_history.events(kind).collect()
        parts = pl.concat([past.events(kind).collect(), window.events(kind).collect()])
        assert len(parts) == len(whole)
        assert_frame_equal(parts.sort("client_id", "timestamp", maintain_order=True), whole, check_row_order=False)
        assert past.events(kind).collect()["timestamp"].max() < past.cut


def test_rewinding_twice_equals_rewinding_once(toy_history: History):
    twice = toy_history.rewind(7)[0].rewind(7)[0]
    once = toy_history.rewind(14)[0]
    assert twice.cut == once.cut
    assert_frame_equal(twice.events(EventType.BUY).collect(), once.events(EventType.BUY).collect())
    with pytest.raises(ValueError, match="days=0"):
        toy_history.rewind(0)


def test_among_and_chunks_are_slices(toy_history: History):
    whole = toy_history.events(EventType.VISIT).collect()
    parts = [part.events(EventType.VISIT).collect() for part in toy_history.chunks(7)]
    assert_frame_equal(pl.concat(parts), whole)
    odd = toy_history.clients[1::3]
    assert_frame_equal(
        toy_history.among(odd[::-1]).events(EventType.VISIT).collect(),
        whole.filter(pl.col("client_id").is_in(odd.tolist())),
    )
    nobody = toy_history.among(np.empty(0, dtype=np.int64))
    assert nobody.events(EventType.BUY).collect().height == 0


def test_once_is_shared_by_views_but_not_by_cuts(toy_history: History):
    calls = []
    compute = lambda: calls.append(1) or len(calls)  # noqa: E731
    assert toy_history.once("k", compute) == toy_history.among(toy_history.clients[:3]).once("k", compute) == 1
    assert toy_history.rewind(14)[0].once("k", compute) == 2


def test_once_is_computed_once_by_views_in_several_threads(toy_history: History):
    calls = []

    def slow() -> object:
        calls.append(1)
        sleep(0.05)
        return toy_history.once("nested", object) and object()

    views = [toy_history.among(toy_history.clients[i : i + 1]) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda view: view.once("slow", slow), views))
    assert len(calls) == 1
    assert len({id(value) for value in found}) == 1


def test_dropping_duplicates(toy: DataFolder, store: Store):
    kept = History.open(toy, store=store)
    single = History.open(toy, store=store, duplicates="drop")
    for kind in EventType:
        rows = single.events(kind).collect()
        assert rows.height == kept.events(kind).collect().unique().height < kept.events(kind).collect().height


def test_cut_end_sees_every_event(toy: DataFolder, store: Store):
    history = History.open(toy, "end", store=store)
    for kind in EventType:
        raw = scan_events(toy.raw(kind), kind).filter(pl.col("client_id").is_in(toy.clients().tolist())).collect()
        assert history.events(kind).collect().height == raw.height


def test_row_order_of_files_does_not_matter(toy: DataFolder, tmp_path: Path):
    import shutil

    other = tmp_path / "shuffled"
    shutil.copytree(toy.root, other)
    for kind in EventType:
        path = DataFolder(other).input(kind)
        pl.read_parquet(path).sample(fraction=1.0, shuffle=True, seed=1).write_parquet(path)
    one = History.open(toy, store=Store(tmp_path / "a"))
    two = History.open(DataFolder(other), store=Store(tmp_path / "b"))
    for kind in EventType:
        assert_frame_equal(one.events(kind).collect(), two.events(kind).collect())


def test_unsplit_folder_says_what_to_do(tmp_path: Path, store: Store):
    with pytest.raises(KitError, match="kit data synth"):
        History.open(DataFolder(tmp_path / "nowhere"), store=store)
    (tmp_path / "raw").mkdir()
    with pytest.raises(KitError, match="kit data split"):
        History.open(DataFolder(tmp_path / "raw"), store=store)


def test_clients_of_another_folder_are_refused(toy: DataFolder, tmp_path: Path, store: Store):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(toy.root, other)
    np.save(DataFolder(other).relevant_clients, np.arange(10_000, 10_010))
    with pytest.raises(KitError, match="None of the 10 relevant clients"):
        History.open(DataFolder(other), store=store)
    np.save(DataFolder(other).relevant_clients, np.array([1, 1, 2]))
    with pytest.raises(KitError, match="1 duplicate ids"):
        History.open(DataFolder(other), store=store)


def test_what_carries_no_time_is_made_once_for_all_cuts(toy_history: History):
    past, _ = toy_history.rewind(7)
    view = past.among(past.clients[:3])
    made = [history.always("test.timeless", object) for history in (view, toy_history, past, past.rewind(3)[0])]
    assert all(one is made[0] for one in made)
    assert toy_history.once("test.timed", object) is not past.once("test.timed", object)
