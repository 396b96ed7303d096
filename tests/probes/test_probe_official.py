"""The official probe against the record of the organisers' own code, and the properties of the training loop."""

from __future__ import annotations

import gc
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from probe_world import World, make_world
from torch.nn import functional as F

from kit.challenge import PROBE_SEED
from kit.limits.processor import processor_bf16
from kit.probes import mlp
from kit.probes.network import Dense, Shape, build, fuse_updates, products
from kit.probes.registry import PROBES, Options, Precision
from kit.tasks import CHURN, CONVERSION, PRICE, SKU, Task, find_task
from kit.tasks.labels import TaskData, load_task

GOLDEN = json.loads((Path(__file__).parent / "golden" / "official.json").read_text())["tasks"]
"""folder/profile/task → what the organisers' own code printed."""
QUICK = "world/scaled/churn"
SAMPLE = {QUICK, "world/scaled/propensity_sku", "world/raw_counts/propensity_price", "tiny/learned/churn"}
"""Checked every time: both folders, three kinds of vectors, one label and many, a best epoch that is the first and one that is
the last, scores of every epoch. With KIT_GOLDEN=all in the environment the whole record is, ten seconds of a core each."""
SMALL = Shape(16, 32)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Targets and profiles of a tiny shop, as they were when the organisers' code scored them."""
    return make_world(tmp_path_factory.mktemp("tiny"), "tiny")


def golden(name: str) -> object:
    """A parameter: marked slow unless it is the quickest, and left out unless it is in the sample or all are wanted."""
    wanted = name in SAMPLE or os.environ.get("KIT_GOLDEN") == "all"
    marks = [] if name == QUICK else [pytest.mark.slow]
    return pytest.param(name, marks=[*marks, pytest.mark.skipif(not wanted, reason="KIT_GOLDEN=all checks all")])


@pytest.mark.parametrize("name", [golden(name) for name in sorted(GOLDEN)])
def test_scores_are_the_organisers_scores(world: World, tiny: World, name: str) -> None:
    folder, profile, task = name.split("/")
    place = {"world": world, "tiny": tiny}[folder]
    ids, vectors = place.profiles[profile]
    (run,) = PROBES.loaded()["official"].run(vectors, [load_task(find_task(task), ids, place.folder)], Options())
    theirs = GOLDEN[name]
    assert run.best.score == pytest.approx(theirs["score"], abs=0.0005)
    assert run.epochs.index(run.best) == theirs["best_epoch"]
    assert [epoch.score for epoch in run.epochs] == pytest.approx(
        theirs.get("epochs", [epoch.score for epoch in run.epochs]), abs=0.0005
    )
    assert run.seed == PROBE_SEED


def small_task(world: World, task: Task, profile: str = "scaled") -> tuple[np.ndarray, TaskData]:
    ids, vectors = world.profiles[profile]
    return vectors, load_task(task, ids, world.folder)


@pytest.mark.technique("D5")
@pytest.mark.parametrize("task", [CHURN, SKU])
def test_training_equals_a_plain_pytorch_loop(world: World, task: Task) -> None:
    """The definition, written down with autograd and an ordinary AdamW."""
    vectors, data = small_task(world, task)
    network = build(vectors.shape[1], data.width, SMALL, PROBE_SEED)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    x, y = torch.from_numpy(vectors[data.rows].astype(np.float32)), torch.from_numpy(data.train.toarray())
    ours = mlp.train(vectors, [data], Options(keep_logits=True, threads=1), SMALL)[0]
    for epoch in range(3):
        for start in range(0, len(x), 128):
            optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(network(x[start : start + 128]), y[start : start + 128])
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            logits = network(x).numpy()
        if epoch == ours.epochs.index(ours.best):
            assert ours.logits is not None
            assert ours.logits == pytest.approx(logits, abs=2e-4)


def test_the_network_draws_its_weights_in_the_official_order() -> None:
    torch.manual_seed(PROBE_SEED)
    first = torch.nn.Linear(5, 16)
    widen, narrow = torch.nn.Linear(16, 32), torch.nn.Linear(32, 16)
    for _ in range(2):
        torch.nn.Linear(16, 32), torch.nn.Linear(32, 16)
    last = torch.nn.Linear(16, 3)
    torch.manual_seed(99)
    expected = torch.rand(3)
    torch.manual_seed(99)
    network = build(5, 3, SMALL, PROBE_SEED)
    assert torch.equal(torch.rand(3), expected), "the caller's random state moved"
    assert torch.equal(network.enter.weight, first.weight)
    assert torch.equal(network.bottlenecks[0].widen.weight, widen.weight)
    assert torch.equal(network.bottlenecks[0].narrow.bias, narrow.bias)
    assert torch.equal(network.leave.weight, last.weight)


