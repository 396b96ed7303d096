"""The numbers in a report against known answers, slow oracles and real resampling."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import Finding, Severity
from kit.report.scores import Against, Gain, ProbeScores, TaskRow, total_gain
from kit.report.svg import Domain, decimals
from kit.report.verdict import judge
from kit.report.words import listed, number, percent, short, signed
from kit.scoring.statistics import Scored, compare
from kit.studies.drift import domain_auroc, psi
from kit.studies.health import effective_rank, examine, sample_rows, variance_spectrum
from kit.submission.submission import Submission
from kit.tasks import CHALLENGE, CHURN, CONVERSION


def submission(folder: Path, matrix: np.ndarray) -> Path:
    np.save(folder / "embeddings.npy", matrix.astype(np.float16))
    return folder


def test_health_counts_what_was_planted(tmp_path: Path):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(500, 8)).astype(np.float32)
    matrix[:, 2] = 3.0  # dead
    matrix[:, 5] = matrix[:, 4]  # double
    matrix[:, 6] = 1000 + 0.5 * rng.random(500)  # float16 steps of 0.5 at 1000: nothing is left of the spread
    matrix[7] = 0
    matrix[9] = matrix[8]
    blocks = [{"name": "a", "start": 0, "stop": 4}, {"name": "b", "start": 4, "stop": 8}]
    health = examine(Submission(submission(tmp_path, matrix)), blocks)
    assert (health.rows, health.width, health.zero_rows) == (500, 8, 1)
    assert health.dead == 0  # the zero row keeps column 2 alive
    matrix[7, 2] = 3.0
    health = examine(Submission(submission(tmp_path, matrix)), blocks)
    assert health.dead == 1
    assert health.duplicate_columns == 1
    assert health.duplicate_rows == pytest.approx(1 / 500)
    assert health.energy["b"] > 0.999
    assert sum(health.energy.values()) == pytest.approx(1)
    assert health.largest == pytest.approx(1000.5, abs=0.5)
    np.testing.assert_allclose(health.norms, np.linalg.norm(matrix.astype(np.float16).astype(float), axis=1), rtol=1e-3)


def test_rounding_is_the_rounding_that_happens(tmp_path: Path):
    """The estimate (step / √12 ÷ spread) against the error of an actual cast."""
    rng = np.random.default_rng(1)
    exact = rng.normal(40, 0.5, size=(4000, 1))
    actual = (exact.astype(np.float16).astype(float) - exact).std() / exact.std()
    health = examine(Submission(submission(tmp_path, exact)), [])
    assert health.rounding == pytest.approx(actual, rel=0.05)
    assert health.coarse == int(actual > 0.01)


def test_effective_rank_of_known_spectra():
    assert effective_rank(np.full(7, 1 / 7)) == pytest.approx(7)
    assert effective_rank(np.array([1.0, 0, 0])) == pytest.approx(1)
    assert effective_rank(np.empty(0)) == 0


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_the_spectrum_is_that_of_the_singular_values(shape):
    matrix = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    singular = np.linalg.svd(matrix - matrix.mean(axis=0), compute_uv=False) ** 2
    found = variance_spectrum(matrix)[: len(singular)]
    np.testing.assert_allclose(found, singular / singular.sum(), atol=1e-6)


def test_a_sample_is_always_the_same_and_never_repeats():
    rows = sample_rows(1000, 100)
    assert len(np.unique(rows)) == 100
    np.testing.assert_array_equal(rows, sample_rows(1000, 100))
    np.testing.assert_array_equal(sample_rows(5, 100), np.arange(5))


@pytest.mark.technique("I4")
def test_psi_by_hand():
    """Two deciles hold everything: half and half before, a tenth and nine tenths after."""
    before = np.repeat([0.0, 1.0], [50, 50])
    after = np.repeat([0.0, 1.0], [10, 90])
    floor = 0.5 / 100
    shares = [(0.5, 0.1), (0.5, 0.9), (floor, floor)]  # the last bin is NaN
    assert psi(before, after) == pytest.approx(sum((q - p) * math.log(q / p) for p, q in shares))
    assert psi(before, before) == pytest.approx(0)
    assert psi(before, np.where(before == 0, np.nan, before)) > 1


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10), st.floats(-5, 5))
def test_psi_does_not_depend_on_the_scale(seed: int, factor: float, shift: float):
    rng = np.random.default_rng(seed)
    before, after = rng.normal(size=200), rng.normal(0.5, size=200)
    assert psi(before, after) == pytest.approx(psi(before * factor + shift, after * factor + shift), abs=0.05)
    assert psi(before, after) >= 0


@pytest.mark.technique("I4")
def test_the_domain_classifier_knows_moved_from_unmoved():
    rng = np.random.default_rng(3)
    before = rng.normal(size=(400, 4)).astype(np.float32)
    same = rng.normal(size=(400, 4)).astype(np.float32)
    moved = same + np.array([3.0, 0, 0, 0], dtype=np.float32)
    assert abs(domain_auroc(before, same) - 0.5) < 0.06
    assert domain_auroc(before, moved) > 0.95
    assert domain_auroc(before, before.copy()) <= 0.5  # both rows of a client are in one fold: nothing is remembered


def scored(rng: np.random.Generator, clients: np.ndarray, score: float) -> Scored:
    return Scored(score, None, clients, (rng.normal(size=len(clients)) / 1000).astype(np.float32))


def test_errors_of_the_sum_respect_shared_clients():
    rng = np.random.default_rng(4)
    everyone, some = np.arange(300), np.arange(0, 300, 3)
    own = {CHURN: scored(rng, some, 0.7), CONVERSION: scored(rng, everyone, 0.6)}
    other = {CHURN: scored(rng, some, 0.6), CONVERSION: scored(rng, everyone, 0.65)}
    gain = total_gain(own, other)
    dense = np.zeros((2, 300))
    for row, task in enumerate(own):
        dense[row, own[task].clients] = own[task].influence.astype(float) - other[task].influence.astype(float)
    resampled = np.random.default_rng(5).multinomial(300, np.full(300, 1 / 300), size=4000) - 1
    assert gain.difference == pytest.approx(0.05)
    half = (gain.high - gain.low) / 2
    assert half == pytest.approx(1.96 * (resampled @ dense.sum(axis=0)).std(), rel=0.05)
    alone = total_gain({CHURN: own[CHURN]}, {CHURN: other[CHURN]})
    single = compare(own[CHURN], other[CHURN])
    assert (alone.low, alone.high) == pytest.approx(single.interval)


def probe(verdicts: list[str], gap: dict[str, float] | None = None) -> ProbeScores:
    names = [task.name for task in CHALLENGE]
    rows = [TaskRow(name, 0.5, 0.5, None, None, 0, 0.01, None, None, []) for name in names]
    value = {"better": 0.1, "worse": -0.1, "cannot tell": 0.0}
    gains = {n: Gain(value[v], value[v] - 0.05, value[v] + 0.05, v) for n, v in zip(names, verdicts, strict=True)}
    other = Against("other", dict.fromkeys(names, 0.5), dict.fromkeys(names, 0.5), gains, None, gap or {})
    return ProbeScores("fast", "fp32", 1, "data", rows, 3.0, [], [other])


@pytest.mark.parametrize(
    ("verdicts", "mood", "headline"),
    [
        (["better"] * 6, "good", "x beats other on all six tasks."),
        (["better"] * 5 + ["cannot tell"], "good", "x beats other on 5 of six tasks; price cannot be told from noise."),
        (["better"] * 4 + ["worse", "cannot tell"], "mixed", "x beats other on 4 of six tasks and loses on new sku."),
        (["worse"] + ["cannot tell"] * 5, "bad", "x is worse than other on 1 of six tasks and better on none."),
        (["cannot tell"] * 6, "unknown", "x cannot be told from other on any task."),
    ],
)
def test_the_verdict_follows_the_numbers(verdicts, mood, headline):
    found = judge("x", [probe(verdicts)], [])
    assert (found.mood, found.headline) == (mood, headline)


def test_the_verdict_puts_refusal_first_and_says_what_is_missing():
    error = Finding(Severity.ERROR, "3 values are NaN", "embeddings.npy", "")
    found = judge("x", [probe(["better"] * 6)], [error])
    assert found.mood == "bad"
    assert "refuse" in found.headline
    assert "3 values are NaN" in found.sentences[0]
    assert judge("x", [], []).mood == "unknown"
    assert "not been scored" in judge("x", [], []).headline
    closed = judge("x", [probe(["better"] * 6, {"churn": 0.8, "conversion": 0.2})], [])
    assert any(
        "50\u00a0%" in sentence and "least on conversion (20\u00a0%)" in sentence for sentence in closed.sentences
    )


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_are_few_round_and_inside(low: float, width: float, most: int):
    domain = Domain(low, low + width)
    if domain.high <= domain.low:
        return
    ticks = domain.ticks(most)
    assert len(ticks) <= most + 1
    assert ticks == sorted(ticks)
    slack = 1e-6 * max(abs(low), width, 1.0)
    assert all(domain.low - slack <= tick <= domain.high + slack for tick in ticks)
    assert all(0 <= domain.percent(tick) <= 100 for tick in ticks)


def test_words():
    assert decimals([-0.025, 0.0, 0.025]) == 3
    assert decimals([0.0, 0.5]) == 1
    assert (signed(-0.5, 1), number(None), number(-0.25, 2)) == ("−0.5", "–", "−0.25")
    assert (percent(0.345), percent(None)) == ("34\u00a0%", "–")
    assert (listed([]), listed(["a"]), listed(["a", "b", "c"])) == ("none", "a", "a, b and c")
    assert short("propensity_new_sku") == "new sku"
