"""Scoring a submission: the command contract, reuse, undefined tasks, bad input, conditions, the command itself."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer
from probe_world import World
from scored import score_submission, validate, write_scores
from typer.testing import CliRunner

from kit.cli.score import score as score_command
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.probes.fast import PRECISION
from kit.probes.registry import PROBES, Options, Probe, TaskRun
from kit.scoring import results
from kit.scoring import score as score_room
from kit.scoring.cells import STAGE
from kit.scoring.conditions import conditions
from kit.scoring.results import read_scored, read_scores
from kit.store import Store, remove_tree
from kit.submission.submission import Submission
from kit.tasks import CHALLENGE, CHURN, CONVERSION, SKU, Task, find_task

OTHER = "fp32" if PRECISION == "bf16" else "bf16"
"""What the fast probe does not know on this machine."""

CONTRACT = {"score", "auroc", "novelty", "diversity", "auroc_defined", "labels_without_positives", "epochs", "seconds"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests and locks go to a folder of the test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(world: World, tmp_path: Path) -> DataFolder:
    """A copy that a test may damage."""
    return DataFolder(Path(shutil.copytree(world.folder.root, tmp_path / "data")))


@pytest.fixture
def submission(world: World, tmp_path: Path) -> Path:
    return world.submission("scaled", tmp_path / "submissions" / "scaled")


def test_a_report_has_the_fields_of_the_contract(submission: Path, folder: DataFolder) -> None:
    report = score_submission(submission, folder, threads=1).as_json()
    assert {"submission", "data", "probe", "precision", "seeds", "tasks", "sum"} <= set(report)
    assert list(report["tasks"]) == [task.name for task in CHALLENGE]
    for name, entry in report["tasks"].items():
        assert set(entry) >= CONTRACT
        assert 0 < entry["score"] < 1
        assert entry["score"] == pytest.approx(max(entry["epochs"]), abs=5e-5)
        assert (entry["novelty"] is None) == (find_task(name).column is None)
    assert report["sum"] == pytest.approx(sum(entry["score"] for entry in report["tasks"].values()))
    assert json.loads(json.dumps(report)) == report


def test_signal_beats_noise_under_every_probe(world: World, folder: DataFolder, tmp_path: Path) -> None:
    for probe in ("fast", "gbm"):
        good, bad = (
            score_submission(world.submission(name, tmp_path / name), folder, probe, [CONVERSION, SKU], threads=1)
            for name in ("scaled", "random")
        )
        assert good.sum > bad.sum + 0.1, probe


def test_what_is_known_is_not_scored_again(
    submission: Path, folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[Task]] = []

    def run(vectors: np.ndarray, tasks: list, options: Options) -> list[TaskRun]:
        calls.append([task.task for task in tasks])
        return PROBES["fast"].run(vectors, tasks, options)

    monkeypatch.setitem(PROBES._parts, "counted", Probe("counted", "", run, ("fp32",)))

    def again(*tasks: Task, force: bool = False, seeds: int = 1) -> score_room.ScoreReport:
        report = score_submission(submission, folder, "counted", tasks, seeds, threads=1, force=force)
        write_scores(submission, [report])
        return report

    assert not again(CHURN).reused
    assert again(CHURN).reused
    assert not again(CHURN, CONVERSION).reused
    assert calls == [[CHURN], [CONVERSION]]
    assert set(read_scores(submission)["counted"]["tasks"]) == {"churn", "conversion"}
    again(CHURN, force=True)
    again(CHURN, seeds=2)
    assert len(calls) == 4
    kept = read_scores(submission)["counted"]
    assert (set(kept["tasks"]), kept["seeds"]) == ({"churn", "conversion"}, 1)
    assert again(CHURN).seeds == 2, (
        "a single run is the first of two: hours of official runs must not be lost to a look"
    )
    assert len(read_scores(submission)["counted"]["tasks"]["churn"]["per_seed"]) == 2
    assert not again(CHURN, seeds=3).reused
    assert len(calls) == 5
    vectors = np.load(submission / "embeddings.npy")
    vectors[0, 0] += 1
    np.save(submission / "embeddings.npy", vectors)
    with pytest.raises(KitError, match="are not those that the counted probe scored"):
        read_scored(submission, "counted")
    again(CHURN, seeds=2)
    assert set(read_scored(submission, "counted")) == {CHURN}
    window = pl.read_parquet(folder.window("validation"))
    window.head(window.height - 5).write_parquet(folder.window("validation"))
    again(CHURN, seeds=2)
    assert len(calls) == 5 + 2 + 2, "two runs of other vectors, and two of other targets"


def test_what_took_several_runs_is_not_lost_to_one(submission: Path, folder: DataFolder) -> None:
    """An explanation trains once more; another process may have added runs meanwhile."""
    one, three = (score_submission(submission, folder, "gbm", [CHURN], seeds, threads=1) for seeds in (1, 3))
    write_scores(submission, [three])
    write_scores(submission, [one])
    kept = read_scores(submission)["gbm"]
    assert len(kept["tasks"]["churn"]["per_seed"]) == kept["seeds"] == 3
    write_scores(submission, [score_submission(submission, folder, "gbm", [CHURN], 2, threads=1, reorder=True)])
    assert read_scores(submission)["gbm"]["tasks"]["churn"]["reordered"], "other orders are asked for on purpose"


def test_scores_in_another_precision_are_replaced_only_on_demand(
    submission: Path, folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Probe("both", "", PROBES["gbm"].run, ("fp32", "bf16"))
    monkeypatch.setitem(PROBES._parts, "both", both)
    write_scores(submission, [score_submission(submission, folder, "both", [CHURN, CONVERSION], threads=1)])
    with pytest.raises(KitError, match=r"scores in fp32: those in bf16 would replace") as caught:
        score_submission(submission, folder, "both", [CHURN], precision="bf16", threads=1)
    assert "--precision fp32" in caught.value.remedy and "--force" in caught.value.remedy
    assert score_submission(submission, folder, "both", [CHURN], threads=1).reused
    new = score_submission(submission, folder, "both", [CHURN], precision="bf16", threads=1, force=True)
    assert new.precision == "bf16"
    monkeypatch.setitem(PROBES._parts, "both", replace(both, precisions=("bf16",)))  # a machine that has no choice
    assert score_submission(submission, folder, "both", [CHURN], threads=1).precision == "bf16"


@pytest.mark.parametrize("probe", ["fast", "gbm"])
def test_a_stopped_scoring_keeps_the_tasks_that_were_done(
    submission: Path, folder: DataFolder, monkeypatch: pytest.MonkeyPatch, probe: str
) -> None:
    monkeypatch.setattr("kit.probes.mlp.MANY_ROWS", 0)  # as at full size: one network after the other
    tasks = [CHURN, CONVERSION]
    whole = score_submission(submission, folder, probe, tasks, 2, threads=1)
    remove_tree(Store().root / STAGE)

    def keep(part: score_room.ScoreReport) -> None:
        if CONVERSION.name in part.tasks:
            raise KeyboardInterrupt
        write_scores(submission, [part])

    with pytest.raises(KeyboardInterrupt):
        score_submission(submission, folder, probe, tasks, 2, threads=1, keep=keep)
    assert set(read_scored(submission, probe)) == {CHURN}
    kept_runs = {record["key"]: record for record in Store().records(STAGE)}
    assert sorted(record["inputs"]["task"] for record in kept_runs.values()) == ["churn", "conversion"]
    rest = score_submission(submission, folder, probe, tasks, 2, threads=1)
    every = {record["key"]: record for record in Store().records(STAGE)}
    assert len(every) == 4 and every | kept_runs == every, "two runs are made, and the two before stay as they were"
    write_scores(submission, [rest])
    kept = read_scores(submission)[probe]
    for name, entry in whole.tasks.items():
        assert {**entry, "seconds": 0} == {**kept["tasks"][name], "seconds": 0}
    assert kept["seeds"] == 2


def test_a_training_that_fell_back_is_told_and_stays_told(submission: Path, folder: DataFolder) -> None:
    """Also when another task is scored later; not where several runs show the spread, nor for the usual small losses."""
    report = score_submission(submission, folder, tasks=[CHURN, SKU], threads=1)
    churn, sku = (report.tasks[task.name] for task in (CHURN, SKU))
    fell = replace(report, notes=["else"], tasks={"churn": {**churn, "epochs": [0.63, 0.664, 0.636]}})
    usual = replace(report, notes=["else"], tasks={"propensity_sku": {**sku, "epochs": [0.7, 0.71, 0.703]}})
    (note,) = fell.remarks[1:]
    assert note.startswith("After its best epoch the score fell by 0.028 in churn: such a training")
    assert usual.remarks == ["else"]
    undefined = replace(report, notes=["else"], tasks={"conversion": {"score": None, "undefined": "nobody bought"}})
    for part in (fell, undefined, usual):
        write_scores(submission, [part])
    kept = read_scores(submission)["fast"]
    assert kept["notes"] == ["else", note]
    assert kept["undefined_tasks"] == 1
    assert kept["sum"] == round(churn["score"] + sku["score"], 4)
    several = {"churn": {**churn, "epochs": [0.63, 0.664, 0.636], "per_seed": {"1278": 0.66, "1279": 0.73}}}
    assert replace(fell, tasks=several).remarks == ["else"]


def test_vectors_exchanged_during_a_run_are_not_given_its_scores(submission: Path, folder: DataFolder) -> None:
    report = score_submission(submission, folder, tasks=[CHURN], threads=1)
    np.save(submission / "embeddings.npy", np.load(submission / "embeddings.npy") * 2)
    with pytest.raises(KitError, match="exchanged while"):
        write_scores(submission, [report])
    assert not (submission / "scores.json").exists()


def test_a_write_that_was_stopped_between_its_two_files_is_not_believed(
    submission: Path, folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = score_submission(submission, folder, tasks=[CHURN, CONVERSION], threads=1)
    write_scores(submission, [first])
    np.save(submission / "embeddings.npy", np.load(submission / "embeddings.npy") * 2)
    second = score_submission(submission, folder, tasks=[CHURN], threads=1)
    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr(results, "write_json", partial(raised, KeyboardInterrupt()))
        write_scores(submission, [second])
    with pytest.raises(KitError, match="are not those"):
        read_scored(submission, "fast")
    np.save(submission / "embeddings.npy", np.load(submission / "embeddings.npy") / 2)
    with pytest.raises(KitError, match="not written to its end"):
        read_scored(submission, "fast")
    again = score_submission(submission, folder, tasks=[CHURN, CONVERSION], threads=1)
    assert again.reused and again.tasks == first.tasks, "the runs themselves were kept"
    write_scores(submission, [again])
    assert set(read_scored(submission, "fast")) == {CHURN, CONVERSION}


def raised(error: BaseException, *_: object) -> None:
    raise error


def test_a_folder_that_cannot_be_written_is_refused(submission: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "write_atomically", partial(raised, PermissionError(13, "Permission denied")))
    with pytest.raises(KitError, match="cannot be written"):
        results.require_writable(submission)


def test_several_seeds_give_a_mean_and_its_error(submission: Path, folder: DataFolder) -> None:
    one = score_submission(submission, folder, tasks=[CONVERSION], threads=1).tasks["conversion"]
    three = score_submission(submission, folder, tasks=[CONVERSION], seeds=3, threads=1).tasks["conversion"]
    scores = list(three["per_seed"].values())
    assert list(three["per_seed"]) == ["1278", "1279", "1280"]
    assert three["score"] == one["score"]
    assert three["mean"] == pytest.approx(np.mean(scores), abs=1e-5)
    assert three["standard_error"] == pytest.approx(np.std(scores, ddof=1) / 3**0.5, abs=1e-5)


def test_an_undefined_task_is_stated_and_left_out_of_the_sum(submission: Path, folder: DataFolder) -> None:
    folder.targets(SKU.name).unlink()
    report = score_submission(submission, folder, tasks=[SKU, CONVERSION], threads=1)
    entry = report.tasks["propensity_sku"]
    assert entry["score"] is None
    assert entry["undefined"] == "not defined here, because the folder has no propensity_sku.npy"
    assert report.sum == report.tasks["conversion"]["score"]
    assert report.as_json()["undefined_tasks"] == 1


def test_a_window_without_purchases_leaves_nothing_to_score(submission: Path, folder: DataFolder) -> None:
    pl.read_parquet(folder.window("train")).clear().write_parquet(folder.window("train"))
    report = score_submission(submission, folder)
    assert all("in the train window" in entry["undefined"] for entry in report.tasks.values())
    assert report.sum == 0


def damage(submission: Path, kind: str) -> None:
    ids, vectors = np.load(submission / "client_ids.npy"), np.load(submission / "embeddings.npy")
    match kind:
        case "nan":
            vectors[3, 2] = np.nan
        case "wide":
            vectors = np.zeros((len(ids), 2049), np.float16)
        case "short":
            vectors = vectors[:-1]
        case "strangers":
            ids = ids + 10**9
        case "twice":
            ids[1] = ids[0]
        case "integers":
            vectors = vectors.astype(np.int32)
        case "empty":
            ids, vectors = ids[:0], vectors[:0]
    np.save(submission / "client_ids.npy", ids)
    np.save(submission / "embeddings.npy", vectors)
    if kind == "missing":
        (submission / "embeddings.npy").unlink()
    if kind == "cut":
        (submission / "embeddings.npy").write_bytes((submission / "embeddings.npy").read_bytes()[:1000])


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("nan", "1 values are NaN"),
        ("wide", "vectors have 2049 columns"),
        ("short", "700 ids for 699 vectors"),
        ("strangers", "None of the 700 ids is a relevant client"),
        ("twice", "1 duplicate ids"),
        ("integers", "int32"),
        ("missing", r"the file is missing \(embeddings.npy\)"),
        ("cut", "cannot be read"),
        ("empty", "there is no vector"),
    ],
)
def test_bad_submissions_are_refused_with_a_reason(submission: Path, folder: DataFolder, kind: str, says: str) -> None:
    damage(submission, kind)
    with pytest.raises(KitError, match=says):
        score_submission(submission, folder, tasks=[CONVERSION], threads=1)


def test_one_client_is_undefined_not_zero(submission: Path, folder: DataFolder) -> None:
    for name in ("client_ids.npy", "embeddings.npy"):
        np.save(submission / name, np.load(submission / name)[:1])
    np.save(folder.relevant_clients, np.load(submission / "client_ids.npy"))
    report = score_submission(submission, folder)
    assert {entry["score"] for entry in report.tasks.values()} == {None}


def test_unknown_probe_and_broken_scores_file(submission: Path, folder: DataFolder) -> None:
    with pytest.raises(KitError, match="no probe called 'fats'"):
        score_submission(submission, folder, "fats")
    (submission / "scores.json").write_text("{")
    with pytest.raises(KitError, match="not JSON"):
        score_submission(submission, folder)


def test_conditions_warn_about_order_scale_and_clients(submission: Path, folder: DataFolder) -> None:
    def notes(order: np.ndarray, scale: float = 1.0) -> str:
        opened = Submission.open(submission)
        ids, vectors = opened.ids[order], np.asarray(opened.vectors)[order] * np.float16(scale)
        np.save(submission / "client_ids.npy", ids)
        np.save(submission / "embeddings.npy", vectors)
        return " ".join(conditions(Submission.open(submission), folder))

    ids = np.load(submission / "client_ids.npy")
    assert not notes(np.arange(len(ids)))
    assert "unscaled" in notes(np.arange(len(ids)), 100.0)
    assert "sorted by id" in notes(np.argsort(ids), 0.01)
    ids = np.load(submission / "client_ids.npy")
    buyers = pl.read_parquet(folder.window("train"))["client_id"].to_numpy()
    assert "ordered by purchases" in notes(np.argsort(~np.isin(ids, buyers), kind="stable"))


@pytest.fixture
def cli() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(score_command)
    return app


def test_the_command_prints_one_json_object(cli: typer.Typer, submission: Path, folder: DataFolder) -> None:
    folder.ceiling.write_text(json.dumps({"tasks": {"conversion": {"score": 0.95, "auroc": 0.95}}}))
    other = shutil.copytree(submission, submission.with_name("other"))
    np.save(other / "embeddings.npy", np.load(other / "embeddings.npy")[::-1])
    arguments = [str(submission), "--data", str(folder.root), "--task", "conversion", "--threads", "1"]
    result = CliRunner().invoke(cli, [*arguments, "--against", str(other), "--json", "--quiet"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["probe"] == "fast"
    assert report["against"]["tasks"]["conversion"]["score"] < report["tasks"]["conversion"]["score"]
    assert report["ceiling"]["conversion"]["auroc"] == 0.95
    table = CliRunner().invoke(cli, [*arguments, "--against", str(other)]).stdout
    assert "known already" in table
    assert "gap closed" in table
    assert "0.9500" in table
    with pytest.raises(KitError, match="no task 'conversoin'"):
        CliRunner().invoke(cli, [str(submission), "--data", "x", "--task", "conversoin"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--device", "gpu"], "no device 'gpu'"),
        (["--precision", OTHER], f"The fast probe knows {PRECISION}, not {OTHER}"),
        (["--against", "nowhere"], "no submission 'nowhere'"),
        (["--probe", "fast", "--probe", "fsat"], "fsat"),
        (["--calibrate"], "is `kit calibrate` now"),
    ],
)
def test_what_would_be_ignored_or_fail_late_is_said_before_training(
    cli: typer.Typer,
    submission: Path,
    folder: DataFolder,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    says: str,
) -> None:
    monkeypatch.setattr("kit.probes.mlp.train", partial(raised, AssertionError("it trained")))
    arguments = [str(submission), "--data", str(folder.root), "--threads", "1", *options]
    with pytest.raises(KitError, match=says):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)


def test_the_table_shows_the_mean_beside_its_error(cli: typer.Typer, submission: Path, folder: DataFolder) -> None:
    arguments = [str(submission), "--data", str(folder.root), "--task", "conversion", "--threads", "1", "--seeds", "2"]
    shown = CliRunner().invoke(cli, arguments).stdout
    entry = read_scores(submission)["fast"]["tasks"]["conversion"]
    assert "mean of 2" in shown
    assert f"{entry['mean']:.4f}" in shown and f"{entry['standard_error']:.4f}" in shown
    assert entry["mean"] != pytest.approx(entry["score"], abs=1e-4)


def test_an_archive_under_the_name_of_an_array_is_no_vectors(submission: Path, folder: DataFolder) -> None:
    for name in ("embeddings.npy", "client_ids.npy"):
        good = (submission / name).read_bytes()
        with (submission / name).open("wb") as file:
            np.savez(file, a=np.zeros(3))
        with pytest.raises(KitError, match=r"archive of several arrays"):
            score_submission(submission, folder)
        assert any("archive of several arrays" in finding.what for finding in validate(submission, folder))
        (submission / name).write_bytes(good)


def test_a_manifest_from_elsewhere_costs_no_scores(submission: Path, folder: DataFolder) -> None:
    (submission / "manifest.json").write_text('{"name": "mine"}')
    write_scores(submission, [score_submission(submission, folder, tasks=[CONVERSION], threads=1)])
    assert set(read_scored(submission, "fast")) == {CONVERSION}


def test_a_bare_name_is_led_to_its_folder(submission: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(submission.parent.parent)
    assert submission.parent.name == "submissions"
    with pytest.raises(KitError, match=f"Did you mean submissions/{submission.name}"):
        Submission.open(Path(submission.name))


def test_another_shops_submission_is_refused_before_training(
    submission: Path, folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kit.probes.mlp.train", partial(raised, AssertionError("it trained")))
    ids = np.load(submission / "client_ids.npy")
    ids[: int(0.6 * len(ids))] += 10**9
    np.save(submission / "client_ids.npy", ids)
    with pytest.raises(KitError, match="Score a submission on the data folder that it was built from"):
        score_submission(submission, folder, tasks=[CONVERSION], threads=1)
