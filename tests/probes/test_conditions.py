"""What `kit score` warns of: order, scale, float16, precision, client lists; and silence where all is well."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from probe_world import World
from scored import score_submission

from kit.challenge import EventType
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.scoring.cohorts import EventCounts
from kit.scoring.conditions import conditions, precision_notes, require_clients, uneven
from kit.submission.submission import Submission
from kit.tasks import CONVERSION


@pytest.fixture
def folder(world: World, tmp_path: Path) -> DataFolder:
    """A copy that a test may damage."""
    return DataFolder(Path(shutil.copytree(world.folder.root, tmp_path / "data")))


class Bench:
    """Notes on a changed copy of a sound submission."""

    def __init__(self, world: World, folder: DataFolder, where: Path) -> None:
        self.ids, self.vectors = world.profiles["scaled"]
        self.folder, self.where = folder, where
        where.mkdir()

    def notes(
        self, order: np.ndarray | None = None, vectors: np.ndarray | None = None, counts: EventCounts | None = None
    ) -> list[str]:
        order = np.arange(len(self.ids)) if order is None else order
        np.save(self.where / "client_ids.npy", self.ids[order])
        np.save(self.where / "embeddings.npy", (self.vectors if vectors is None else vectors)[order])
        return conditions(Submission.open(self.where), self.folder, counts)


@pytest.fixture
def bench(world: World, folder: DataFolder, tmp_path: Path) -> Bench:
    return Bench(world, folder, tmp_path / "mine")


def test_a_sound_submission_is_met_with_silence(bench: Bench) -> None:
    assert bench.notes() == []


def test_row_order(bench: Bench) -> None:
    bought = np.isin(bench.ids, pl.read_parquet(bench.folder.window("train"))["client_id"].to_numpy())
    rng = np.random.default_rng(0)
    (note,) = bench.notes(np.argsort(~bought, kind="stable"))
    assert "buyers first" in note
    (note,) = bench.notes(np.argsort(bought, kind="stable"))
    assert "buyers last" in note
    (note,) = bench.notes(np.argsort(bench.ids))
    assert "sorted by id" in note
    activity = rng.integers(0, 1000, len(bench.ids))
    order = np.argsort(-activity, kind="stable")
    events = np.zeros((len(order), 5), dtype=np.int64)
    events[:, 3] = activity[order]
    counts = EventCounts(bench.ids[order], events)
    (note,) = [note for note in bench.notes(order, counts=counts) if "bought nothing" not in note]
    assert "sorted by activity" in note
    assert bench.notes(order) == [], "without counts this order tells nothing"
    # buyers in the middle: the row number tells nothing, but the batches are lopsided
    start = (len(bought) - int(bought.sum())) // 2
    middle = np.concatenate([np.flatnonzero(~bought)[:start], np.flatnonzero(bought), np.flatnonzero(~bought)[start:]])
    (note,) = bench.notes(middle)
    assert "stand together" in note


def test_random_orders_are_not_suspected(bench: Bench) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(bench.ids))
        counts = EventCounts(
            bench.ids[order], np.column_stack([np.ones(len(order)), rng.pareto(1, (len(order), 4))]).astype(int)
        )
        assert bench.notes(order, counts=counts) == []


def test_scale_and_float16(bench: Bench) -> None:
    def said(vectors: np.ndarray) -> str:
        return " ".join(bench.notes(vectors=vectors))

    plain = bench.vectors.astype(np.float32)
    assert "unscaled" in said((plain * 0.01).astype(np.float16))
    near = bench.vectors.copy()
    near[5, 5] = 60_000
    assert "float16 ends at 65,504" in said(near)
    faint = plain.copy()
    faint[:, 7] *= 1e-5
    assert "1 columns are so small" in said(faint.astype(np.float16))


def test_profiles_on_which_precision_matters(world: World, bench: Bench) -> None:
    def reasons(vectors: np.ndarray) -> str:
        bench.notes(vectors=vectors.astype(np.float16))
        return " ".join(precision_notes(Submission.open(bench.where)))

    raw = reasons(world.profiles["raw_counts"][1])
    assert "raw counts" in raw and "--precision fp32" in raw
    uneven_columns = bench.vectors.astype(np.float32)
    uneven_columns[:, 0] *= 300
    assert "× the median's" in reasons(uneven_columns)
    assert "same way" in reasons(bench.vectors.astype(np.float32) + 20)
    length = np.linalg.norm(bench.vectors.astype(np.float32), axis=1, keepdims=True)
    assert "short rows" in reasons(0.1 * bench.vectors / length)
    assert reasons(bench.vectors / length) == ""
    assert reasons(bench.vectors) == "" == reasons(world.profiles["random"][1])
    assert uneven(np.zeros(3)) == 1 and uneven(np.array([0, 1, 1, 5.0])) == 5


def test_the_report_says_that_precision_matters(
    world: World, folder: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for profile, matters in (("raw_counts", True), ("scaled", False)):
        one = score_submission(world.submission(profile, tmp_path / profile), folder, tasks=[CONVERSION], threads=1)
        assert one.as_json()["precision_matters"] is matters
        assert any("bf16 may depart" in note for note in one.notes) is matters


def test_client_lists(bench: Bench) -> None:
    require_clients(bench.where, bench.ids, bench.folder)
    with pytest.raises(KitError, match="3 relevant clients are missing"):
        require_clients(bench.where, bench.ids[3:], bench.folder)
    with pytest.raises(KitError, match="1 ids are not relevant clients"):
        require_clients(bench.where, np.append(bench.ids, 10**9), bench.folder)
    events = np.zeros((700, 5), dtype=np.int64)
    events[:, 0] = 1
    assert bench.notes(counts=EventCounts(bench.ids, events)) == []
    active = np.flatnonzero(np.isin(bench.ids, np.load(bench.folder.active_clients)))
    events[active[:4], list(EventType).index(EventType.BUY)] = 0
    (note,) = bench.notes(counts=EventCounts(bench.ids, events))
    assert f"4 of {len(active)} active clients bought nothing before the cut" in note


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_located(bench: Bench, value: float) -> None:
    vectors = bench.vectors.copy()
    vectors[3, 1] = vectors[9, 0] = value
    with pytest.raises(KitError, match="2 values are NaN or infinite, the first in row 3, column 1"):
        bench.notes(vectors=vectors)
