"""What can the official probe read of a profile when clients are few? How much each will buy, and hardly what.

    python tests/benchmarks/reading.py [--clients 8000 32000] [--shape official|fast] [--task propensity_category …]
                                       [--seed 7] [--precision bf16] [--work data/bench/reading] [--threads 2]

The best profile there is, a synthetic shop's own probabilities (written as rates and choices apart), goes through the network.
Per task of 100 labels, AUROC as the mean over labels:

- `ceiling`: each label ranked by its own probability;
- `rate`: all labels ranked by one number per client, the expected purchases among the task's targets;
- `choice`: each label ranked by its share of these, whatever their number;
- `probe`: what the network makes of the profile, its epoch of the highest AUROC, and the share of its logits' variance over
  clients that lies in one direction, common to all labels;
- `prepared`: the same network, but its output biases begin at the labels' base rates. That is not the challenge's probe: it
  begins at a probability of one half for every label and spends its first steps on pushing all of them down together;
- `trees`: the LightGBM probe.

`--shape fast` takes the fast probe's network, at a sixth of the time. Shops of other sizes have the small
preset's catalogue and three passers-by per client.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import observer
import torch
from against_baseline import write_oracle
from numpy.typing import NDArray

from kit.data.layout import DataFolder
from kit.data.shop import PRESETS
from kit.probes import mlp
from kit.probes.fast import FAST
from kit.probes.network import OFFICIAL, Network, Shape
from kit.probes.registry import PROBES, Options, TaskRun, Vectors
from kit.scoring.ceiling import PROBABILITIES
from kit.tasks import CHALLENGE, Task, find_task
from kit.tasks.labels import TaskData, load_task
from kit.tasks.metrics import auroc_multilabel

SHAPES = {"official": OFFICIAL, "fast": FAST}
LEAST = 1e-6
"""Base rates are kept this far from 0."""


def make(root: Path, clients: int, seed: int) -> DataFolder:
    """The small shop with as many relevant clients, split, with its true probabilities; once."""
    small = PRESETS["small"]
    name = f"small-{clients}"
    preset = replace(small, name=name, relevant=clients, other=3 * clients, truth_clients=clients, shard=4 * clients)
    with patch.dict(PRESETS, {name: preset}):
        observer.make(root, preset, seed)
    return DataFolder(root)


def without_a_probe(data: TaskData, chances: NDArray[np.float64]) -> dict[str, float]:
    """AUROC of the ceiling, of the rate alone and of the choice alone; `chances` (n, L) are the true probabilities."""
    rate = chances.sum(axis=1, keepdims=True)
    ranked = {"ceiling": chances, "rate": np.repeat(rate, data.width, axis=1), "choice": chances / rate}
    return {name: mean_auroc(values, data) for name, values in ranked.items()}


def mean_auroc(values: NDArray[np.float64], data: TaskData) -> float:
    """Mean over the labels of the second window, one without buyers counting 0."""
    ranked = auroc_multilabel(np.asfortranarray(values, dtype=np.float32), data.validation)
    return float(np.nan_to_num(ranked).mean())


def through(vectors: Vectors, data: TaskData, shape: Shape, options: Options, *, prepared: bool) -> tuple[float, float]:
    """AUROC of the best epoch, and the share of the logits' variance that is common to all labels."""
    usual = mlp.build

    def build(width: int, labels: int, shape: Shape, seed: int) -> Network:
        network = usual(width, labels, shape, seed)
        if prepared:
            base = np.clip(np.asarray(data.train.mean(axis=0)).ravel(), LEAST, 1 - LEAST)
            with torch.no_grad():
                network.leave.bias.copy_(torch.from_numpy(np.log(base / (1 - base))))
        return network

    with patch.object(mlp, "build", build):
        (run,) = mlp.train(vectors, [data], options, shape)
    return max(epoch.auroc for epoch in run.epochs), common_share(run)


def common_share(run: TaskRun) -> float:
    """Of the logits' variance over clients, the share of the first principal component."""
    assert run.logits is not None, "asked for"
    logits = np.asarray(run.logits, dtype=np.float64)
    variances = np.linalg.eigvalsh(np.cov(logits, rowvar=False))
    return float(variances[-1] / variances.sum())


def study(folder: DataFolder, tasks: Sequence[Task], shape: Shape, options: Options, oracle: Path) -> None:
    """Print a row per task."""
    write_oracle(folder.root, oracle)
    ids, vectors = np.load(oracle / "client_ids.npy"), np.load(oracle / "embeddings.npy")
    table = np.load(folder.root / "truth" / PROBABILITIES)
    order = np.argsort(table["client_ids"])
    order = order[np.searchsorted(table["client_ids"], ids, sorter=order)]
    for task in tasks:
        data = load_task(task, ids, folder)
        bought = int(np.median(np.asarray(data.train.sum(axis=0))))
        plain = without_a_probe(data, table[task.name][order].astype(np.float64))
        probe, common = through(vectors, data, shape, options, prepared=False)
        ready, other = through(vectors, data, shape, options, prepared=True)
        cells = [f"{len(ids):,}", task.name, str(bought), *(f"{value:.4f}" for value in plain.values())]
        (trees,) = PROBES.loaded()["gbm"].run(vectors, [data], Options(threads=options.threads))
        cells += [f"{probe:.4f}", f"{common:.2%}", f"{ready:.4f}", f"{other:.2%}", f"{trees.best.auroc:.4f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[8_000])
    parser.add_argument("--shape", choices=SHAPES, default="official")
    parser.add_argument("--task", action="append", choices=[task.name for task in CHALLENGE if task.column is not None])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--work", type=Path, default=Path("data/bench/reading"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    given = parser.parse_args()
    tasks = [find_task(name) for name in given.task or [task.name for task in CHALLENGE if task.column is not None]]
    options = Options(precision=given.precision, threads=given.threads, keep_logits=True)
    columns = ["clients", "task", "buyers of the median label", "ceiling", "rate", "choice", "probe", "common"]
    columns += ["prepared", "common", "trees"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for clients in given.clients:
        root = given.work / f"shop-{clients}-{given.seed}"
        folder = make(root, clients, given.seed)
        study(folder, tasks, SHAPES[given.shape], options, given.work / f"oracle-{clients}-{given.seed}")


if __name__ == "__main__":
    main()
