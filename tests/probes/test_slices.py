"""Cohorts: counts against a slow definition, groups that cover everybody once, AUROC within each, and what has none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from probe_world import World
from scored import score_submission
from typer.testing import CliRunner

from kit.challenge import EventType
from kit.cli.main import app
from kit.data.layout import DataFolder
from kit.history import History
from kit.scoring.cohorts import LENGTHS, EventCounts, cohorts, count_events, read_counts, slice_scores
from kit.tasks import CONVERSION, PRICE
from kit.tasks.labels import TaskData
from kit.tasks.metrics import auroc


def test_counts_are_the_rows_before_the_cut(toy: DataFolder, toy_history: History) -> None:
    ids = np.random.default_rng(0).permutation(np.append(toy.clients(), 10**9))
    counts = count_events(toy_history, ids)
    for column, kind in enumerate(EventType):
        seen = pl.read_parquet(toy.input(kind))[
            "client_id"
        ].to_list()  # the split put only what lies before the cut here
        assert counts.events[:, column].tolist() == [seen.count(client) for client in ids.tolist()]
    assert counts.total.tolist() == counts.events.sum(axis=1).tolist()
    assert counts.total[ids == 10**9] == 0
    assert np.array_equal(counts.of(EventType.VISIT), counts.events[:, 3])


def test_each_group_holds_every_client_once() -> None:
    rng = np.random.default_rng(1)
    events = rng.poisson(0.7, (500, 5)) * rng.integers(0, 40, (500, 1))
    groups = cohorts(EventCounts(np.arange(500), events))
    assert set(groups) == {"history", "mix", "purchases"}
    assert set(groups["history"]) == {name for _, _, name in LENGTHS}
    for inside in groups.values():
        assert np.array_equal(np.sum(list(inside.values()), axis=0), np.ones(500))
    total = events.sum(axis=1)
    assert groups["history"]["no event"].tolist() == (total == 0).tolist()
    assert groups["history"]["10-49"].tolist() == ((total >= 10) & (total <= 49)).tolist()
    assert groups["purchases"]["buyers"].tolist() == (events[:, 0] > 0).tolist()
    only_visits = (events[:, 3] > 0) & (events[:, [0, 1, 2, 4]].sum(axis=1) == 0)
    assert groups["mix"]["visits only"].tolist() == only_visits.tolist()


def test_scores_within_cohorts() -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random((200, 3)) < 0.3).astype(np.float32)
    labels[:, 2] = 0
    logits = rng.normal(size=(150, 3)).astype(np.float32)
    rows = np.sort(rng.permutation(200)[:150])
    mine = sp.csr_matrix(labels[rows])
    data = TaskData(PRICE, rows, mine, mine, np.ones(3))
    some = np.arange(200) < 80
    masks = {"group": {"some": some, "nobody": np.zeros(200, dtype=bool), "three": np.arange(200) == rows[0]}}
    found = slice_scores(masks, data, logits)["group"]
    inside = some[rows]
    expected = np.mean([auroc(logits[inside, label], mine.toarray()[inside, label]) for label in (0, 1)])
    positives = int(mine.toarray()[inside].sum())
    assert found["some"] == {
        "clients": int(inside.sum()),
        "positives": positives,
        "labels": 2,
        "auroc": pytest.approx(expected, abs=1e-6),
    }
    assert found["nobody"] == {"clients": 0, "positives": 0, "labels": 0, "auroc": None}
    assert found["three"]["clients"] == 1 and found["three"]["auroc"] is None


def test_slices_are_in_the_json_and_in_the_file(
    toy: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ids = np.random.default_rng(3).permutation(toy.clients())
    submission = tmp_path / "mine"
    submission.mkdir()
    np.save(submission / "client_ids.npy", ids)
    np.save(submission / "embeddings.npy", np.random.default_rng(4).normal(size=(len(ids), 8)).astype(np.float16))
    arguments = ["score", str(submission), "--data", str(toy.root), "--task", "conversion", "--json", "--quiet"]
    result = CliRunner().invoke(app, [*arguments, "--threads", "1"])
    entry = json.loads(result.stdout)["tasks"]["conversion"]
    stored = json.loads((submission / "scores.json").read_text())["fast"]["tasks"]["conversion"]
    assert entry["slices"] == stored["slices"]
    for inside in entry["slices"].values():
        assert sum(part["clients"] for part in inside.values()) == len(ids)
    counts = read_counts(toy, ids)
    assert counts is not None
    masks, parts = cohorts(counts)["history"], entry["slices"]["history"]
    assert {name: part["clients"] for name, part in parts.items()} == {
        name: int(mask.sum()) for name, mask in masks.items()
    }
    assert sum(mask.any() for mask in masks.values()) > 1


def test_without_events_there_are_no_slices(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    submission = world.submission("scaled", tmp_path / "mine")
    assert read_counts(world.folder, world.profiles["scaled"][0]) is None
    report = score_submission(submission, world.folder, tasks=[CONVERSION], threads=1)
    assert report.tasks["conversion"]["slices"] is None