def test_tasks_do_not_influence_each_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone or together, in one block of rows or in many, from a memory map or not: the same bytes."""
    tasks = [small_task(world, task)[1] for task in (CHURN, SKU, CONVERSION)]
    vectors = world.profiles["scaled"][1]
    together = mlp.train(vectors, tasks, Options(seeds=2, threads=1), SMALL)
    assert [(run.task, run.seed - PROBE_SEED) for run in together] == [
        (task.task, seed) for task in tasks for seed in (0, 1)
    ]
    monkeypatch.setattr(mlp, "BLOCK", 100)
    monkeypatch.setattr(mlp, "_groups", lambda wanted, *_: ([one] for one in wanted))
    apart = mlp.train(vectors, tasks, Options(seeds=2, threads=1), SMALL)
    assert [run.epochs for run in apart] == [run.epochs for run in together]
    assert together[0].epochs != together[1].epochs


def test_last_partial_batch_is_trained_on(world: World) -> None:
    vectors, data = small_task(world, CONVERSION)
    cut = replace(data, rows=data.rows[:640], train=data.train[:640], validation=data.validation[:640])
    whole, part = (mlp.train(vectors, [one], Options(threads=1), SMALL)[0] for one in (data, cut))
    assert whole.epochs != part.epochs


def test_bf16_rounds_products_only_inside_its_block() -> None:
    a, b = torch.randn(256, 256), torch.randn(256, 256)
    exact = a @ b
    with products("bf16"):
        inside = a @ b
        with products("fp32"):
            assert torch.equal(a @ b, exact)
    assert torch.equal(a @ b, exact)
    assert inside == pytest.approx(exact.numpy(), abs=2.0)
    if processor_bf16() == "fast":
        assert not torch.equal(inside, exact)


def test_the_input_layer_stays_exact_in_bf16() -> None:
    network = build(512, 2, Shape(256, 256), 0)
    fuse_updates(network, "bf16")
    x = torch.full((256, 512), 1001.0)
    expected = F.linear(x, network.enter.weight, network.enter.bias)
    with products("bf16"):
        got, rounded = network.enter(x), F.linear(x, network.enter.weight, network.enter.bias)
    assert torch.equal(got, expected)
    if processor_bf16() == "fast":
        assert not torch.equal(rounded, expected), "or this test shows nothing"
    assert sum(isinstance(layer, Dense) and layer.exact for layer in network.modules()) == 1


def test_scores_are_deterministic(world: World) -> None:
    vectors, data = small_task(world, PRICE)
    first, second = (PROBES.loaded()["fast"].run(vectors, [data], Options(keep_logits=True))[0] for _ in range(2))
    assert first.logits is not None and second.logits is not None
    assert np.array_equal(first.logits, second.logits)


def test_a_network_is_gone_as_soon_as_it_is_scored(world: World) -> None:
    """Nine hundred megabytes of the official one must not wait for the collector of circles."""
    ids, vectors = world.profiles["scaled"]
    data = load_task(CONVERSION, ids, world.folder)
    # What torch imports late keeps the frames of the first training.
    mlp.train(vectors, [data], Options(threads=1), Shape(16, 32))
    gc.collect()
    gc.disable()
    try:
        mlp.train(vectors, [data], Options(threads=1), Shape(16, 32))
        # The layers, not the network: they hold the weights, and it is they and their updates that refer to each other.
        assert not [one for one in gc.get_objects() if type(one) is Dense]
    finally:
        gc.enable()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("first", [2, 3])
def test_epochs_that_are_not_scored_change_nothing(world: World, precision: Precision, first: int) -> None:
    """Scoring moves no weight: a network that is scored from a later epoch on scores there what one scores that always is."""
    vectors, data = small_task(world, PRICE)
    options = Options(threads=1, keep_logits=True, precision=precision)
    (always,) = mlp.train(vectors, [data], options, SMALL)
    (later,) = mlp.train(vectors, [data], options, replace(SMALL, scored_from=first))
    assert len(set(always.epochs)) == 3, "if all epochs were alike this test could not fail"
    assert later.epochs == always.epochs[first - 1 :]
    assert later.best == max(always.epochs[first - 1 :], key=lambda epoch: epoch.score)
    assert later.logits is not None and later.logits.shape == (len(data.rows), data.width)
