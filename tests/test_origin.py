"""Scores, studies and paths are bound to the bytes they meant: nothing is shown as known once vectors or data are others."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scored import collect, open_profiles, score_submission, validate, write_scores

from kit.challenge import EventType
from kit.cli.neighbours import _data_of
from kit.data.layout import DataFolder
from kit.data.origin import changed, require_origin
from kit.errors import KitError
from kit.recipe import Recipe, parse
from kit.scoring.evidence import origin_notes
from kit.scoring.results import current_scores, moved_on, read_ceiling
from kit.store import Store
from kit.studies.drift import read_drift, write_drift
from kit.submission import read_manifest, submit, write_card
from kit.submission.submission import Submission
from kit.tasks import CATEGORY, CHURN, CONVERSION
from kit.tasks.labels import targets_digest

PLAN = {"name": "t", "blocks": {"counts": {"kind": "stats", "families": ["counts"], "scale": "quantile"}}}


@pytest.fixture
def shop(toy: DataFolder, tmp_path: Path) -> DataFolder:
    """A copy that a test may change."""
    return DataFolder(Path(shutil.copytree(toy.root, tmp_path / "shop")))


@pytest.fixture
def built(shop: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    submit(parse(Recipe, PLAN, "test"), shop.root, tmp_path / "submissions" / "t", store=Store(tmp_path / "store"))
    return tmp_path / "submissions" / "t"


@pytest.fixture
def scored(shop: DataFolder, built: Path) -> Path:
    write_scores(built, [score_submission(built, shop, tasks=[CONVERSION], threads=1)])
    return built


def exchange(path: Path, change) -> None:
    """Other bytes under the same size and time."""
    times, size = path.stat(), path.stat().st_size
    np.save(path, change(np.load(path)))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (size, times.st_mtime_ns)


def other_events(shop: DataFolder) -> None:
    path = shop.input(EventType.BUY)
    pl.read_parquet(path).reverse().write_parquet(path)


def test_a_manifest_names_every_file_it_was_made_from(shop: DataFolder, built: Path):
    files = read_manifest(built)["data"]["files"]
    inputs = {f"input/{kind.value}.parquet" for kind in EventType}
    assert {"product_properties.parquet", "input/relevant_clients.npy", *inputs} <= files.keys()
    store = Store()
    assert changed(shop, files, store) == []
    for name in files:
        path = shop.root / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert changed(shop, files, store) == [name]
        path.unlink()
        assert changed(shop, files, store) == [name]
        path.write_bytes(whole)
    assert changed(shop, files, store, ["ids/client_id.parquet"]) == []
    (shop.root / "ids").mkdir()
    (shop.root / "ids" / "client_id.parquet").write_bytes(b"new")
    assert changed(shop, files, store, ["ids/client_id.parquet"]) == ["ids/client_id.parquet"]


def test_the_old_score_of_exchanged_vectors_is_shown_nowhere(
    shop: DataFolder, scored: Path, capsys: pytest.CaptureFixture[str]
):
    assert score_submission(scored, shop, tasks=[CONVERSION], threads=1).reused
    assert "| conversion |" in (scored / "CARD.md").read_text()
    assert collect(scored, shop.root).probes
    exchange(scored / "embeddings.npy", lambda matrix: matrix[::-1].copy())
    assert current_scores(scored) == {}
    assert "has other vectors than the fast probe scored: these scores are left out" in capsys.readouterr().err
    report = collect(scored, shop.root)
    assert report.probes == [] and "kit score" in report.missing["scores"]
    write_card(scored)
    assert "Not scored yet" in (scored / "CARD.md").read_text()
    assert not score_submission(scored, shop, tasks=[CONVERSION], threads=1).reused


def test_active_clients_that_were_exchanged_are_another_target(shop: DataFolder, scored: Path):
    report = current_scores(scored)["fast"]
    assert moved_on(report) is None
    exchange(shop.active_clients, lambda ids: np.sort(np.append(ids[1:], ids[-1] + 1)))
    assert f"{shop.root} holds other target files now" in str(moved_on(report))
    assert not score_submission(scored, shop, tasks=[CONVERSION], threads=1).reused


def test_a_ceiling_of_other_targets_is_left_out(shop: DataFolder, capsys: pytest.CaptureFixture[str]):
    tasks = {"churn": {"score": 0.9, "auroc": 0.9}}
    shop.ceiling.write_text(json.dumps({"tasks": tasks, "targets": targets_digest(shop)}))
    assert read_ceiling(shop) == tasks
    exchange(shop.popularity(CATEGORY.name), lambda counts: counts[::-1].copy() + 1)
    assert read_ceiling(shop) == {}
    assert "was made for other target files" in capsys.readouterr().err
    shop.ceiling.write_text(json.dumps({"tasks": tasks}))  # of an older version: nothing is known against it
    assert read_ceiling(shop) == tasks


def test_another_folder_at_the_same_path_is_said_by_all_who_follow_it(
    shop: DataFolder, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    manifest = read_manifest(scored)
    assert origin_notes(Submission(scored), shop) == []
    assert collect(scored).data == shop.root
    other_events(shop)
    (note,) = origin_notes(Submission(scored), shop)
    assert f"made from other data than {shop.root} holds now (input/product_buy.parquet)" in note
    assert note in score_submission(scored, shop, tasks=[CONVERSION], threads=1).notes
    capsys.readouterr()
    assert collect(scored).data is None
    said = capsys.readouterr().err
    assert f"{scored} was made from {shop.root} as it was then (history {manifest['data']['history']})" in said
    assert f"{shop.root} holds other data now: input/product_buy.parquet" in said
    with pytest.raises(KitError, match=r"holds other data now: input/product_buy\.parquet"):
        collect(scored, shop.root)
    with pytest.raises(KitError, match="holds other data now"):
        write_drift(Submission(scored), shop, Store(tmp_path / "store"))


def test_a_copy_of_the_data_elsewhere_is_the_same_data(shop: DataFolder, built: Path, tmp_path: Path):
    copy = Path(shutil.copytree(shop.root, tmp_path / "moved"))
    shutil.rmtree(shop.root)
    assert collect(built, copy).data == copy
    require_origin(built, read_manifest(built)["data"], DataFolder(copy))


def test_names_of_neighbours_come_from_the_shop_that_was_meant(shop: DataFolder, built: Path):
    assert _data_of(Submission(built)) == shop.root
    exchange(shop.relevant_clients, lambda ids: ids[::-1].copy())
    with pytest.raises(KitError, match=r"holds other data now: input/relevant_clients\.npy"):
        _data_of(Submission(built))


def test_a_manifest_of_an_older_version_is_taken_at_its_word(shop: DataFolder, built: Path):
    data = read_manifest(built)["data"]
    del data["files"]
    other_events(shop)
    require_origin(built, data, shop)


def test_drift_of_exchanged_vectors_is_not_shown(shop: DataFolder, built: Path):
    manifest = read_manifest(built)
    (built / "drift.json").write_text(json.dumps({"fingerprint": manifest["fingerprint"], "auroc": 0.5}))
    assert read_drift(Submission(built))
    exchange(built / "embeddings.npy", lambda matrix: matrix[::-1].copy())
    assert read_drift(Submission(built)) is None


def test_targets_that_are_exchanged_while_they_are_scored_are_noticed(shop: DataFolder, built: Path):
    kept: list[object] = []

    def keep(report: object) -> None:
        kept.append(report)
        exchange(shop.active_clients, lambda ids: np.sort(np.append(ids[1:], ids[-1] + 1)))

    with pytest.raises(KitError, match=r"target files of .* were exchanged while .* was scored"):
        score_submission(built, shop, tasks=[CHURN, CONVERSION], threads=1, keep=keep)
    assert len(kept) == 1


def test_what_lies_beside_exchanged_vectors_does_not_describe_them(
    shop: DataFolder, built: Path, capsys: pytest.CaptureFixture[str]
):
    width = read_manifest(built)["width"]
    names, _ = Submission(built).columns(width)
    assert open_profiles(built).names[0] == f"counts.{names[0]}" != "profile.column_0"
    assert not [found for found in validate(built, shop) if "others than manifest.json" in found.what]
    exchange(built / "embeddings.npy", lambda matrix: matrix[:, ::-1].copy())
    assert Submission(built).columns(width)[0][0] == "column_0"
    assert open_profiles(built).names[0] == "profile.column_0"
    assert "has other vectors than columns.json was written for" in capsys.readouterr().err
    assert [found for found in validate(built, shop) if "others than manifest.json" in found.what]
