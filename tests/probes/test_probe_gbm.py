"""The boosted-tree probe: calibrated margins, determinism over threads, and a child that never outlives its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import scipy.sparse as sp
from probe_world import World

from kit.errors import KitError
from kit.probes import gbm
from kit.probes.gbm_worker import _log_odds, _sample, _shift, bin_vectors, learn_task
from kit.probes.registry import Options
from kit.submission.submission import Submission
from kit.tasks import CHURN, CONVERSION, SKU
from kit.tasks.labels import load_task
from kit.tasks.metrics import auroc, auroc_multilabel, sigmoid


def planted(n: int = 3000, labels: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Vectors whose first columns decide sparse labels; label 0 is never bought."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(n, 20)).astype(np.float16)
    chances = 1 / (1 + np.exp(3.5 - 1.5 * vectors[:, :labels].astype(np.float64)))
    bought = (rng.random((n, labels)) < chances).astype(np.float32)
    bought[:, 0] = 0
    return vectors, bought


def test_planted_signal_is_found_and_probabilities_are_honest() -> None:
    vectors, bought = planted()
    margins, _ = learn_task(bin_vectors(vectors, 1), np.arange(len(vectors)), sp.csr_matrix(bought), 0)
    assert margins.dtype == np.float32
    values = auroc_multilabel(margins, bought)
    assert np.isnan(values[0])
    assert values[1:].min() > 0.75
    assert sigmoid(margins).mean(axis=0)[1:] == pytest.approx(bought.mean(axis=0)[1:], rel=0.2)
    assert sigmoid(margins).mean(axis=0)[0] < 0.002


def test_threads_change_nothing_and_seeds_do() -> None:
    vectors, bought = planted(1200, 4)
    rows, labels = np.arange(0, 1200, 2), sp.csr_matrix(bought[::2])
    one, two, other = (
        learn_task(bin_vectors(vectors, threads), rows, labels, seed)[0] for threads, seed in ((1, 5), (2, 5), (1, 6))
    )
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_sampled_negatives_carry_the_weight_of_those_left_out() -> None:
    y = np.zeros(50_000)
    y[:40] = 1
    among = np.ones(len(y), dtype=bool)
    among[100:200] = False
    chosen, weights = _sample(y, among, np.random.default_rng(0))
    assert np.all(np.diff(chosen) > 0)
    assert y[chosen].sum() == 40
    assert not np.isin(chosen, np.arange(100, 200)).any()
    assert weights.sum() == pytest.approx(among.sum())


def test_shift_meets_the_base_rate() -> None:
    rng = np.random.default_rng(2)
    margin, y = rng.normal(0, 3, 4000), (rng.random(4000) < 0.01).astype(float)
    shifted = margin + _shift(margin, y)
    assert sigmoid(shifted).mean() == pytest.approx((y.sum() + 0.5) / 4001, rel=1e-3)
    assert _log_odds(np.zeros(10)) == pytest.approx(np.log(0.5 / 10.5))


def test_runs_in_a_child_and_returns_in_order(world: World) -> None:
    ids, vectors = world.profiles["scaled"]
    tasks = [load_task(task, ids, world.folder) for task in (CHURN, CONVERSION)]
    runs = gbm.gbm(vectors, tasks, Options(seeds=2, threads=1, keep_logits=True))
    assert [(run.task, run.seed) for run in runs] == [
        (task, seed) for task in (CHURN, CONVERSION) for seed in (1278, 1279)
    ]
    for run, data in zip(runs[::2], tasks, strict=True):
        assert run.logits is not None
        assert run.best.auroc == pytest.approx(auroc(run.logits[:, 0], data.validation.toarray()[:, 0]), abs=1e-5)
        assert run.best.auroc > 0.6


def test_what_lightgbm_prints_is_not_taken_for_a_result(tmp_path: Path) -> None:
    """From 250,001 rows on it complains, on standard output, of the sample that the bins are found from."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "vectors.npy", rng.random((260_000, 1)).astype(np.float16))
    np.save(tmp_path / "rows0.npy", np.arange(1000))
    sp.save_npz(tmp_path / "labels0.npz", sp.csr_matrix((rng.random((1000, 1)) < 0.5).astype(np.float32)))
    job = {"vectors": str(tmp_path / "vectors.npy"), "threads": 1, "order": [(0, 1278)]}
    (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
    with gbm.child(tmp_path) as lines:
        assert [json.loads(line)["seed"] for line in lines] == [1278]
    assert "too small" in (tmp_path / "stderr").read_text(encoding="utf-8"), "LightGBM no longer complains: what now?"


def test_a_submission_is_mapped_where_it_lies_and_what_only_resembles_it_is_written(
    tmp_path: Path, world: World
) -> None:
    vectors = Submission.open(world.submission("scaled", tmp_path / "s")).vectors
    task = load_task(CHURN, world.profiles["scaled"][0], world.folder)

    def mapped(values: np.ndarray, name: str) -> Path:
        (job := tmp_path / name).mkdir()
        gbm.write_job(job, values, [task], Options(threads=1))
        path = Path(json.loads((job / "job.json").read_text())["vectors"])
        np.testing.assert_array_equal(np.load(path), values)
        return path

    assert mapped(vectors, "whole") == tmp_path / "s" / "embeddings.npy"
    assert not (tmp_path / "whole" / "vectors.npy").exists()
    for name, values in (("reversed", vectors[::-1]), ("half", vectors[:, ::2]), ("short", vectors[1:])):
        assert mapped(values, name) == tmp_path / name / "vectors.npy"


def test_a_failing_child_is_reported(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="FileNotFoundError"), gbm.child(tmp_path) as lines:
        list(lines)


def children() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


def test_leaving_early_stops_the_child(tmp_path: Path, world: World) -> None:
    ids, vectors = world.profiles["scaled"]
    tasks = [load_task(SKU, ids, world.folder)] * 20
    gbm.write_job(tmp_path, vectors, tasks, Options(threads=1))
    before = children()
    with pytest.raises(KeyboardInterrupt), gbm.child(tmp_path):
        assert children() > before
        raise KeyboardInterrupt
    assert children() == before


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_an_ended_parent_takes_the_child_along(tmp_path: Path, world: World, kill: signal.Signals) -> None:
    ids, vectors = world.profiles["scaled"]
    gbm.write_job(tmp_path, vectors, [load_task(SKU, ids, world.folder)] * 50, Options(threads=1))
    code = (
        "import sys, time; from pathlib import Path; from kit.probes.gbm import child\n"
        "with child(Path(sys.argv[1])) as lines: print(next(lines), flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline()
    (worker,) = psutil.Process(parent.pid).children()
    os.kill(parent.pid, kill)
    parent.wait()
    for _ in range(600):
        if not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the worker lives on")
    parent.stdout.close()
