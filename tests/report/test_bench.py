"""`kit bench`: intervals against hand-computed ones, gains against submissions scored by hand, resumed after a kill."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
from report_world import BASELINE
from scored import score_submission, write_scores
from toy import write_folder
from typer.testing import CliRunner

from kit.cli.bench_table import notes
from kit.cli.main import app
from kit.data.layout import DataFolder
from kit.data.split import split_folder
from kit.errors import KitError
from kit.probes.network import Shape
from kit.probes.registry import PROBES, Options
from kit.recipe import Recipe, parse
from kit.report.bench import figure
from kit.scoring.results import read_scored, read_scores
from kit.scoring.statistics import compare, together
from kit.store import Store
from kit.studies.bench.measure import Asked, measure
from kit.studies.bench.oracle import oracle_profile
from kit.studies.bench.over_shops import compared_with, interval, over_shops
from kit.studies.bench.result import Bench, Cell, PairedGain, Shop, read_bench, write_bench
from kit.submission import submit
from kit.tasks import CHURN, CONVERSION, SKU
from kit.tasks.labels import targets_digest

OTHER = {"name": "other", "blocks": {"recency": {"kind": "stats", "families": ["recency"], "scale": "quantile"}}}
TASKS = (CONVERSION, SKU)
RECIPES = [parse(Recipe, plan, "test") for plan in (BASELINE, OTHER)]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A fast probe of less width, and a default store of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kit.probes.fast.FAST", Shape(thin=32, wide=64, paced=True))


@pytest.fixture(scope="module")
def shops(toy: DataFolder, tmp_path_factory: pytest.TempPathFactory) -> list[DataFolder]:
    """Two shops; nobody may change them."""
    root = write_folder(tmp_path_factory.mktemp("second") / "stall", seed=1)
    split_folder(root)
    return [toy, DataFolder(root)]


def asked(shops: Sequence[DataFolder], work: Path, **changes) -> Asked:
    usual = {"probes": ["fast"], "tasks": TASKS, "options": Options(threads=1), "against": "baseline", "oracle": False}
    return Asked(shops, RECIPES, work=work, **(usual | changes))


def counted(monkeypatch: pytest.MonkeyPatch, calls: list[int], stop: int | None = None) -> None:
    """Count the fast probe's trainings, and be interrupted in place of the one numbered `stop`."""
    probe = PROBES.loaded()["fast"]
    run: Callable = probe.run

    @wraps(run)
    def counting(*arguments):
        if len(calls) == stop:
            raise KeyboardInterrupt
        calls.append(1)
        return run(*arguments)

    monkeypatch.setitem(PROBES._parts, "fast", replace(probe, run=counting))


def test_gains_are_paired_over_the_clients_of_each_shop(shops: list[DataFolder], tmp_path: Path):
    found = measure(asked(shops, tmp_path / "work"), Store(tmp_path / "store"))
    assert [shop.name for shop in found.shops] == ["shop", "stall"]
    assert found.rows == ["baseline", "other"] and not found.failures
    for shop, about in zip(shops, found.shops, strict=True):
        scored = []
        for recipe in RECIPES:
            place = tmp_path / "by-hand" / about.name / recipe.name
            submit(recipe, shop.root, place, store=Store(tmp_path / "store"))
            write_scores(place, [score_submission(place, shop, "fast", TASKS, threads=1)])
            scored.append(read_scored(place, "fast"))
        base, other = scored
        oracles = {task.name: compare(other[task], base[task]) for task in TASKS}
        oracles["sum"] = compare(together(list(other.values())), together(list(base.values())))
        mine = [gain for gain in found.gains if gain.shop == about.name]
        gains = {gain.task: gain for gain in mine if gain.measure == "score"}
        assert gains.keys() == oracles.keys()
        for task, oracle in oracles.items():
            one = gains[task]
            assert (one.row, one.difference, one.verdict) == ("other", oracle.difference, oracle.verdict)
            assert (one.low, one.high) == oracle.interval
        areas = {gain.task: gain for gain in mine if gain.measure == "auroc"}
        one, two = (
            read_scores(tmp_path / "by-hand" / about.name / name)["fast"]["tasks"] for name in ("other", "baseline")
        )
        for task in TASKS:
            assert areas[task.name].difference == pytest.approx(one[task.name]["auroc"] - two[task.name]["auroc"])
        assert areas["sum"].difference == pytest.approx(np.mean([areas[task.name].difference for task in TASKS]))
        alike = gains[CONVERSION.name], areas[CONVERSION.name]  # a score that is the AUROC
        assert (alike[0].high - alike[0].low) == pytest.approx(alike[1].high - alike[1].low)
        cells = {cell.task: cell for cell in found.cells if (cell.shop, cell.row) == (about.name, "other")}
        assert cells[SKU.name].score == other[SKU].score
        assert cells["sum"].score == pytest.approx(other[SKU].score + other[CONVERSION].score)
        assert cells["sum"].half_width == together(list(other.values())).half_width


