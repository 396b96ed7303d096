"""Tasks of one's own: labels against slow definitions, one file for every probe, no part of the challenge's sum."""

from __future__ import annotations

import json
import pickle
import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scored import score_submission, write_scores
from typer.testing import CliRunner

from kit.challenge import TIMESTAMP_FORMAT, EventType
from kit.cli.main import app
from kit.data.layout import DataFolder
from kit.data.split import split_folder
from kit.errors import KitError
from kit.history import History
from kit.scoring.board import rank
from kit.scoring.results import read_scored, read_scores
from kit.store import Store
from kit.tasks import CHALLENGE, CONVERSION, TASKS, find_task
from kit.tasks.labels import UndefinedTask, label_matrix, list_rules, load_targets, load_task


def rows_between(folder: DataFolder, kind: EventType, first: int, last: int) -> pl.DataFrame:
    """Raw events from so many days after train_start on, up to others: read as text, as a person would."""
    start = folder.split().train_start
    low, high = ((start + timedelta(days=day)).strftime(TIMESTAMP_FORMAT) for day in (first, last))
    return pl.read_parquet(folder.raw(kind)).filter(pl.col("timestamp") >= low, pl.col("timestamp") < high)


def test_a_task_of_seven_days_sees_the_first_week_of_each_window(shop: DataFolder, days: int) -> None:
    ids = shop.clients()
    data = load_task(find_task("dear"), ids, shop)
    prices = pl.read_parquet(shop.products).select("sku", "price")
    for labels, first in ((data.train, 0), (data.validation, days)):
        week = rows_between(shop, EventType.BUY, first, first + 7).join(prices, on="sku").filter(pl.col("price") >= 80)
        assert labels.toarray()[:, 0].tolist() == np.isin(ids, week["client_id"].to_numpy()).astype(float).tolist()
        later = rows_between(shop, EventType.BUY, first + 7, first + 14)
        assert (
            days == 7 or later.join(prices, on="sku").filter(pl.col("price") >= 80).height
        )  # it has something to leave out


def test_a_task_may_read_other_events(shop: DataFolder, days: int) -> None:
    ids = shop.clients()
    data = load_task(find_task("carted"), ids, shop)
    for labels, first in ((data.train, 0), (data.validation, days)):
        carts = rows_between(shop, EventType.CART, first, first + days)["client_id"].to_numpy()
        assert labels.toarray()[:, 0].tolist() == np.isin(ids, carts).astype(float).tolist()


def test_the_split_makes_the_list_that_a_task_asks_for(shop: DataFolder, days: int) -> None:
    prices = pl.read_parquet(shop.products).select("sku", "price")
    window = rows_between(shop, EventType.BUY, 0, days).join(prices, on="sku").filter(pl.col("price") < 50)
    counts = window.group_by("sku").len().sort(["len", "sku"], descending=[True, False]).head(20)
    assert load_targets(shop.targets("cheap")).tolist() == counts["sku"].to_list()
    assert np.load(shop.popularity("cheap")).tolist() == counts["len"].to_list()
    data = load_task(find_task("cheap"), shop.clients(), shop)
    assert data.train.shape[1] == data.width == 20 and data.popularity is not None


def test_labels_come_from_a_rewound_window_as_well(shop: DataFolder, days: int, store: Store) -> None:
    """The same question about the past is what a block may learn from."""
    history = History.open(shop, store=store)
    earlier, window = history.rewind()
    assert (history.cut - earlier.cut) == timedelta(days=days)
    ids = shop.clients()
    carts = rows_between(shop, EventType.CART, -days, 0)["client_id"].to_numpy()
    assert (
        label_matrix(find_task("carted"), window, ids).toarray()[:, 0].tolist()
        == np.isin(ids, carts).astype(float).tolist()
    )


