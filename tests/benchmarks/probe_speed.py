"""How fast the probes are on this machine, beside its matrix-multiply rate and the organisers' own code, in one run.

    python tests/benchmarks/probe_speed.py [--clients 2000] [--width 512] [--threads 2] [--skip-memory]
                                           [--theirs CHECKOUT --python PYTHON]

Makes seeded random data, times one task (propensity_sku, 100 labels) for the official probe in fp32 and bf16, all six for the
fast and the gbm probe, and, given a checkout of Synerise/recsys2025 and a Python that can run it (see
organisers.py, beside this file), their code on the same files, from `Running on` to `completed` in its log: without starting
and importing. Ours includes reading the labels, as theirs does.

The rate is the best of several products of the probe's own sizes. `Whole run` is the share of it that training, scoring and
metrics reach together, `training loop` that of the steps alone; the input layer, which stays fp32, is counted at that rate.
The most that a loop can reach is what is left to the products when AdamW's passes over 50 million float32 weights and moments,
timed alone, are done between them.
Memory is what the process itself holds at its peak (anonymous pages, Linux only), for the fast probe on all six tasks, at the
given number of clients (16,384 at least) and at four times as many: vectors stay in their file, and logits go to one.
"""

from __future__ import annotations

import kit  # noqa: F401 - before torch, for which it asks for huge pages

# isort: split
import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import organisers
import polars as pl
import torch

from kit.challenge import PROBE_SEED
from kit.data.layout import DataFolder
from kit.probes.mlp import BATCH, BLOCK, Learner
from kit.probes.network import OFFICIAL, products
from kit.probes.registry import PROBES, Options, Precision
from kit.tasks import CHALLENGE, SKU, Task
from kit.tasks.labels import TaskData, load_task

TARGETS = 100
EPOCHS = 3


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
    for task in (task for task in CHALLENGE if task.column is not None):
        np.save(root / "target" / f"{task.name}.npy", np.arange(TARGETS))
        np.save(root / "target" / f"popularity_{task.name}.npy", rng.integers(1, 1000, TARGETS))
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


def update_seconds(repeats: int = 12) -> float:
    """Best time of AdamW alone over all matrices of the official network, one after the other as in a step.

    It reads weight, gradient and two moments and writes three of them: memory's speed, not the processor's, decides. No loop that
    keeps float32 weights and moments can be faster than its products and this together.
    """
    sizes = [(OFFICIAL.wide, OFFICIAL.thin)] * (2 * OFFICIAL.blocks)
    weights = [torch.nn.Parameter(torch.randn(size)) for size in sizes]
    gradient = torch.randn(sizes[0])
    optimizers = [torch.optim.AdamW([weight], fused=True) for weight in weights]
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        for weight, optimizer in zip(weights, optimizers, strict=True):
            weight.grad = gradient
            optimizer.step()
        best = min(best, time.perf_counter() - began)
    return best


def work(clients: int, width: int) -> tuple[float, float]:
    """GFLOP of one official run on one task, in the input layer and in all others.

    3 epochs of forward, backward (the vectors themselves get no gradient) and scoring.
    """
    others, enter = 6 * 2048 * 4096 + 2048 * TARGETS, width * 2048
    return EPOCHS * 2 * clients * 3 * enter / 1e9, EPOCHS * 2 * clients * 4 * others / 1e9


def share_of_rate(parts: tuple[float, float], seconds: float, precision: str, rates: dict[str, float]) -> float:
    """Seconds that the products would take at the measured rates ÷ seconds taken."""
    enter, others = parts
    return (enter / rates["fp32"] + others / rates[precision]) / seconds


def training_loop(vectors: np.ndarray, data: TaskData, precision: Precision) -> tuple[tuple[float, float], float]:
    """GFLOP (input layer, others) and seconds of one epoch of training steps, after a few to warm up."""
    learner = Learner(data, PROBE_SEED, vectors.shape[1], OFFICIAL, Options(precision=precision))
    block = torch.from_numpy(np.array(vectors)).float()
    with products(precision):
        for clients in (min(len(vectors), 3 * BATCH), len(vectors)):
            learner.rewind(BATCH)
            began = time.perf_counter()
            learner.learn(0, block[:clients])
            seconds = time.perf_counter() - began
    others, enter = 6 * 2048 * 4096 + 2048 * TARGETS, vectors.shape[1] * 2048
    return (2 * clients * 2 * enter / 1e9, 2 * clients * 3 * others / 1e9), seconds


@contextmanager
def peak_memory(out: list[float], every: float = 0.01) -> Iterator[None]:
    """Appends the largest number of MiB in anonymous pages while inside; NaN where /proc does not tell."""
    stop, seen = threading.Event(), [float("nan")]

    def watch() -> None:
        status = Path("/proc/self/status")
        while not stop.wait(every):
            lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
            held = [int(line.split()[1]) / 2**10 for line in lines if line.startswith("RssAnon")]
            seen.extend(held)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        out.append(float(np.nanmax(seen)) if len(seen) > 1 else seen[0])