def test_a_probe_of_the_reference_holds_for_all(shops: list[DataFolder], tmp_path: Path):
    plan = asked(shops[:1], tmp_path / "work", probes=["fast", "gbm"], tasks=[CONVERSION], against="other:gbm")
    found = measure(plan, Store(tmp_path / "store"))
    scores = {(cell.row, cell.probe): cell.score for cell in found.cells if cell.task == CONVERSION.name}
    gains = {
        (gain.row, gain.probe): gain.difference
        for gain in found.gains
        if (gain.task, gain.measure) == (CONVERSION.name, "score")
    }
    base = scores.pop(("other", "gbm"))
    assert gains == {key: pytest.approx(score - base) for key, score in scores.items()}


def test_a_killed_bench_goes_on_where_it_was(shops: list[DataFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []
    with monkeypatch.context() as patch:
        counted(patch, calls, stop=3)
        with pytest.raises(KeyboardInterrupt):
            measure(asked(shops, tmp_path / "work"), Store(tmp_path / "store"))
    assert len(calls) == 3
    counted(monkeypatch, calls)
    whole = measure(asked(shops, tmp_path / "work"), Store(tmp_path / "store"))
    assert len(calls) == 4  # two recipes on two shops
    again = measure(asked(shops, tmp_path / "work"), Store(tmp_path / "store"))
    assert len(calls) == 4
    assert (again.cells, again.gains, again.means) == (whole.cells, whole.gains, whole.means)
    wider = measure(asked(shops, tmp_path / "work", tasks=(*TASKS, CHURN)), Store(tmp_path / "store"))
    assert len(calls) == 8  # the new task alone
    assert [cell for cell in wider.cells if cell.task == SKU.name] == [
        cell for cell in whole.cells if cell.task == SKU.name
    ]


def test_one_row_that_fails_does_not_stop_the_others(shops: list[DataFolder], tmp_path: Path):
    nothing = {"name": "nothing", "blocks": {"counts": {"kind": "stats", "families": ["counts"], "columns": ["x_*"]}}}
    recipes = [parse(Recipe, nothing, "test"), RECIPES[0]]
    told: list[int] = []
    plan = replace(asked(shops[:1], tmp_path / "work", probes=["none", "fast"]), recipes=recipes)
    found = measure(plan, Store(tmp_path / "store"), lambda bench: told.append(len(bench.cells)))
    assert [(failure.shop, failure.row) for failure in found.failures] == [("shop", "nothing")]
    assert "x_*" in found.failures[0].what
    silent, *others = [cell for cell in found.cells if cell.row == "baseline"]
    assert (silent.probe, silent.score) == ("none", None) and "forecasts" in str(silent.undefined)
    assert {cell.probe for cell in others} == {"fast"}
    assert told == [0, 4, 4]  # written after every row, and at the end


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"against": "stats"}, "There is no row 'stats' to compare with"),
        ({"against": "baseline:gbm"}, "names a probe that is not run"),
        ({"chosen": [DataFolder(Path("elsewhere"))]}, "elsewhere is none of the folders"),
        ({"probes": ["slow"]}, "There is no probe called 'slow'"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(
    shops: list[DataFolder], tmp_path: Path, changes: dict, message: str
):
    with pytest.raises(KitError, match=message):
        measure(asked(shops, tmp_path / "work", **changes), Store(tmp_path / "store"))
    with pytest.raises(KitError, match="Two data folders are called"):
        measure(asked([shops[0], shops[0]], tmp_path / "work"), Store(tmp_path / "store"))
    with pytest.raises(KitError, match="Two recipes are called 'baseline'"):
        measure(replace(asked(shops, tmp_path), recipes=[RECIPES[0], RECIPES[0]]), Store(tmp_path / "store"))
    assert not (tmp_path / "work").exists()


def test_an_interval_over_shops_is_students():
    mean, low, high = interval([1.0, 2.0, 3.0])
    half = 4.302653 / np.sqrt(3)  # t at 97.5 % with 2 degrees of freedom, standard deviation 1
    assert (mean, low, high) == pytest.approx((2.0, 2 - half, 2 + half), abs=1e-5)
    assert interval([0.5]) == (0.5, None, None)


def made_up(**changes) -> Bench:
    """Two rows on three shops, the third of which was chosen on."""
    scores = {"a": {"x": 0.70, "y": 0.80, "z": 0.1}, "b": {"x": 0.72, "y": 0.83, "z": 0.9}}
    cells = [
        Cell(shop=shop, row=row, probe="gbm", task="churn", score=value, auroc=value, half_width=0.01)
        for row, values in scores.items()
        for shop, value in values.items()
    ]
    shops = [
        Shop(name=name, path=name, clients=9, chosen=name == "z", ceiling={"churn": {"auroc": 0.9}}) for name in "xyz"
    ]
    plain = {
        "kit": "1", "made": "now", "command": "kit", "precision": "fp32", "seeds": 1, "against": "a", "probes": ["gbm"],
        "tasks": ["churn"], "shops": shops, "rows": ["a", "b"], "cells": cells,
    }  # fmt: skip
    bench = Bench.model_validate(plain | changes)
    bench.means = over_shops(bench)
    return bench


def test_means_leave_out_shops_that_were_chosen_on():
    bench = made_up()
    first, second = (bench.mean(row, "gbm", "churn", "auroc") for row in "ab")
    assert first is not None and second is not None
    assert (first.mean, first.shops, first.gain) == (pytest.approx(0.75), 2, None)
    assert first.clients is None  # of AUROC, nothing is known
    score = bench.mean("b", "gbm", "churn", "score")
    assert score is not None and score.clients == pytest.approx(np.sqrt(2 * 0.01**2) / 2)
    half = 12.7062 * np.std([0.02, 0.03], ddof=1) / np.sqrt(2)  # t with one degree of freedom
    assert second.gain == pytest.approx(0.025)
    assert (second.gain_low, second.gain_high) == pytest.approx((0.025 - half, 0.025 + half), abs=1e-5)


def test_another_row_or_probe_to_compare_with():
    bench = made_up()
    bench.cells.append(Cell(shop="x", row="a", probe="none", task="churn", score=0.6, auroc=0.6))
    bench.cells.append(Cell(shop="y", row="a", probe="none", task="churn", score=0.7, auroc=0.7))
    bench.probes.append("none")
    found = compared_with(bench, "a:none")
    gains = {(mean.row, mean.probe): mean.gain for mean in found.means if mean.measure == "auroc"}
    assert gains == {("a", "gbm"): pytest.approx(0.1), ("b", "gbm"): pytest.approx(0.125), ("a", "none"): None}
    assert found.gains == [] and bench.against == "a"
    assert compared_with(bench, "b").mean("a", "gbm", "churn", "score").gain == pytest.approx(-0.025)
    for wrong in ("c", "a:fast"):
        with pytest.raises(KitError, match="to compare with"):
            compared_with(bench, wrong)


def test_gains_over_clients_of_several_shops_are_independent():
    gains = [
        PairedGain(
            shop=shop,
            row="b",
            probe="gbm",
            task="churn",
            difference=0.02,
            low=0.02 - half,
            high=0.02 + half,
            verdict="better",
        )
        for shop, half in (("x", 0.03), ("y", 0.04))
    ]
    found = made_up(gains=gains).mean("b", "gbm", "churn", "score")
    assert found is not None and found.gain_clients == pytest.approx(0.05 / 2)


def test_means_of_different_shops_are_told_apart():
    bench = made_up()
    whole = [Cell(shop=shop, row="a", probe="gbm", task="sum", score=1, auroc=1) for shop in "xy"]
    bench.cells += [*whole, whole[0].model_copy(update={"row": "b"})]
    bench.means = over_shops(bench)
    assert any("not on all 2 shops" in note and note.endswith("b (gbm) 1.") for note in notes(bench))
    assert not any("not on all" in note for note in notes(made_up()))


def test_show_prints_and_draws_a_file_again(tmp_path: Path):
    write_bench(tmp_path / "bench.json", made_up())
    assert read_bench(tmp_path / "bench.json") == made_up()
    done = CliRunner().invoke(app, ["bench", "show", "bench.json", "--figure", "again.svg", "--measure", "auroc"])
    assert done.exit_code == 0, done.output
    assert "0.7500" in done.output and "+0.0250" in done.output and "z" in done.output
    ET.parse(tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text().count("<circle") == 1 + 2 + 4  # a legend, two rows on two shops; no sum
    assert json.loads(CliRunner().invoke(app, ["bench", "show", "bench.json", "--json"]).output)["rows"] == ["a", "b"]
    (tmp_path / "bench.json").write_text('{"rows": 3}')
    with pytest.raises(KitError, match="is no bench"):
        read_bench(tmp_path / "bench.json")


def test_a_figure_escapes_names_and_shows_the_ceiling():
    bench = made_up()
    bench.rows[1] = bench.means[-1].row = "<b>"
    drawn = figure(bench)
    ET.fromstring(drawn)
    assert "&lt;b&gt;" in drawn and "ceiling 0.9000" in drawn


def test_the_oracle_is_the_generators_probabilities(toy: DataFolder, tmp_path: Path):
    folder = DataFolder(Path(shutil.copytree(toy.root, tmp_path / "shop")))
    assert oracle_profile(folder) is None
    ids, rng = folder.clients(), np.random.default_rng(0)
    stays, chances = rng.uniform(0.5, 1, (len(ids), 1)), rng.uniform(0, 0.1, (len(ids), 85))
    (folder.root / "truth").mkdir()
    tables = {CONVERSION.name: stays.astype(np.float32), SKU.name: chances.astype(np.float32)}
    np.savez(folder.root / "truth" / "ceiling_probabilities.npz", client_ids=ids, **tables)
    entry = {
        "score": 0.8,
        "auroc": 0.8,
        "novelty": None,
        "diversity": None,
        "auroc_defined": 0.8,
        "labels_without_positives": 0,
    }
    ceiling = {"targets": targets_digest(folder), "days": 14, "tasks": {CONVERSION.name: entry}}
    folder.ceiling.write_text(json.dumps(ceiling))
    found = oracle_profile(folder)
    assert found is not None
    clients, profile = found
    rate = stays[np.searchsorted(ids, clients), 0]
    assert np.array_equal(np.sort(clients), ids) and not np.array_equal(clients, ids)
    assert np.corrcoef(profile[:, 1].astype(float), np.log(rate))[0, 1] > 0.999
    assert profile.shape == (len(ids), 2 + 32)
    plan = asked([folder], tmp_path / "work", probes=["none", "fast"], oracle=True)
    bench = measure(plan, Store(tmp_path / "store"))
    cells = {(cell.probe, cell.task): cell for cell in bench.cells if cell.row == "oracle"}
    assert cells["none", CONVERSION.name].auroc == 0.8
    assert cells["fast", SKU.name].score is not None


def test_the_command_writes_the_file_and_its_figure(shops: list[DataFolder], tmp_path: Path):
    recipe = tmp_path / "recipes" / "tiny.toml"
    recipe.parent.mkdir()
    recipe.write_text('name = "tiny"\n[blocks.a]\nkind = "stats"\nfamilies = ["counts"]\n')
    words = [
        "--data",
        shops[0].root,
        "--recipe",
        recipe.parent,
        "--probe",
        "fast",
        "--task",
        "conversion",
        "--out",
        "b/x.json",
    ]
    done = CliRunner().invoke(app, ["bench", "worlds", *map(str, words), "--work", "w", "--threads", "1"])
    assert done.exit_code == 0, done.output
    bench = read_bench(tmp_path / "b" / "x.json")
    assert bench.rows == ["tiny", "oracle"] and {cell.row for cell in bench.cells} == {"tiny"}
    assert "tiny" in (tmp_path / "b" / "x.svg").read_text()
    assert "conversion" in done.output
