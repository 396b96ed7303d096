"""Metrics against torchmetrics, against their written definitions, and their invariances."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torchmetrics import AUROC

from kit.errors import KitError
from kit.tasks import CHURN, PRICE, SKU
from kit.tasks.metrics import auroc, auroc_multilabel, diversity, novelty, sigmoid

SCORES = hnp.arrays(np.float32, st.integers(2, 40), elements=st.integers(-6, 6).map(lambda x: x / 2))


def slow_auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The definition: share of (positive, negative) pairs in the right order, ties half."""
    good, bad = scores[labels > 0], scores[labels == 0]
    wins = [(1.0 if g > b else 0.5 if g == b else 0.0) for g in good for b in bad]
    return float(np.mean(wins)) if wins else float("nan")


@given(SCORES, st.integers(0, 2**31))
def test_auroc_is_the_share_of_ordered_pairs(scores: np.ndarray, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 2, len(scores))
    assert auroc(scores, labels) == pytest.approx(slow_auroc(scores, labels), nan_ok=True)


@given(SCORES, st.integers(0, 2**31))
def test_auroc_ignores_monotone_transforms_and_mirrors_under_complement(scores: np.ndarray, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 2, len(scores))
    value = auroc(scores, labels)
    assert auroc(np.exp(scores.astype(np.float64)) * 3 - 1, labels) == pytest.approx(value, nan_ok=True)
    assert auroc(-scores, labels) == pytest.approx(1 - value, nan_ok=True)
    assert auroc(scores, 1 - labels) == pytest.approx(1 - value, nan_ok=True)


def logits_and_labels(seed: int, n: int = 1000, width: int = 21) -> tuple[np.ndarray, np.ndarray]:
    """Logits with ties and saturation; label 0 has no positives, label 1 no negatives, label 2 one positive."""
    rng = np.random.default_rng(seed)
    logits = np.round(rng.normal(-1, 4, (n, width)), 1).astype(np.float32)
    logits[:, 3] = rng.integers(15, 30, n)  # sigmoids reach 1
    labels = (rng.random((n, width)) < 0.1).astype(np.int64)
    labels[:, 0], labels[:, 1] = 0, 1
    labels[:, 2] = np.arange(n) == 7
    return logits, labels


@pytest.mark.parametrize("threads", [1, 2])
def test_multilabel_auroc_equals_torchmetrics_updated_in_batches(threads: int) -> None:
    logits, labels = logits_and_labels(0)
    ours = auroc_multilabel(logits, sp.csr_matrix(labels), batch=128, threads=threads)
    metric = AUROC(task="multilabel", num_labels=labels.shape[1], average="none")
    mean = AUROC(task="multilabel", num_labels=labels.shape[1])
    for start in range(0, len(logits), 128):
        batch = torch.from_numpy(logits[start : start + 128]), torch.from_numpy(labels[start : start + 128])
        metric.update(*batch)
        mean.update(*batch)
    assert np.flatnonzero(np.isnan(ours)).tolist() == [0, 1]
    # ties at saturated sigmoids hang on the last bit of exp(), in which NumPy and torch differ: a pair or two of 10^5
    assert np.nan_to_num(ours) == pytest.approx(metric.compute().numpy(), abs=5e-5)
    got = SKU.metric.evaluate(logits, labels, np.ones(labels.shape[1]))
    assert got.auroc == pytest.approx(mean.compute().item(), abs=5e-6)
    assert got.labels_without_positives == 1
    assert got.auroc_defined == pytest.approx(np.nanmean(ours))


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(2, 60), st.integers(2, 5)),
        elements=st.integers(-12, 12).map(lambda x: x / 2),
    ),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    st.sampled_from([7, 128]),
)
def test_any_logits_and_labels_score_as_in_torchmetrics(
    logits: np.ndarray, seed: int, share: float, batch: int
) -> None:
    """Ties, labels that everybody or nobody has, last batches of one client, batches that look like probabilities."""
    labels = (np.random.default_rng(seed).random(logits.shape) < share).astype(np.int64)
    metric = AUROC(task="multilabel", num_labels=labels.shape[1], average="none")
    for start in range(0, len(logits), batch):
        metric.update(torch.from_numpy(logits[start : start + batch]), torch.from_numpy(labels[start : start + batch]))
    ours = auroc_multilabel(logits, sp.csr_matrix(labels), batch=batch)
    assert np.nan_to_num(ours) == pytest.approx(metric.compute().numpy(), abs=1e-6)


