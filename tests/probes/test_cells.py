"""The one cache of scored cells: who finds whose runs, and what makes another cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from probe_world import World
from scored import score_submission, write_scores

from kit.data.layout import DataFolder
from kit.probes.registry import PROBES, Options, Probe, TaskRun
from kit.scoring.cells import STAGE, read_cell, write_cell
from kit.scoring.scorer import Scorer
from kit.store import Store
from kit.submission.submission import Submission
from kit.tasks import CHURN, CONVERSION, SKU

Calls = list[tuple[str, int]]
"""(task, index of the seed) of each run that was trained."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    """LightGBM under another name, which counts."""
    monkeypatch.chdir(tmp_path)
    found: Calls = []

    def run(vectors: np.ndarray, tasks: list, options: Options) -> list[TaskRun]:
        found.extend((task.task.name, options.first_seed) for task in tasks)
        return PROBES["gbm"].run(vectors, tasks, options)

    monkeypatch.setitem(PROBES._parts, "counted", Probe("counted", "", run, ("fp32", "bf16")))
    return found


@pytest.fixture
def submission(world: World, tmp_path: Path) -> Path:
    return world.submission("scaled", tmp_path / "submissions" / "scaled")


def scorer(folder: DataFolder, **options: object) -> Scorer:
    return Scorer(folder, "counted", [CHURN, SKU], Store(), Options(threads=1, **options))


def test_what_a_search_scored_kit_score_finds_and_the_other_way_round(
    world: World, submission: Path, calls: Calls
) -> None:
    opened = Submission(submission)
    found = scorer(world.folder).measure(lambda: np.array(opened.vectors), opened.ids, "a recipe's", [CHURN, SKU], 2)
    assert sorted(calls) == [("churn", 0), ("churn", 1), ("propensity_sku", 0), ("propensity_sku", 1)]
    report = score_submission(submission, world.folder, "counted", [CHURN, SKU], 2, threads=1)
    assert report.reused and len(calls) == 4
    for task in (CHURN, SKU):
        assert report.tasks[task.name]["score"] == round(found.scores[task, 0], 4)
        assert report.tasks[task.name]["per_seed"]["1279"] == round(found.scores[task, 1], 6)
        np.testing.assert_array_equal(report.influence[task.name][1], found.influence[task][1])
    score_submission(submission, world.folder, "counted", [CONVERSION], threads=1)
    scorer(world.folder).score(opened.vectors, opened.ids, "another recipe's", [CHURN], [0, 1])
    Scorer(world.folder, "counted", [CONVERSION], Store(), Options(threads=1)).score(
        lambda: pytest.fail("made to find what is known"), opened.ids, "another recipe's", [CONVERSION], [0]
    )
    assert calls[4:] == [("conversion", 0)]


def test_a_report_from_cells_is_the_report_of_the_runs(world: World, submission: Path, calls: Calls) -> None:
    """Field by field, cohorts and influences included; `force` makes the runs again, and only its own."""
    first = score_submission(submission, world.folder, "counted", [CHURN, SKU], 2, threads=1)
    again = score_submission(submission, world.folder, "counted", [CHURN, SKU], 2, threads=1)
    assert (first.reused, again.reused, len(calls)) == (False, True, 4)
    assert replace(again, reused=False).as_json() == first.as_json()
    for name, (clients, each) in first.influence.items():
        np.testing.assert_array_equal(again.influence[name][0], clients)
        np.testing.assert_array_equal(again.influence[name][1], each)
    np.testing.assert_array_equal(again.areas[SKU.name], first.areas[SKU.name])
    forced = score_submission(submission, world.folder, "counted", [SKU], threads=1, force=True)
    assert calls[4:] == [(SKU.name, 0)] and not forced.reused
    assert forced.tasks[SKU.name]["score"] == first.tasks[SKU.name]["score"]


def other_order(folder: DataFolder, submission: Path) -> Options:
    return Options(threads=1, reorder=True)


def other_precision(folder: DataFolder, submission: Path) -> Options:
    return Options(threads=1, precision="bf16")


def other_targets(folder: DataFolder, submission: Path) -> Options:
    window = pl.read_parquet(folder.window("validation"))
    window.head(window.height - 5).write_parquet(folder.window("validation"))
    return Options(threads=1)


def other_vectors(folder: DataFolder, submission: Path) -> Options:
    vectors = np.load(submission / "embeddings.npy")
    vectors[0, 0] += 1
    np.save(submission / "embeddings.npy", vectors)
    return Options(threads=1)


@pytest.mark.parametrize(
    ("change", "made"),
    [(other_order, [1]), (other_precision, [0, 1]), (other_targets, [0, 1]), (other_vectors, [0, 1])],
)
def test_what_decides_a_score_makes_another_cell(
    world: World, submission: Path, calls: Calls, tmp_path: Path, change: Callable, made: list[int]
) -> None:
    """In another order of rows only the runs after the first: the first has the submission's."""
    import shutil

    folder = DataFolder(Path(shutil.copytree(world.folder.root, tmp_path / "data")))

    def score(options: Options) -> None:
        opened = Submission(submission)
        about = opened.vectors, opened.ids, opened.digest
        Scorer(folder, "counted", [CHURN], Store(), options).score(*about, [CHURN], [0, 1])

    score(Options(threads=1))
    score(Options(threads=1))
    assert [seed for _, seed in calls] == [0, 1]
    options = change(folder, submission)
    score(options)
    assert [seed for _, seed in calls[2:]] == made


def test_a_scoring_killed_between_two_seeds_pays_for_none_twice(
    world: World, submission: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep(part: object) -> None:
        write_scores(submission, [part])
        if calls[-1] == (CHURN.name, 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_submission(submission, world.folder, "counted", [CHURN], 3, threads=1, keep=keep)
    report = score_submission(submission, world.folder, "counted", [CHURN], 3, threads=1)
    assert calls == [(CHURN.name, 0), (CHURN.name, 1), (CHURN.name, 2)]
    assert list(report.tasks["churn"]["per_seed"]) == ["1278", "1279", "1280"]


def test_a_damaged_cell_is_made_again_and_that_is_said(
    world: World, submission: Path, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    score_submission(submission, world.folder, "counted", [CHURN, SKU], threads=1)
    for record in Store().records(STAGE):
        if record["inputs"]["task"] == SKU.name:
            path = Path(record["folder"]) / "arrays.npz"
            path.write_bytes(path.read_bytes()[:-7])
    score_submission(submission, world.folder, "counted", [CHURN, SKU], threads=1)
    assert calls[2:] == [(SKU.name, 0)]
    said = capsys.readouterr().err
    assert said.count("is damaged") == 1 and f"the kept score of {SKU.name}, run 1, is damaged" in said


def test_a_cell_comes_back_bit_for_bit(world: World, submission: Path, calls: Calls, tmp_path: Path) -> None:
    opened = Submission(submission)
    asked = scorer(world.folder)
    made = asked.runs(opened.vectors, opened.ids, opened.digest, [CHURN, SKU], [0, 1])
    for task, runs in made.items():
        for number, scored in enumerate(runs):
            place = tmp_path / f"{task.name}-{number}"
            place.mkdir()
            write_cell(place, scored)
            back = read_cell(place, task)
            assert back.run == scored.run and back.known and back.slices == scored.slices
            assert (len(back.clients) > 0) == (number == 0)
            np.testing.assert_array_equal(back.each, scored.each)
            assert (back.area is None) == (scored.area is None)
