"""The windows' length belongs to the folder's split, and what is made for one length is never taken for another."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from toy import write_folder
from typer.testing import CliRunner

from kit.blocks.futures import rewound_futures
from kit.blocks.sequence import SequenceBlock, SequenceSettings
from kit.challenge import EventType
from kit.cli.main import app
from kit.data.check import check_folder
from kit.data.layout import DataFolder, Split
from kit.data.split import split_folder
from kit.errors import KitError, Severity
from kit.features.build import build_features
from kit.history import History
from kit.models.heads.intensity import INTENSITIES, IntensitySettings
from kit.store import Store
from kit.tasks import CONVERSION
from kit.tasks.labels import load_task
from kit.tokens import TokenSettings, tokenise


def test_the_split_stores_the_length_and_cuts_whole_days(shop: DataFolder, days: int) -> None:
    split, stored = shop.split(), json.loads(shop.split_file.read_text())
    assert stored["days"] == split.days == days
    assert split.validation_start - split.train_start == timedelta(days=days)
    assert (
        split.validation_start + timedelta(days=days - 1) <= split.end < split.validation_start + timedelta(days=days)
    )
    for name, start in (("train", split.train_start), ("validation", split.validation_start)):
        times = pl.read_parquet(shop.window(name))["timestamp"]
        assert start <= times.min() and times.max() < start + timedelta(days=days)  # type: ignore[operator]
    assert pl.read_parquet(shop.input(EventType.BUY))["timestamp"].max() < split.train_start  # type: ignore[operator]
    assert not [found for found in check_folder(shop.root) if found.severity is Severity.ERROR]


def test_labels_are_the_purchases_of_windows_of_that_length(shop: DataFolder, days: int) -> None:
    split, ids = shop.split(), shop.clients()
    buys = pl.read_parquet(shop.raw(EventType.BUY)).with_columns(pl.col("timestamp").str.to_datetime())
    data = load_task(CONVERSION, ids, shop)
    for labels, start in ((data.train, split.train_start), (data.validation, split.validation_start)):
        inside = buys.filter(pl.col("timestamp").is_between(start, start + timedelta(days=days), closed="left"))
        assert labels.toarray()[:, 0].tolist() == (~np.isin(ids, inside["client_id"].to_numpy())).astype(float).tolist()


def test_a_folder_without_split_json_has_the_challenges_length(shop: DataFolder, days: int, tmp_path: Path) -> None:
    folder = DataFolder(Path(shutil.copytree(shop.root, tmp_path / "data")))
    folder.split_file.unlink()
    assert folder.split().days == 14
    assert (folder.split() == shop.split()) == (days == 14)


def test_a_history_rewinds_by_the_length_and_says_so_in_its_fingerprint(
    shop: DataFolder, days: int, store: Store, tmp_path: Path
) -> None:
    history = History.open(shop, store=store)
    assert history.days == days and history.among(history.clients[:5]).days == days
    earlier, window = history.rewind()
    assert (window.start, window.stop) == (earlier.cut, history.cut) and earlier.days == days
    assert history.cut - earlier.cut == timedelta(days=days)
    other = DataFolder(Path(shutil.copytree(shop.root, tmp_path / "data")))  # the same tables and cut, longer windows
    stored = json.loads(other.split_file.read_text())
    later = (shop.split().validation_start + timedelta(days=1)).isoformat()
    other.split_file.write_text(json.dumps(stored | {"days": days + 1, "validation_start": later}))
    longer = History.open(other, store=store)
    assert (longer.artefact, longer.cut) == (history.artefact, history.cut)
    assert longer.fingerprint != history.fingerprint and longer.rewind()[0].cut < earlier.cut


def test_near_and_far_windows_of_the_combined_network_follow(shop: DataFolder, days: int, store: Store) -> None:
    history = History.open(shop, store=store)
    tokens = tokenise(history, TokenSettings())
    futures = rewound_futures(
        history, tokens, cuts=3, stride=days, heads={"intensity": IntensitySettings(partial=False)}
    )
    buys = history.events(EventType.BUY).collect()
    assert len(futures) == (3 if days == 7 else 2)
    for k, future in enumerate(futures, start=1):
        labels = future.labels["intensity"].of(np.arange(len(tokens.clients)))
        start = history.cut - timedelta(days=k * days)
        for name, low, high in (("near", 0, days), ("far", days, 2 * days)):
            at = INTENSITIES.index(name)
            low_t, high_t = start + timedelta(days=low), start + timedelta(days=high)
            assert labels["known"][:, at].all() == (high_t <= history.cut)
            inside = buys.filter(pl.col("timestamp") >= low_t, pl.col("timestamp") < high_t)["client_id"].to_numpy()
            assert labels["values"][:, at].tolist() == np.isin(tokens.clients, inside).astype(float).tolist()


def test_what_the_sequence_block_looks_ahead_for_follows(shop: DataFolder, days: int, store: Store) -> None:
    small = {"events": {"width": 8}, "train": {"epochs": 1}, "objectives": {"timing": False, "fate": False}}
    block = SequenceBlock(SequenceSettings.model_validate(small), 0)
    block.fit(History.open(shop, store=store))
    assert {part.days for part in block.model.objectives} == {days}


def test_the_feature_that_looks_ahead_is_named_after_the_windows(shop: DataFolder, days: int, store: Store) -> None:
    frame = pl.concat(list(build_features(History.open(shop, store=store), ["repurchase"])))
    assert {f"repurchase__sku_due_{days}", f"repurchase__category_due_{2 * days}"} <= set(frame.columns)


@pytest.mark.parametrize("wrong", [0, -3])
def test_a_length_that_cannot_be_is_refused(tmp_path: Path, wrong: int) -> None:
    root = write_folder(tmp_path / "shop")
    with pytest.raises(KitError, match=f"--days {wrong} is no length"):
        split_folder(root, days=wrong)
    assert not (root / "target").exists()


def test_windows_that_leave_no_past_are_refused_with_the_way_out(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "shop")
    with pytest.raises(
        KitError,
        match=r"nothing lies before the cut .*80 target days; .kit data split --days. makes",
    ):
        split_folder(root, days=40)


def test_windows_that_came_with_the_folder_keep_their_length(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "shop")
    split_folder(root)
    (root / "target" / "made.json").write_text("[]")
    with pytest.raises(KitError, match="came with target windows of 14 days: --days 7 would need others"):
        split_folder(root, days=7)
    assert split_folder(root, days=14) == split_folder(root)


def test_another_length_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folder(tmp_path / "shop")
    split_folder(root, days=7)
    capsys.readouterr()
    split_folder(root)
    assert "the target windows had 7 days and now have 14" in capsys.readouterr().err


def test_a_split_json_that_contradicts_itself_is_refused(shop: DataFolder, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    stored = json.loads(shop.split_file.read_text())
    path.write_text(json.dumps({key: value for key, value in stored.items() if key != "days"}))
    assert Split.read(path) == shop.split()  # one of an earlier version
    path.write_text(json.dumps(stored | {"days": 9}))
    with pytest.raises(KitError, match="says days = 9, but its windows have"):
        Split.read(path)
    path.write_text("{}")
    with pytest.raises(KitError, match="cannot be read"):
        Split.read(path)


def test_a_ceiling_is_shown_beside_windows_of_its_own_length_only(tmp_path: Path) -> None:
    from kit.scoring.results import ceiling_note, read_ceiling

    root = tmp_path / "shop"
    made = CliRunner().invoke(app, ["data", "synth", str(root), "--preset", "tiny", "--days", "7"])
    assert made.exit_code == 0, made.output
    folder = DataFolder(root)
    assert folder.split().days == 7 and json.loads(folder.ceiling.read_text())["days"] == 7
    ceiling = read_ceiling(folder)
    assert ceiling["conversion"]["auroc"] > 0.6 and ceiling_note(folder) is None
    split_folder(root)
    assert read_ceiling(folder) == {}
    assert "windows of 7 days, and the folder is split into windows of 14" in str(ceiling_note(folder))
    split_folder(root, days=7)
    assert read_ceiling(folder) == ceiling
