"""How fast the probes are on this machine, beside its matrix-multiply rate and the organisers' own code, in one run.

    python tests/benchmarks/probe_speed.py [--clients 2000] [--width 512] [--threads 2] [--theirs CHECKOUT --python PYTHON]

Makes seeded random data, times one task (propensity_sku, 100 labels) for the official probe in fp32 and bf16, all six for the
fast and the gbm probe, and, given a checkout of Synerise/recsys2025 and a Python that can run it (see
tests/probes/golden/README.md), their code on the same files. The rate is the best of several products of the probe's own
sizes; «of the rate» is the share of it that a whole training and scoring run reaches.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch

from kit.challenge import Task
from kit.data.layout import DataFolder
from kit.probes.labels import load_task
from kit.probes.network import products
from kit.probes.registry import Options, load_probes

TARGETS = 100
EPOCHS = 3
STAND_IN = """
import importlib.abc, importlib.util, sys
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "pytorch_lightning.loggers":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            if not hasattr(module, "NeptuneLogger"):
                module.NeptuneLogger = type("NeptuneLogger", (module.Logger,), {})
        spec.loader.exec_module = exec_module
        return spec
sys.meta_path.insert(0, Finder())
"""


def make_data(root: Path, clients: int, width: int) -> Path:
    """A folder of target files and a submission of scaled random vectors; returns the submission."""
    rng = np.random.default_rng(0)
    for name in ("target", "input", "submission"):
        (root / name).mkdir(parents=True)
    pl.DataFrame({"sku": np.arange(TARGETS)}).write_parquet(root / "product_properties.parquet")
    ids = rng.permutation(10 * clients)[:clients].astype(np.int64)
    np.save(root / "input" / "relevant_clients.npy", np.sort(ids))
    np.save(root / "target" / "active_clients.npy", np.sort(ids[: clients // 2]))
    for name in ("train", "validation"):
        columns = {c: rng.integers(0, TARGETS, clients) for c in ("sku", "category", "price")}
        frame = pl.DataFrame({"client_id": rng.choice(ids[: clients // 2], clients), **columns})
        stamped = frame.with_columns(timestamp=pl.lit("2022-11-01").str.to_datetime(), name=pl.lit("[0]"))
        stamped.write_parquet(root / "target" / f"{name}_target.parquet")
    for task in (task for task in Task if task.is_propensity):
        np.save(root / "target" / f"{task.value}.npy", np.arange(TARGETS))
        np.save(root / "target" / f"popularity_{task.value}.npy", rng.integers(1, 1000, TARGETS))
    np.save(root / "submission" / "client_ids.npy", ids)
    np.save(root / "submission" / "embeddings.npy", rng.normal(0, 0.3, (clients, width)).astype(np.float16))
    return root / "submission"


def rate(precision: str, seconds: float = 1.0) -> float:
    """Best matrix-multiply rate in GFLOP/s over the three products of a training step, 128 × 2048 × 4096."""
    x, w, g = torch.randn(128, 2048), torch.randn(4096, 2048), torch.randn(128, 4096)
    gradient = torch.empty(4096, 2048)
    best = 0.0
    with products(precision):
        for multiply in (
            lambda: torch.nn.functional.linear(x, w),
            lambda: g @ w,
            lambda: torch.mm(g.t(), x, out=gradient),
        ):
            stop = time.perf_counter() + seconds
            while time.perf_counter() < stop:
                began = time.perf_counter()
                multiply()
                best = max(best, 2 * x.shape[0] * w.numel() / (time.perf_counter() - began) / 1e9)
    return best


def work(clients: int, width: int) -> float:
    """GFLOP of one official run on one task: 3 epochs of forward, backward (no input gradient for the input) and scoring."""
    hidden, enter, leave = 6 * 2048 * 4096, width * 2048, 2048 * TARGETS
    return EPOCHS * 2 * clients * (4 * (hidden + leave) + 3 * enter) / 1e9


def theirs(root: Path, checkout: Path, python: str, threads: int) -> float:
    """Seconds that the organisers' code takes for the same task, start of its interpreter included."""
    stub = root / "stub"
    stub.mkdir()
    (stub / "sitecustomize.py").write_text(STAND_IN)
    command = f"-m training_pipeline.train --data-dir {root} --embeddings-dir {root / 'submission'} --num-workers 0"
    command += f" --tasks {Task.SKU.value} --log-name x --accelerator cpu --devices auto --score-dir {root}"
    environment = {**os.environ, "PYTHONPATH": f"{stub}:{checkout}", "OMP_NUM_THREADS": str(threads)}
    began = time.perf_counter()
    subprocess.run(
        [python, "-W", "ignore", *command.split(), "--hidden-logging-mode"],
        cwd=root,
        env=environment,
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - began


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--theirs", type=Path, help="a checkout of the organisers' repository")
    parser.add_argument("--python", default=sys.executable, help="a Python that can run it")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{given.clients} clients × {given.width} columns, {given.threads} threads, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "data"
        submission = make_data(root, given.clients, given.width)
        ids = np.load(submission / "client_ids.npy")
        vectors = np.load(submission / "embeddings.npy", mmap_mode="r")
        every = [load_task(task, ids, DataFolder(root)) for task in Task]
        seconds: dict[str, float] = {}
        for label, probe, precision, tasks in (
            ("official fp32, 1 task", "official", "fp32", every[2:3]),
            ("official bf16, 1 task", "official", "bf16", every[2:3]),
            ("fast, 6 tasks", "fast", "fp32", every),
            ("gbm, 6 tasks", "gbm", "fp32", every),
        ):
            speed = rate(precision) if probe == "official" else 0.0
            began = time.perf_counter()
            load_probes()[probe].run(vectors, tasks, Options(precision=precision, threads=given.threads))
            seconds[label] = time.perf_counter() - began
            share = work(given.clients, given.width) / seconds[label] / speed if speed else 0.0
            note = f"  {speed:6.0f} GFLOP/s measured, {share:.0%} of the rate" if speed else ""
            print(f"  {label:24s} {seconds[label]:8.1f} s{note}", flush=True)
        if given.theirs:
            base = theirs(root, given.theirs.resolve(), given.python, given.threads)
            print(f"  {'organisers, 1 task':24s} {base:8.1f} s")
            for label in ("official fp32, 1 task", "official bf16, 1 task"):
                print(f"    {label} is {base / seconds[label]:.2f} × as fast")
            print(f"    a task of the fast probe costs 1/{6 * base / seconds['fast, 6 tasks']:.0f} of theirs")
    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB")


if __name__ == "__main__":
    main()
