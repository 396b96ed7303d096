"""Influence and paired differences against real resampling, numeric derivatives and hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.scoring import statistics
from kit.scoring.statistics import Scored, client_covariance, compare, run_covariance, together
from kit.tasks import CHURN, PRICE, Task
from kit.tasks.influence import auroc_influence
from kit.tasks.metrics import auroc


def weighted_auroc(scores, labels, weights) -> float:
    """The slow definition: every pair of a positive and a negative, weighted."""
    won = total = 0.0
    for i in np.flatnonzero(labels):
        for j in np.flatnonzero(labels == 0):
            w = weights[i] * weights[j]
            won += w * ((scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]))
            total += w
    return won / total


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 14), st.booleans())
def test_auroc_influence_is_the_derivative_by_a_weight(seed: int, n: int, ties: bool):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, n).astype(float) if ties else rng.normal(size=n)
    labels = np.zeros(n, dtype=int)
    labels[rng.permutation(n)[: rng.integers(1, n)]] = 1
    gradient = auroc_influence(scores, np.flatnonzero(labels))
    assert abs(gradient.sum()) < 1e-12
    for i in range(n):
        up, down = np.ones(n), np.ones(n)
        up[i] += 1e-5
        down[i] -= 1e-5
        numeric = (weighted_auroc(scores, labels, up) - weighted_auroc(scores, labels, down)) / 2e-5
        assert gradient[i] == pytest.approx(numeric, abs=1e-6)


def test_degenerate_labels_have_no_influence():
    assert not auroc_influence(np.arange(3.0), np.array([], dtype=int)).any()
    assert not auroc_influence(np.arange(3.0), np.arange(3)).any()


def example(seed: int, task: Task, n: int = 400, width: int = 6, noise: float = 1.5):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, width)) - 1.5
    labels = (rng.random((n, width)) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    logits = (truth + noise * rng.normal(size=(n, width))).astype(np.float32)
    popularity = labels.sum(axis=0) if task.column is not None else None
    return logits, labels, popularity


@pytest.mark.parametrize("task", [CHURN, PRICE])
def test_standard_error_agrees_with_resampling_clients(task: Task):
    logits, labels, popularity = example(0, task, width=1 if task is CHURN else 6)
    g = task.metric.influence(logits, labels, popularity)
    rng = np.random.default_rng(1)
    scores = []
    for _ in range(400):
        rows = rng.integers(0, len(logits), len(logits))
        scores.append(task.metric.evaluate(logits[rows], labels[rows], popularity, batch=None).score)
    assert np.linalg.norm(g) == pytest.approx(np.std(scores), rel=0.15)


def scored(task: Task, logits, labels, popularity, clients=None) -> Scored:
    clients = np.arange(len(logits)) if clients is None else clients
    score = task.metric.evaluate(logits, labels, popularity, batch=None).score
    return Scored(score, None, clients, task.metric.influence(logits, labels, popularity))


def test_paired_difference_agrees_with_paired_resampling_and_beats_the_unpaired_one():
    task = PRICE
    logits, labels, popularity = example(2, task)
    other = logits + 0.3 * np.random.default_rng(3).normal(size=logits.shape).astype(np.float32)
    a, b = scored(task, logits, labels, popularity), scored(task, other, labels, popularity)
    got = compare(a, b)
    rng = np.random.default_rng(4)
    differences = []
    for _ in range(400):
        rows = rng.integers(0, len(logits), len(logits))
        differences.append(
            task.metric.evaluate(logits[rows], labels[rows], popularity, batch=None).score
            - task.metric.evaluate(other[rows], labels[rows], popularity, batch=None).score
        )
    assert got.error == pytest.approx(np.std(differences), rel=0.15)
    assert got.error < 0.5 * np.hypot(a.error, b.error)


def test_verdicts():
    task = CHURN
    logits, labels, _ = example(5, task, n=2_000, width=1, noise=0.3)
    noise = np.random.default_rng(6).normal(size=logits.shape).astype(np.float32)
    good, bad = scored(task, logits, labels, None), scored(task, noise, labels, None)
    assert compare(good, bad).verdict == "better"
    assert compare(bad, good).verdict == "worse"
    assert compare(good, good).verdict == "cannot tell"
    assert compare(good, good).detectable == 0
    low, high = compare(good, bad).interval
    assert low < good.score - bad.score < high
    loud = Scored(good.score, {1: good.score - 10, 2: good.score + 10}, good.clients, good.influence)
    assert compare(loud, bad).verdict == "cannot tell"


def test_clients_are_paired_by_id_whatever_their_order_or_number():
    task = CHURN
    logits, labels, _ = example(7, task, n=300, width=1)
    g = task.metric.influence(logits, labels)
    a = Scored(0.6, None, np.arange(300), g)
    b = Scored(0.5, None, np.arange(100, 300), g[100:])
    assert compare(a, b).error == pytest.approx(np.linalg.norm(g[:100])), (
        "who is in one of them alone is paired with nobody"
    )
    apart = compare(a, Scored(0.5, None, np.arange(1000, 1300), g))
    assert apart.error == pytest.approx(2**0.5 * np.linalg.norm(g))


def test_clients_are_paired_by_id_also_a_block_at_a_time_and_beyond_the_reach_of_floats(
    monkeypatch: pytest.MonkeyPatch,
):
    rng = np.random.default_rng(4)
    every = 2**60 + np.arange(40)
    parts = [np.sort(rng.choice(every, size, replace=False)) for size in (40, 17, 1)]
    items = [Scored(0.5, None, ids, rng.normal(size=len(ids)).astype(np.float32)) for ids in parts]
    slow = np.zeros((3, 3))
    for i, one in enumerate(items):
        for j, two in enumerate(items):
            other = dict(zip(two.clients.tolist(), two.influence.astype(float), strict=True))
            mine = zip(one.clients.tolist(), one.influence.astype(float), strict=True)
            slow[i, j] = sum(value * other.get(client, 0.0) for client, value in mine)
    for size in (1, 7, 1000):
        monkeypatch.setattr(statistics, "CLIENTS_AT_ONCE", size)
        np.testing.assert_allclose(client_covariance(items), slow, rtol=1e-12)


def test_covariance_is_consistent_with_compare():
    task = PRICE
    logits, labels, popularity = example(8, task)
    other = logits[:, ::-1].copy()
    a, b = scored(task, logits, labels, popularity), scored(task, other, labels, popularity)
    c = client_covariance([a, b])
    assert c[0, 0] == pytest.approx(a.error**2, rel=1e-6)
    assert np.sqrt(c[0, 0] + c[1, 1] - 2 * c[0, 1]) == pytest.approx(compare(a, b).error, rel=1e-6)


def one_client(score: float, *runs: float, seeds: tuple[int, ...] | None = None) -> Scored:
    """A submission whose clients bring no noise."""
    known = dict(zip(seeds or range(len(runs)), runs, strict=True))
    return Scored(score, known or None, np.arange(2), np.zeros(2, dtype=np.float32))


def test_runs_of_the_same_seeds_are_paired():
    a, b = one_client(0.6, 0.5, 0.6, 0.7), one_client(0.5, 0.41, 0.5, 0.59)
    # differences .09, .10, .11: their standard deviation is .01, and Student's t with 2 degrees of freedom is 4.3027
    paired = compare(a, b)
    assert paired.error == pytest.approx(0.01 / 3**0.5)
    assert paired.detectable == pytest.approx(4.3027 * 0.01 / 3**0.5, rel=1e-4)
    assert paired.verdict == "better"
    apart = compare(a, one_client(0.5, 0.41, 0.5, 0.59, seeds=(7, 8, 9)))
    assert apart.error == pytest.approx((0.1**2 / 3 + 0.09**2 / 3) ** 0.5)
    assert apart.verdict == "cannot tell"
    alone = compare(a, one_client(0.5))
    assert alone.error == pytest.approx((0.1**2 / 3 + 0.1**2) ** 0.5), "one run is as uncertain as one of the other's"
    assert run_covariance([one_client(0.5), one_client(0.6)]).tolist() == [[0, 0], [0, 0]]
    assert a.half_width == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
    same = compare(a, one_client(0.6, 0.5, 0.6, 0.7))
    assert (same.error, same.detectable) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))
    np.testing.assert_allclose(run_covariance([a, b]), np.cov([[0.5, 0.6, 0.7], [0.41, 0.5, 0.59]]) / 3)


def test_tasks_add_up_client_by_client_and_run_by_run():
    rng = np.random.default_rng(0)
    first = Scored(0.6, {1: 0.5, 2: 0.7}, np.array([1, 2, 5]), rng.normal(size=3).astype(np.float32))
    second = Scored(0.3, {1: 0.4, 2: 0.2}, np.array([2, 5, 9]), rng.normal(size=3).astype(np.float32))
    both = together([first, second])
    assert both.score == pytest.approx(0.9)
    assert both.clients.tolist() == [1, 2, 5, 9]
    one, two = first.influence, second.influence
    np.testing.assert_allclose(both.influence, [one[0], one[1] + two[0], one[2] + two[1], two[2]])
    assert both.runs == pytest.approx({1: 0.9, 2: 0.9})
    assert both.run_error == pytest.approx(0.0, abs=1e-12), "what one task gains in a run the other loses"
    mixed = together([first, one_client(0.3)])
    assert (mixed.runs, mixed.score) == (None, pytest.approx(0.8)), (
        "the first run of each task, where not all have several"
    )


def test_auroc_of_the_influence_matches_the_metric():
    rng = np.random.default_rng(9)
    scores, labels = rng.normal(size=50), rng.integers(0, 2, 50)
    positives = np.flatnonzero(labels)
    g = auroc_influence(scores, positives)
    # Dropping a client changes the AUROC by about −g_i: exactly so for the derivative, closely for the finite change.
    without = auroc(np.delete(scores, 3), np.delete(labels, 3))
    assert without - auroc(scores, labels) == pytest.approx(-g[3], abs=2e-3)