def test_a_batch_within_zero_and_one_is_taken_for_probabilities() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 3, (300, 1)).astype(np.float32)
    logits[256:] = rng.random((44, 1))
    labels = rng.integers(0, 2, (300, 1))
    metric = AUROC(task="binary")
    for start in range(0, 300, 128):
        metric.update(torch.from_numpy(logits[start : start + 128]), torch.from_numpy(labels[start : start + 128]))
    theirs = metric.compute().item()
    assert CHURN.metric.evaluate(logits, labels).auroc == pytest.approx(theirs, abs=1e-6)
    assert CHURN.metric.evaluate(logits, labels, batch=None).auroc != pytest.approx(theirs, abs=1e-3)


def test_sigmoid_is_torch_sigmoid_up_to_the_last_bit() -> None:
    x = np.concatenate([np.linspace(-110, 110, 4001), [-3.4e38, 3.4e38]]).astype(np.float32)
    assert np.array_equal(sigmoid(x[x > 18]), np.ones(np.count_nonzero(x > 18), np.float32))
    assert sigmoid(x) == pytest.approx(torch.sigmoid(torch.from_numpy(x)).numpy(), rel=3e-7, abs=1e-37)


def test_novelty_and_diversity_follow_the_written_definition() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(-3, 2, (37, 23)).astype(np.float32)
    popularity = rng.integers(0, 50, 23)
    terms, entropies = [], []
    for row in logits.astype(np.float64):
        chances = 1 / (1 + np.exp(-row))
        best = np.argsort(-chances)[:10]
        terms.append((chances[best] * popularity[best]).sum() / np.sort(popularity)[-10:].sum())
        shares = chances / chances.sum()
        entropies.append(-(shares * np.log2(shares + 1e-9)).sum() / np.log2(23))
    assert novelty(logits, popularity) == pytest.approx((1 - np.mean(terms)) ** 100, rel=1e-5)
    assert diversity(logits) == pytest.approx(np.mean(entropies), rel=1e-5)
    got = PRICE.metric.evaluate(logits, logits > 0, popularity)
    assert got.novelty is not None and got.diversity is not None
    assert got.score == pytest.approx(0.8 * got.auroc + 0.1 * got.novelty + 0.1 * got.diversity)


def test_constant_vectors_score_what_is_published() -> None:
    """Equal predictions of 0 give AUROC .5 and diversity 1; few targets make k smaller than ten."""
    logits = np.zeros((10, 4), np.float32)
    got = SKU.metric.evaluate(logits, np.eye(10, 4), np.array([4, 3, 2, 1]))
    assert got.auroc == 0.5
    assert got.diversity == pytest.approx(1, abs=1e-6)
    assert got.novelty == pytest.approx(0.5**100, abs=1e-9)


def test_underflowing_probabilities_keep_their_diversity() -> None:
    assert diversity(np.full((3, 8), -500, np.float32)) == pytest.approx(1, abs=1e-5)


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_label_order_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(-2, 2, (50, 12)).astype(np.float32)
    labels = sp.random(50, 12, density=0.1, format="csr", random_state=seed % 1000)
    popularity = rng.integers(1, 9, 12)
    turn = rng.permutation(12)
    first, second = (
        SKU.metric.evaluate(logits, labels, popularity),
        SKU.metric.evaluate(logits[:, turn], labels[:, turn], popularity[turn]),
    )
    assert first.score == pytest.approx(second.score, abs=1e-6)
    assert first.labels_without_positives == second.labels_without_positives


def test_nan_is_an_error_not_a_number() -> None:
    with pytest.raises(KitError, match="diverged"):
        auroc(np.array([0.1, np.nan, 0.3]), np.array([0, 1, 0]))
    with pytest.raises(ValueError, match="labels are"):
        auroc_multilabel(np.zeros((3, 2)), np.zeros((2, 2)))


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_clients_have_no_auroc(n: int) -> None:
    assert np.isnan(auroc_multilabel(np.zeros((n, 3), np.float32), np.ones((n, 3)), batch=128)).all()
