"""Predictions on disk: the same metrics to the last bit, little memory, nothing left behind, and words for a full disk."""

from __future__ import annotations

import os
import resource
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from probe_world import World

from kit.errors import KitError
from kit.probes import mlp
from kit.probes.network import Shape
from kit.probes.registry import Options
from kit.probes.scratch import scratch, scratch_folder
from kit.tasks import CHURN, CONVERSION, SKU
from kit.tasks.labels import load_task
from kit.tasks.metrics import auroc_multilabel


def example(n: int, width: int) -> tuple[np.ndarray, sp.csr_matrix, np.ndarray]:
    """Logits of which some batches lie in [0, 1], labels of which some have no positives, popularities."""
    rng = np.random.default_rng(n)
    logits = np.round(rng.normal(-2, 3, (n, width)), 1).astype(np.float32)
    logits[128:256] = rng.random((len(logits[128:256]), width))
    labels = sp.random(n, width, density=0.02, format="csr", random_state=1)
    return logits, labels, rng.integers(1, 99, width)


@pytest.mark.parametrize(("n", "width"), [(1, 3), (300, 7), (9000, 20)])
def test_metrics_are_bitwise_those_of_an_array_in_memory(n: int, width: int) -> None:
    logits, labels, popularity = example(n, width)
    filed = scratch(n, width)
    filed[:] = logits
    assert SKU.metric.evaluate(filed, labels, popularity) == SKU.metric.evaluate(logits, labels, popularity)
    one = logits[:, :1]
    filed = scratch(n, 1)
    filed[:] = one
    assert CHURN.metric.evaluate(filed, labels[:, :1]) == CHURN.metric.evaluate(one, labels[:, :1])


def test_influence_and_slices_read_the_file_as_they_read_memory() -> None:
    logits, labels, popularity = example(9000, 20)
    filed = scratch(*logits.shape)
    filed[:] = logits
    assert np.array_equal(
        SKU.metric.influence(filed, labels, popularity), SKU.metric.influence(logits, labels, popularity)
    )
    rows = np.flatnonzero(np.random.default_rng(0).random(9000) < 0.3)
    expected = auroc_multilabel(logits[rows], labels[rows])
    assert np.array_equal(auroc_multilabel(filed, labels[rows], rows=rows), expected, equal_nan=True)
    assert np.array_equal(auroc_multilabel(logits, labels[rows], rows=rows), expected, equal_nan=True)


def test_a_further_client_costs_a_few_numbers_whatever_the_number_of_labels() -> None:
    width, peaks = 60, {}
    for n in (20_000, 60_000):
        labels = sp.random(n, width, density=0.001, format="csr", random_state=1)
        filed = scratch(n, width)
        filed[:] = 0.5 - np.arange(n, dtype=np.float32)[:, None] % 1000
        tracemalloc.start()
        SKU.metric.evaluate(filed, labels, np.ones(width), threads=1)
        peaks[n] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # label by label, in one thread: its logits as probabilities, those sorted, temporaries of the same size
    assert peaks[60_000] - peaks[20_000] < 40_000 * 8 * 4, "its 60 logits are 240 bytes"


def test_the_probe_keeps_its_predictions_in_files_without_names(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kept ones are those of the best epoch, though epochs take turns with two files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert scratch_folder() == tmp_path
    ids, vectors = world.profiles["scaled"]
    tasks = [load_task(task, ids, world.folder) for task in (CHURN, SKU, CONVERSION)]
    for run in mlp.train(vectors, tasks, Options(threads=1, keep_logits=True), Shape(16, 32)):
        data = next(data for data in tasks if data.task is run.task)
        assert run.logits is not None and run.logits.base is not None
        assert run.task.metric.evaluate(run.logits, data.validation, data.popularity) == run.best
        assert len(run.epochs) == 3
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(KitError, match=r"no room for 38\.1 MiB of predictions") as caught:
            scratch(100_000, 100)
        monkeypatch.delattr(os, "posix_fallocate")  # as on macOS
        with pytest.raises(KitError, match="no room"):
            scratch(100_000, 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "TMPDIR" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []
    assert scratch(10, 10).sum() == 0


def test_no_clients_no_file() -> None:
    assert scratch(0, 5).shape == (0, 5)
