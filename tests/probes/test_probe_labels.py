"""Labels cell by cell against the slow definition, and tasks that data cannot define."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from probe_world import World

from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.tasks import CATEGORY, CHALLENGE, CHURN, CONVERSION, PRICE, SKU, Task
from kit.tasks.labels import UndefinedTask, label_matrix, load_popularity, load_targets, load_task
from kit.tasks.window import TargetWindow


def slow_labels(window: pl.DataFrame, task: Task, client_ids: np.ndarray, folder: DataFolder) -> np.ndarray:
    """One client at a time, as the evaluator does it."""
    rows = []
    for client in client_ids:
        mine = window.filter(pl.col("client_id") == client)
        if task.column is None:
            rows.append([1.0 if mine.is_empty() else 0.0])
        else:
            bought = set(mine[task.column].to_list())
            rows.append([1.0 if target in bought else 0.0 for target in np.load(folder.targets(task.name)).tolist()])
    return np.array(rows, dtype=np.float32)


@pytest.mark.parametrize("task", list(CHALLENGE))
@pytest.mark.parametrize("name", ["train", "validation"])
def test_every_cell_equals_the_slow_definition(toy: DataFolder, tmp_path: Path, task: Task, name: str) -> None:
    rng = np.random.default_rng(0)
    ids = rng.permutation(np.append(toy.clients(), [10**12, -5]))
    window = pl.read_parquet(toy.window(name))
    targets = None if task.column is None else load_targets(toy.targets(task.name))
    ours = label_matrix(task, TargetWindow(toy, name), ids, targets)
    assert ours.dtype == np.float32
    assert np.array_equal(ours.toarray(), slow_labels(window, task, ids, toy))
    other = DataFolder(tmp_path)
    other.window(name).parent.mkdir()
    window.sample(fraction=1, shuffle=True, seed=1).write_parquet(other.window(name))
    shuffled = label_matrix(task, TargetWindow(other, name), ids, targets)
    assert (shuffled != ours).nnz == 0


def test_churn_is_scored_on_active_clients_only(world: World) -> None:
    ids, _ = world.profiles["scaled"]
    active = np.load(world.folder.active_clients)
    data = load_task(CHURN, ids, world.folder)
    assert set(ids[data.rows]) == set(active)
    assert np.all(np.diff(data.rows) > 0)
    assert CONVERSION.clients(ids, world.folder).all()
    assert data.train.shape == (len(active), 1)


@pytest.fixture
def folder(world: World, tmp_path: Path) -> DataFolder:
    """A copy that a test may damage."""
    return DataFolder(Path(shutil.copytree(world.folder.root, tmp_path / "data")))


def reason(task: Task, folder: DataFolder, ids: np.ndarray) -> str:
    with pytest.raises(UndefinedTask) as caught:
        load_task(task, ids, folder)
    assert caught.value.what == f"{task.name} is not defined here, because {caught.value.reason}."
    return caught.value.reason


def test_missing_lists_make_a_task_undefined(folder: DataFolder) -> None:
    ids = folder.clients()
    folder.targets(SKU.name).unlink()
    folder.popularity(PRICE.name).unlink()
    folder.active_clients.unlink()
    np.save(folder.targets(CATEGORY.name), np.array([3]))
    assert "no propensity_sku.npy" in reason(SKU, folder, ids)
    assert "no popularity_propensity_price.npy" in reason(PRICE, folder, ids)
    assert "active_clients.npy is missing" in reason(CHURN, folder, ids)
    assert "holds 1 of at least 2" in reason(CATEGORY, folder, ids)


def test_windows_without_purchases_make_tasks_undefined(folder: DataFolder) -> None:
    ids = folder.clients()
    pl.read_parquet(folder.window("validation")).clear().write_parquet(folder.window("validation"))
    assert "none of the 700 clients bought something in the validation window" in reason(CONVERSION, folder, ids)
    assert "none of the 700 clients bought any of its 100 targets" in reason(SKU, folder, ids)


def test_everybody_bought_is_a_single_class_too(folder: DataFolder) -> None:
    ids = folder.clients()
    window = pl.read_parquet(folder.window("train"))
    buyers = np.intersect1d(ids, window["client_id"].to_numpy())
    assert "all of the" in reason(CONVERSION, folder, buyers)


def test_one_client_or_no_active_client_is_undefined(folder: DataFolder) -> None:
    ids = folder.clients()
    assert "there are 1 clients" in reason(CONVERSION, folder, ids[:1])
    np.save(folder.active_clients, np.array([-1]))
    assert "there are 0 active clients" in reason(CHURN, folder, ids)


def test_a_missing_column_is_undefined(folder: DataFolder) -> None:
    for name in ("train", "validation"):
        pl.read_parquet(folder.window(name)).drop("category").write_parquet(folder.window(name))
    assert "no column category" in reason(CATEGORY, folder, folder.clients())


def test_object_arrays_of_numbers_load_without_running_code(tmp_path: Path) -> None:
    path = tmp_path / "targets.npy"
    np.save(path, np.array([3, 1, np.int64(7)], dtype=object), allow_pickle=True)
    assert load_targets(path).tolist() == [3, 1, 7]
    np.save(path, np.array([3.0, 1.0]))
    assert load_targets(path).tolist() == [3, 1]

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "boom",)  # type: ignore[return-value]

    np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(KitError, match="not allowed"):
        load_targets(path)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("bad", [np.array(["a", "b"]), np.array([[1, 2]]), np.array([1.5, 2.0])])
def test_target_lists_that_are_no_integers_are_refused(tmp_path: Path, bad: np.ndarray) -> None:
    np.save(tmp_path / "targets.npy", bad)
    with pytest.raises(KitError, match=r"targets\.npy (holds|cannot be read .*holds)"):
        load_targets(tmp_path / "targets.npy")


def test_popularity_must_fit_the_targets(folder: DataFolder) -> None:
    assert load_popularity(SKU.name, folder, 100).shape == (100,)
    for bad in (np.ones(99), np.zeros(100), np.full(100, np.nan), -np.ones(100)):
        np.save(folder.popularity(SKU.name), bad)
        with pytest.raises(KitError, match="no popularities"):
            load_popularity(SKU.name, folder, 100)


def test_an_unsplit_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="no target windows"):
        load_task(SKU, np.arange(3), DataFolder(tmp_path))
