"""What a block saved is enough to go on from: it says the same of the same clients, and can be asked about later cuts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from test_blocks import make

from kit.blocks.base import BLOCKS, Block, BlockOutput
from kit.blocks.organisers import Organisers
from kit.blocks.stats import Stats, StatsSettings
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.history import History
from kit.store import Store


def loaded(block: Block, kind: str, folder: Path) -> Block:
    folder.mkdir()
    block.save(folder)
    return make(kind).load(folder)


@pytest.mark.parametrize("kind", list(BLOCKS.loaded()))
def test_a_loaded_block_says_what_the_fitted_one_says(
    toy: DataFolder, toy_history: History, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
):
    fitted = make(kind).fit(toy_history)
    whole = fitted.transform(toy_history, toy_history.clients)
    monkeypatch.setattr(type(fitted), "fit", None)  # nothing is trained from here on
    again = loaded(fitted, kind, tmp_path / "saved")
    fresh = History.open(toy, store=Store(tmp_path / "store"))  # knows nothing that the fit computed
    output = again.transform(fresh, fresh.clients)
    assert output.columns == whole.columns
    assert output.values.tobytes() == whole.values.tobytes()
    some = fresh.clients[[5, 7, 30]]
    assert again.transform(fresh, some).values.tobytes() == whole.values[[5, 7, 30]].tobytes()


@pytest.mark.parametrize("kind", list(BLOCKS.loaded()))
def test_fitted_and_loaded_agree_at_a_later_cut_and_columns_stay(toy: DataFolder, tmp_path: Path, kind: str):
    cut = toy.split().train_start
    early, late = (
        History.open(toy, instant, store=Store(tmp_path / "store")) for instant in (cut - timedelta(days=7), cut)
    )
    fitted = make(kind).fit(early)
    before = fitted.transform(early, early.clients)
    after = fitted.transform(late, late.clients)
    again = loaded(fitted, kind, tmp_path / "saved").transform(late, late.clients)
    assert before.columns == after.columns == again.columns
    assert again.values.tobytes() == after.values.tobytes()
    assert before.values.tobytes() != after.values.tobytes()  # what happened meanwhile is seen


@pytest.mark.parametrize("kind", list(BLOCKS.loaded()))
def test_what_is_saved_is_plain_arrays_without_a_row_per_client(toy_history: History, tmp_path: Path, kind: str):
    make(kind).fit(toy_history).save(tmp_path)
    clients = len(toy_history.clients)
    for path in tmp_path.rglob("*.np[yz]"):
        found = np.load(path, allow_pickle=False)
        for array in found.values() if hasattr(found, "values") else [found]:
            assert array.dtype != object
            assert clients not in array.shape, path


def test_popular_ids_are_those_of_the_fit(toy: DataFolder, tmp_path: Path):
    """Column top__sku_17 stands for product 17 at every cut, also where it is popular no more."""
    cut = toy.split().train_start
    early, late = (
        History.open(toy, instant, store=Store(tmp_path / "store")) for instant in (cut - timedelta(days=20), cut)
    )
    settings = StatsSettings(families=("top",), top=5)
    unit = Stats(settings, 0).fit(early)
    of_fit = unit.transform(late, late.clients)
    anew = Stats(settings, 0).fit(late).transform(late, late.clients)
    assert set(of_fit.columns) != set(anew.columns)  # else the test could not fail
    for column in set(of_fit.columns) & set(anew.columns):
        one, other = (output.values[:, output.columns.index(column)].tobytes() for output in (of_fit, anew))
        assert one == other, column


def test_windows_of_the_organisers_move_with_the_cut(toy: DataFolder, tmp_path: Path):
    """They end with the last event before the cut of the fit, and as long before any other cut."""
    cut = toy.split().train_start
    early, late = (
        History.open(toy, instant, store=Store(tmp_path / "store")) for instant in (cut - timedelta(days=7), cut)
    )
    unit = Organisers(Organisers.Settings(), 0).fit(early)
    moved = {kind: late.cut - behind for kind, behind in unit.behind.items() if behind is not None}
    for kind, behind in unit.behind.items():
        last = early.events(kind).collect()["timestamp"].max()
        assert early.cut - behind == last
        assert moved[kind] - last == timedelta(days=7)


def test_a_block_without_load_says_so(toy_history: History, tmp_path: Path):
    class Own(Block):
        kind = "own"

        def fit(self, history: History) -> Block:
            return self

        def transform(self, history: History, clients: np.ndarray) -> BlockOutput:
            return BlockOutput(np.zeros((len(clients), 1), np.float32), ("one",))

    with pytest.raises(KitError, match="Blocks of kind 'own' cannot be loaded again"):
        Own(Own.Settings(), 0).load(tmp_path)


def test_a_damaged_file_is_named(toy_history: History, tmp_path: Path):
    unit = make("twhin").fit(toy_history)
    unit.save(tmp_path)
    (tmp_path / "tables.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(KitError, match=r"tables\.npz cannot be read"):
        make("twhin").load(tmp_path)
