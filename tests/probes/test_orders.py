"""Runs in other row orders: the same clients and labels, another training order, nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from probe_world import World
from scored import score_submission, write_scores

from kit.challenge import PROBE_SEED
from kit.errors import KitError
from kit.probes.mlp import train
from kit.probes.network import Shape
from kit.probes.orders import Reordered, reorder
from kit.probes.registry import Options
from kit.tasks import CATEGORY, CHURN, CONVERSION
from kit.tasks.labels import TaskData, load_task

SHAPE = Shape(16, 32)
TASKS = (CHURN, CATEGORY)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests and locks go to a folder of the test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tasks(world: World) -> list[TaskData]:
    return [load_task(task, world.profiles["scaled"][0], world.folder) for task in TASKS]


def test_clients_keep_their_vectors_and_labels(world: World, tasks: list[TaskData]) -> None:
    _, vectors = world.profiles["scaled"]
    view, moved = reorder(vectors, tasks, PROBE_SEED + 1)
    assert isinstance(view, Reordered)
    assert view.shape == vectors.shape
    assert sorted(view.order) == list(range(len(vectors)))
    assert (view.order != np.arange(len(vectors))).mean() > 0.9
    for before, after in zip(tasks, moved, strict=True):
        assert (np.diff(after.rows) > 0).all()
        # Whoever stands in a row of the view is the client of the same row before, with that client's labels.
        where = {row: i for i, row in enumerate(before.rows.tolist())}
        old = [where[row] for row in view.order[after.rows].tolist()]
        np.testing.assert_array_equal(after.train.toarray(), before.train.toarray()[old])
        np.testing.assert_array_equal(after.validation.toarray(), before.validation.toarray()[old])
        np.testing.assert_array_equal(view[0 : len(vectors)][after.rows], vectors[before.rows][old])
    same, unmoved = reorder(vectors, tasks, PROBE_SEED)
    assert same is vectors
    assert unmoved == tasks


def test_a_reordered_run_is_the_run_of_the_permuted_submission(world: World, tasks: list[TaskData]) -> None:
    clients, vectors = world.profiles["scaled"]
    options = Options(seeds=2, threads=1, keep_logits=True, reorder=True)
    runs = train(vectors, tasks, options, SHAPE)
    assert [(run.task, run.seed - PROBE_SEED) for run in runs] == [(task, n) for task in TASKS for n in (0, 1)]
    order = reorder(vectors, tasks, PROBE_SEED + 1)[0].order  # type: ignore[union-attr]
    shuffled = [load_task(task, clients[order], world.folder) for task in TASKS]
    by_hand = train(vectors[order], shuffled, Options(first_seed=1, threads=1), SHAPE)
    plain = train(vectors, tasks, Options(seeds=2, threads=1, keep_logits=True), SHAPE)
    for n in range(len(TASKS)):
        first, second = runs[2 * n : 2 * n + 2]
        assert first.epochs == plain[2 * n].epochs, "the official run is left alone"
        np.testing.assert_array_equal(first.logits, plain[2 * n].logits)
        assert second.epochs == by_hand[n].epochs
        assert second.epochs != plain[2 * n + 1].epochs, "it must not be the start alone"
        assert second.logits is None, "its rows are not those of the submission"


def test_the_spread_holds_the_order_and_is_remembered_apart(world: World, tmp_path: Path) -> None:
    place = world.submission("scaled", tmp_path / "scaled")
    reports = [
        score_submission(place, world.folder, "fast", [CONVERSION], 2, threads=1, reorder=reorder)
        for reorder in (False, True)
    ]
    start, both = (report.tasks["conversion"] for report in reports)
    assert both["score"] == start["score"]
    assert both["per_seed"]["1279"] != start["per_seed"]["1279"]
    assert [report.as_json()["reordered"] for report in reports] == [False, True]
    write_scores(place, [reports[0]])
    again = score_submission(place, world.folder, "fast", [CONVERSION], 2, threads=1, reorder=True)
    assert again.reordered, "runs in one order are not runs in several"
    assert again.tasks == reports[1].tasks
    with pytest.raises(KitError, match="--reorder changes the runs after the first"):
        score_submission(place, world.folder, "fast", [CONVERSION], threads=1, reorder=True)