def memory_of(clients: int, width: int, threads: int) -> None:
    """In a process of its own: print the MiB held before and at the peak of the fast probe on six tasks."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        submission = make_data(Path(name) / "data", clients, width)
        ids = np.load(submission / "client_ids.npy")
        vectors = np.load(submission / "embeddings.npy", mmap_mode="r")
        every = [load_task(task, ids, DataFolder(submission.parent)) for task in CHALLENGE]
        held: list[float] = []
        with peak_memory(held):
            time.sleep(0.1)
        with peak_memory(held):
            PROBES.loaded()["fast"].run(vectors, every, Options(threads=threads))
        print(*held)


def compare_memory(clients: int, width: int, threads: int) -> None:
    """Print the peak at two client counts, each from a fresh process, beside the size of their vectors."""
    peaks, clients = {}, max(clients, 4 * BLOCK)  # with fewer, blocks of rows and of logits are not all in use yet
    for count in (clients, 4 * clients):
        command = [
            sys.executable,
            __file__,
            "--memory-of",
            str(count),
            "--width",
            str(width),
            "--threads",
            str(threads),
        ]
        before, peak = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
        peaks[count] = peak
        size = count * width * 2 / 2**20
        print(f"  memory, {count:7d} clients  {peak:6.0f} MiB at the peak, {before:.0f} before; vectors {size:.0f} MiB")
    growth = (peaks[4 * clients] - peaks[clients]) * 2**20 / (3 * clients)
    print(
        f"  each further client costs {growth:.0f} bytes of memory; its vector has {2 * width}, float32 copies {4 * width}"
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--theirs", type=Path, help="a checkout of the organisers' repository")
    parser.add_argument("--python", default=sys.executable, help="a Python that can run it")
    parser.add_argument("--skip-memory", action="store_true", help="times alone: saves some minutes")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of:
        memory_of(given.memory_of, given.width, given.threads)
        return
    torch.set_num_threads(given.threads)
    print(f"{given.clients} clients × {given.width} columns, {given.threads} threads, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "data"
        seconds = ours(make_data(root, given.clients, given.width), given.threads)
        if given.theirs:
            place = (given.theirs, given.python, root, root / "submission")
            ((_, run),) = organisers.evaluate(*place, [SKU.name], given.threads)
            base = run.seconds
            print(f"  {'organisers, 1 task':24s} {base:8.1f} s")
            for label in ("official fp32, 1 task", "official bf16, 1 task"):
                print(f"    {label} is {base / seconds[label]:.2f} × as fast")
            print(f"    a task of the fast probe costs 1/{6 * base / seconds['fast, 6 tasks']:.0f} of theirs")
    if not given.skip_memory:
        compare_memory(given.clients, given.width, given.threads)


def ours(submission: Path, threads: int) -> dict[str, float]:
    """Time and print the probes of this kit; label → seconds, reading of labels included."""
    ids = np.load(submission / "client_ids.npy")
    vectors = np.load(submission / "embeddings.npy", mmap_mode="r")
    folder, seconds = DataFolder(submission.parent), {}
    rates = {precision: rate(precision) for precision in ("fp32", "bf16")}
    update = update_seconds() * -(-len(vectors) // BATCH)
    runs: tuple[tuple[str, str, Precision, list[Task]], ...] = (
        ("official fp32, 1 task", "official", "fp32", [SKU]),
        ("official bf16, 1 task", "official", "bf16", [SKU]),
        ("fast, 6 tasks", "fast", "bf16", list(CHALLENGE)),
        ("gbm, 6 tasks", "gbm", "fp32", list(CHALLENGE)),
    )
    for label, probe, precision, tasks in runs:
        began = time.perf_counter()
        data = [load_task(task, ids, folder) for task in tasks]
        PROBES.loaded()[probe].run(vectors, data, Options(precision=precision, threads=threads))
        seconds[label] = time.perf_counter() - began
        note = ""
        if probe == "official":
            whole = share_of_rate(work(*vectors.shape), seconds[label], precision, rates)
            parts, spent = training_loop(vectors, data[0], precision)
            loop = share_of_rate(parts, spent, precision, rates)
            most = 1 / (1 + update / (loop * spent))
            note = f"  {rates[precision]:6.0f} GFLOP/s measured: training loop {loop:.0%}, whole run {whole:.0%} of it"
            note += f"; with AdamW's own time {most:.0%} is the most a loop can reach"
        print(f"  {label:24s} {seconds[label]:8.1f} s{note}", flush=True)
    return seconds


if __name__ == "__main__":
    main()