@pytest.mark.parametrize("probe", ["fast", "gbm"])
def test_every_probe_scores_it_and_the_sum_stays_that_of_the_six(
    shop: DataFolder, submission: Path, tmp_path: Path, probe: str
) -> None:
    place = Path(shutil.copytree(submission, tmp_path / "sub"))
    call = ["score", str(place), "--data", str(shop.root), "--probe", probe, "--threads", "1", "--json"]
    mine = CliRunner().invoke(app, [*call, "--task", "dear", "--task", "cheap"])
    assert mine.exit_code == 0, mine.output
    shown = json.loads(mine.stdout)
    assert list(shown["tasks"]) == ["dear", "cheap"] and shown["sum"] == 0
    assert shown["tasks"]["dear"]["novelty"] is None and shown["tasks"]["cheap"]["novelty"] is not None
    six = json.loads(CliRunner().invoke(app, [*call, "--task", "conversion"]).stdout)
    assert six["sum"] == six["tasks"]["conversion"]["score"]
    kept = read_scores(place)[probe]
    assert list(kept["tasks"]) == ["conversion", "cheap", "dear"] and kept["sum"] == six["sum"]
    assert {task.name for task in read_scored(place, probe)} == {"conversion", "cheap", "dear"}
    (row,) = rank([place], probe)
    assert list(row.scores) == [CONVERSION]


def test_a_known_score_is_that_of_the_task_as_it_is_now(
    shop: DataFolder, submission: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(shutil.copytree(submission, tmp_path / "sub"))
    dear = find_task("dear")
    score = lambda: score_submission(place, shop, tasks=[dear, CONVERSION], threads=1)  # noqa: E731
    write_scores(place, [score()])
    assert score().reused
    monkeypatch.setattr(type(dear), "days", 5)
    again = score()
    assert not again.reused and again.tasks["dear"] != read_scores(place)["fast"]["tasks"]["dear"]
    assert again.tasks["conversion"] == read_scores(place)["fast"]["tasks"]["conversion"]


def test_scores_of_a_task_that_is_gone_are_left_alone(
    shop: DataFolder, submission: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(shutil.copytree(submission, tmp_path / "sub"))
    write_scores(place, [score_submission(place, shop, tasks=[find_task("dear"), CONVERSION], threads=1)])
    monkeypatch.delitem(TASKS.loaded()._parts, "dear")
    assert list(read_scored(place, "fast")) == [CONVERSION]
    assert set(read_scores(place)["fast"]["tasks"]) == {"conversion", "dear"}


def test_a_window_longer_than_the_splits_is_refused_by_name(shop: DataFolder, days: int) -> None:
    with pytest.raises(UndefinedTask, match=f"long is not defined here, because it looks 21 days ahead .* have {days}"):
        load_task(find_task("long"), shop.clients(), shop)


def test_missing_lists_and_tables_are_said(shop: DataFolder, tmp_path: Path) -> None:
    folder = DataFolder(Path(shutil.copytree(shop.root, tmp_path / "data")))
    folder.targets("cheap").unlink()
    with pytest.raises(UndefinedTask, match=r"the folder has no cheap\.npy"):
        load_task(find_task("cheap"), folder.clients(), folder)
    carts = folder.raw(EventType.CART)
    start = folder.split().train_start.strftime(TIMESTAMP_FORMAT)
    pl.read_parquet(carts).filter(pl.col("timestamp") < start).write_parquet(carts)
    with pytest.raises(UndefinedTask, match=r"add_to_cart\.parquet holds nothing from"):
        load_task(find_task("carted"), folder.clients(), folder)


def test_a_list_that_came_with_the_folder_is_kept(shop: DataFolder, days: int, tmp_path: Path) -> None:
    folder = DataFolder(Path(shutil.copytree(shop.root, tmp_path / "data")))
    (folder.split_file.with_name("made.json")).write_text("[]")
    for name in ("train", "validation"):
        folder.window(name).unlink()
    theirs = np.array([1005, 1001])
    np.save(folder.targets("cheap"), theirs)
    folder.popularity("cheap").unlink()
    split_folder(folder.root, days=days, lists=list_rules())
    assert load_targets(folder.targets("cheap")).tolist() == theirs.tolist()
    bought = rows_between(folder, EventType.BUY, 0, days)["sku"].to_list()
    assert np.load(folder.popularity("cheap")).tolist() == [bought.count(1005), bought.count(1001)]


def test_a_mistyped_task_lists_ones_own_too(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"no task 'deer';.*did you mean 'dear'.*propensity_sku"):
        CliRunner().invoke(app, ["score", str(tmp_path), "--data", "y", "--task", "deer"], catch_exceptions=False)


def test_tasks_travel_between_processes_as_the_same_object() -> None:
    for task in (*CHALLENGE, find_task("dear")):
        assert pickle.loads(pickle.dumps(task)) is task
