"""What the network read: known answers of a linear network, a slow oracle, the network that was scored, files and the command."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from probe_world import World
from torch import nn
from typer.testing import CliRunner

from kit.cli.main import app
from kit.errors import KitError
from kit.probes import expected_gradients as expected_gradients_room
from kit.probes import fast as fast_room
from kit.probes.expected_gradients import best_network, expected_gradients, explain_task
from kit.probes.mlp import train
from kit.probes.network import Dense, Shape, build, fuse_updates, products
from kit.probes.registry import Options, Precision
from kit.report.attributions import read_attributions
from kit.studies.attributions import check_explainable
from kit.submission.submission import Submission
from kit.tasks import CHURN
from kit.tasks.labels import load_task

needs_shap = pytest.mark.skipif(importlib.util.find_spec("shap") is None, reason="the extra shap is not installed")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Shape:
    """The fast probe, narrower still: what is said of its network holds at any width."""
    shape = Shape(thin=32, wide=64, paced=True)
    for room in ("fast", "expected_gradients"):
        monkeypatch.setattr(f"kit.probes.{room}.FAST", shape)
    return shape


def linear(weight: np.ndarray) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
    return layer.requires_grad_(False)


@needs_shap
@pytest.mark.parametrize("labels", [1, 5])
def test_a_linear_network_against_one_client_is_exact(labels: int) -> None:
    """weight · (x − x'), whatever was drawn; base and attributions add up to the logit."""
    rng = np.random.default_rng(0)
    weight, behind = rng.normal(size=(labels, 7)).astype(np.float32), rng.normal(size=(1, 7)).astype(np.float32)
    x = rng.normal(size=(4, 7)).astype(np.float32)
    network = linear(weight)
    found = expected_gradients(network, torch.from_numpy(behind), torch.from_numpy(x), draws=3)
    logits = network(torch.from_numpy(x)).numpy()
    assert found.labels.shape == (4, min(3, labels))
    assert found.labels.tolist() == np.argsort(-logits, axis=1)[:, :3].tolist(), "the most likely labels, in that order"
    assert found.values == pytest.approx(weight[found.labels] * (x - behind)[:, None, :], abs=1e-5)
    assert found.logits == pytest.approx(np.take_along_axis(logits, found.labels, 1), abs=1e-6)
    assert found.base + found.values.sum(axis=2) == pytest.approx(found.logits, abs=1e-5)


@needs_shap
def test_a_linear_network_against_many_tends_to_weight_times_distance_from_the_mean() -> None:
    rng = np.random.default_rng(1)
    weight, behind = rng.normal(size=(2, 5)).astype(np.float32), rng.normal(size=(300, 5)).astype(np.float32)
    x = rng.normal(size=(3, 5)).astype(np.float32)
    draws = 2000
    found = expected_gradients(linear(weight), torch.from_numpy(behind), torch.from_numpy(x), draws=draws)
    wanted = weight[found.labels] * (x - behind.mean(axis=0))[:, None, :]
    noise = np.abs(weight[found.labels]) * behind.std(axis=0) / np.sqrt(draws)
    assert (np.abs(found.values - wanted) < 5 * noise).all()
    assert np.abs(found.values - wanted).max() > 0, "these are draws: otherwise the bound says nothing"


@needs_shap
def test_the_probes_network_agrees_with_a_fine_integral() -> None:
    """All background rows and 64 positions each, by plain autograd; additivity follows from the same definition."""
    rng = np.random.default_rng(2)
    network = build(6, 4, Shape(thin=16, wide=32, blocks=2), 5).requires_grad_(False).eval()
    behind = torch.from_numpy(rng.normal(size=(40, 6)).astype(np.float32))
    x = torch.from_numpy((2 * rng.normal(size=(2, 6))).astype(np.float32))
    found = expected_gradients(network, behind, x, draws=4000)
    positions = (torch.arange(64) + 0.5) / 64
    for row in range(2):
        for k, label in enumerate(found.labels[row]):
            between = positions[:, None, None] * x[row] + (1 - positions[:, None, None]) * behind
            points = between.reshape(-1, 6).requires_grad_()
            (slopes,) = torch.autograd.grad(network(points)[:, label].sum(), points)
            exact = (slopes.reshape(64, 40, 6) * (x[row] - behind)).mean(dim=(0, 1)).double().numpy()
            assert exact.sum() == pytest.approx(found.logits[row, k] - found.base[row, k], abs=0.01)
            assert found.values[row, k] == pytest.approx(exact, abs=0.08 * np.abs(exact).max() + 0.01)
    one, two, other = (expected_gradients(network, behind, x, draws=50, seed=seed).values for seed in (0, 0, 1))
    assert np.array_equal(one, two), "equal seeds, equal draws"
    assert not np.array_equal(one, other)


@needs_shap
def test_numpys_random_state_is_left_alone() -> None:
    np.random.seed(3)
    wanted = np.random.random()
    np.random.seed(3)
    expected_gradients(linear(np.ones((1, 2), np.float32)), torch.zeros(1, 2), torch.ones(1, 2), draws=2)
    assert np.random.random() == wanted


def test_the_fast_probes_network_is_the_one_explained() -> None:
    assert expected_gradients_room.FAST is fast_room.FAST


@pytest.mark.parametrize(("precision", "first"), [("fp32", 1), ("fp32", 3), ("bf16", 1)])
def test_the_network_explained_is_the_one_that_was_scored(
    world: World, narrow: Shape, precision: Precision, first: int
) -> None:
    """Trained in the probe's precision and handed over in float32; read here as the logits were that were scored."""
    ids, vectors = world.profiles["scaled"]
    data, options = load_task(CHURN, ids, world.folder), Options(threads=1, keep_logits=True, precision=precision)
    shape = replace(narrow, scored_from=first)
    (run,) = train(vectors, [data], options, shape)
    assert first == 3 or run.epochs[-1] != run.best, "the best epoch must not be the last, or this test could not fail"
    network = best_network(vectors, data, options, shape)
    assert all(layer.short is None for layer in network.modules() if isinstance(layer, Dense))
    fuse_updates(network, precision)
    with torch.no_grad(), products(precision):
        logits = network(torch.from_numpy(vectors[data.rows].astype(np.float32))).numpy()
    # Rows are multiplied in other batches here, which bf16 may round otherwise; another epoch's logits are off by more than 1.
    assert run.logits is not None and logits == pytest.approx(run.logits, abs=1e-4 if precision == "fp32" else 1e-3)
    assert np.std(run.logits) > 0.01, "logits that are all alike would agree with any network"


@needs_shap
def test_what_a_task_is_weighed_by(world: World) -> None:
    ids, vectors = world.profiles["scaled"]
    wide = np.hstack([vectors, np.zeros((len(ids), 2), np.float16)])
    data = load_task(CHURN, ids, world.folder)
    outside = np.setdiff1d(np.arange(len(ids)), data.rows)[:1]
    asked = np.sort(np.append(outside, data.rows[[4, 9]]))
    found = explain_task(wide, data, asked, Options(threads=1), Shape(thin=32, wide=64))
    assert found.rows.tolist() == data.rows[[4, 9]].tolist(), "who takes no part in the task is left out"
    assert found.contributions.shape == (2, 1, wide.shape[1] + 1)
    assert found.sample is not None and found.sample.shape == (64, wide.shape[1])
    assert found.gain == pytest.approx(np.abs(found.sample).mean(axis=0))
    assert not found.gain[-2:].any() and found.gain[:-2].any(), "constant columns push nobody"
    assert found.margins is not None and found.contributions.sum(axis=2) == pytest.approx(found.margins, abs=0.2)


@needs_shap
@pytest.mark.usefixtures("narrow")
def test_the_command_writes_it_and_the_report_reads_it(world: World, tmp_path: Path) -> None:
    submission = world.submission("scaled", tmp_path / "mine")
    ids, vectors = world.profiles["scaled"]
    names = [f"c{i}" for i in range(vectors.shape[1])]
    columns = {"past": names[:200], "taste": names[200:]}
    (submission / "columns.json").write_text(json.dumps(columns))
    call = [
        "score",
        str(submission),
        "--data",
        str(world.folder.root),
        "--explain",
        "--threads",
        "1",
        "--task",
        "churn",
    ]
    more = ["--task", "propensity_price", "--clients", f"{ids[3]},{ids[8]}", "--json", "--quiet"]
    done = CliRunner().invoke(app, [*call, *more])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    stored = json.loads((submission / "explain-fast.json").read_text())
    assert stored["fingerprint"] == printed["fingerprint"]
    for task, part in stored["tasks"].items():
        assert {key: part[key] for key in ("blocks", "features")} == printed["importance"][task]
        assert sum(block["share"] for block in part["blocks"].values()) == pytest.approx(1, abs=1e-3)
        assert all(row["column"] in columns[row["block"]] and row["attribution"] > 0 for row in part["features"])
        for labels in part["clients"].values():
            for one in labels:
                total = one["base"] + sum(one["blocks"].values()) + one["unexplained"]
                assert total == pytest.approx(one["margin"], abs=1e-9)
            assert [one["margin"] for one in labels] == sorted((one["margin"] for one in labels), reverse=True)
    price = stored["tasks"]["propensity_price"]["clients"][str(ids[3])]
    with np.load(submission / "explain-fast.npz") as arrays:
        place = arrays["propensity_price-clients"].tolist().index(ids[3])
        prices = [f"price {value}" for value in arrays["propensity_price-labels"][place]]  # bucket i is label i
    assert [one["label"] for one in price] == prices
    read = read_attributions(Submission(submission), "fast")
    assert read is not None and set(read.blocks["churn"]) == {"past", "taste"} and "propensity_price" in read.pushes
    assert read_attributions(Submission(submission)) is None, "LightGBM was not asked"
    table = CliRunner().invoke(app, call).stdout
    assert "what the network read" in table and "known already" in table


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "shap" else known(name, *rest))
    for probes in (None, ["fast"], ["gbm", "fast"]):
        with pytest.raises(KitError, match="needs the package shap") as caught:
            check_explainable(probes, None, explain=True)
        assert "pip install 'kit[shap]'" in caught.value.remedy
    check_explainable(["gbm"], None, explain=True)  # the trees explain themselves
