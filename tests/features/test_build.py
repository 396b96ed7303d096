"""What holds for every family: chunks, order of rows, duplicates, gaps in the data, widths, names."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from feature_log import built, history, product_table
from toy import write_folder

from kit.challenge import EventType, TaskName
from kit.data.layout import DataFolder
from kit.data.split import split_folder
from kit.errors import KitError
from kit.features.build import build_features, write_features
from kit.features.registry import FAMILIES, FeatureSettings
from kit.history import History
from kit.store import Store

CODES = [list(range(k, k + 16)) for k in range(0, 240, 8)]


def same(left: pl.DataFrame, right: pl.DataFrame) -> list[str]:
    """Columns that differ in any bit."""
    assert left.columns == right.columns
    return [name for name in left.columns if left[name].to_numpy().tobytes() != right[name].to_numpy().tobytes()]


@pytest.fixture(scope="module")
def whole(toy_history: History) -> pl.DataFrame:
    return built(toy_history)


def test_frames_hold_exactly_the_clients_as_float32(toy_history: History, whole: pl.DataFrame) -> None:
    np.testing.assert_array_equal(whole["client_id"].to_numpy(), toy_history.clients)
    assert set(whole.drop("client_id").dtypes) == {pl.Float32}
    assert {name.split("__")[0] for name in whole.columns[1:]} == set(FAMILIES.loaded())
    numbers = whole.drop("client_id").to_numpy()
    assert not np.isinf(numbers).any()


@pytest.mark.parametrize(("chunk", "at_once"), [(7, 4), (31, 1), (31, 2)])
def test_chunks_change_nothing(
    toy_history: History, whole: pl.DataFrame, chunk: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kit.features.build.AT_ONCE", at_once)
    monkeypatch.setattr(pl, "thread_pool_size", lambda: 4)
    fresh = History(toy_history._source, toy_history.cut, toy_history.clients)
    assert same(built(fresh, chunk=chunk), whole) == []


def test_settings_decide_widths(toy_history: History) -> None:
    settings = FeatureSettings(windows=(2, 9), half_lives=(5.0,), top=3)
    frame = built(toy_history, "counts", "decayed", "top", settings=settings)
    assert "counts__buy_9d" in frame.columns
    assert "decayed__visit_h5" in frame.columns
    assert sum(name.startswith("top__category") for name in frame.columns) == 3


def test_an_unknown_family_names_the_known_ones(toy_history: History) -> None:
    with pytest.raises(KitError, match="counts"):
        list(build_features(toy_history, ["count"]))


def test_order_of_rows_in_files_is_irrelevant(tmp_path: Path) -> None:
    frames = []
    for name in ("a", "b"):
        root = write_folder(tmp_path / name, rows=300)
        if name == "b":
            for path in root.glob("*.parquet"):
                pl.read_parquet(path).sample(fraction=1.0, shuffle=True, seed=9).write_parquet(path)
        split_folder(root)
        frames.append(built(History.open(DataFolder(root), store=Store(tmp_path / f"store-{name}"))))
    assert same(*frames) == []


def test_runs_and_thread_counts_agree(toy: DataFolder, tmp_path: Path) -> None:
    code = (
        "import sys, hashlib, polars as pl; from pathlib import Path\n"
        "from kit.data.layout import DataFolder; from kit.history import History; from kit.store import Store\n"
        "from kit.features.build import build_features\n"
        "h = History.open(DataFolder(Path(sys.argv[1])), store=Store(Path(sys.argv[2])))\n"
        "frame = pl.concat(list(build_features(h)))\n"
        "print(hashlib.md5(frame.to_numpy().tobytes()).hexdigest())"
    )
    digests = set()
    for threads in ("1", "3"):
        names = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        result = subprocess.run(
            [sys.executable, "-c", code, str(toy.root), str(tmp_path / "store")],
            env={**os.environ, **dict.fromkeys(names, threads)},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(result.stdout.strip())
    assert len(digests) == 1
    assert len(digests.pop()) == len(hashlib.md5(b"").hexdigest())


EMPTY_CASES = {
    "only purchases": {EventType.BUY: [(1, 3.0, 1), (2, 5.0, 2)]},
    "only visits": {EventType.VISIT: [(1, 3.0, 7), (1, 3.0, 7)]},
    "only searches": {EventType.SEARCH: [(1, 3.0, CODES[0]), (1, 2.0, CODES[1])]},
    "only carts of unknown skus": {EventType.CART: [(1, 3.0, 99), (2, 1.0, 98)]},
}


@pytest.mark.parametrize("case", EMPTY_CASES)
def test_any_table_may_be_empty(tmp_path: Path, case: str) -> None:
    products = product_table([(1, None, None, CODES[0]), (2, 5, 50, CODES[1])])
    targets = {TaskName.CATEGORY: [5, 6], TaskName.SKU: [1, 2, 77]}
    view = history(tmp_path, EMPTY_CASES[case], products, [1, 2, 3], targets=targets)
    frame = built(view)
    assert frame["client_id"].to_list() == [1, 2, 3]
    assert same(built(view, chunk=1), frame) == []
    assert not np.isinf(frame.drop("client_id").to_numpy()).any()
    nobody = frame.row(2, named=True)
    assert nobody["presence__has_any"] == 0
    assert nobody["recency__any_last"] is None


def test_an_empty_catalogue_and_one_constant_category(tmp_path: Path) -> None:
    events = {EventType.BUY: [(1, 3.0, 1), (1, 2.0, 1)], EventType.VISIT: [(1, 3.01, 4)]}
    assert len(built(history(tmp_path / "empty", events, product_table([]), [1, 2]))) == 2
    constant = product_table([(sku, 0, 10, CODES[0]) for sku in range(5)])
    assert len(built(history(tmp_path / "constant", events, constant, [1, 2], targets={TaskName.CATEGORY: [0]}))) == 2


def test_ties_and_exact_duplicates(tmp_path: Path) -> None:
    products = product_table([(sku, sku % 2, sku * 10, CODES[sku]) for sku in range(5)])
    rows = [(1, 2.0, sku) for sku in (3, 1, 1, 4)]
    events = {EventType.CART: rows, EventType.BUY: rows[::-1], EventType.VISIT: rows}
    once = built(history(tmp_path / "a", events, products, [1]))
    other = {kind: list(reversed(tied)) for kind, tied in events.items()}
    assert same(built(history(tmp_path / "b", other, products, [1])), once) == []
    assert once["counts__cart_all"].item() == 4


def test_write_features_is_what_build_features_gives(toy_history: History, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "features.parquet"
    plans = {"one": (["counts", "price"], FeatureSettings())}
    rows, width = write_features(toy_history, plans, out, chunk=20)
    written = pl.read_parquet(out)
    assert (rows, width) == (written.height, written.width - 1)
    assert same(written, built(toy_history, "counts", "price")) == []
    assert [path.name for path in out.parent.iterdir()] == ["features.parquet"]
    two = {**plans, "two": (["counts"], FeatureSettings(windows=(3,)))}
    write_features(toy_history, two, out)
    assert {"one.counts__buy_3d", "two.counts__buy_3d"} <= set(pl.read_parquet(out).columns)
