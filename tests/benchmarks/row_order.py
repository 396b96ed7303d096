"""How far the official score of one profile moves when only the order of its rows changes, and through which part of the score.

    python tests/benchmarks/row_order.py SUBMISSION --data DIR [--orders 4] [--quiet 0.25 …] [--task conversion …] [--threads 2]

The official probe reads rows as they come, at a constant rate, and is scored after its last step: what the last batches held
moves the level of all its predictions. Novelty depends on that level, AUROC does not. Scores the submission as it is, in
--orders random permutations, and with the clients of fewest events last (--quiet gives their share). Prints per order and task
the best epoch's score, AUROC, novelty and diversity, and per task the standard deviation over the random orders.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kit.data.layout import DataFolder
from kit.probes.registry import PROBES, Options
from kit.scoring.cohorts import read_counts
from kit.submission.submission import Submission
from kit.tasks import CHALLENGE, Task, find_task
from kit.tasks.labels import UndefinedTask, load_task
from kit.tasks.metric import TaskMetrics

Order = NDArray[np.int64]


def orders_of(ids: NDArray[np.int64], folder: DataFolder, count: int, shares: list[float]) -> dict[str, Order]:
    """Name → positions of the submission's rows in that order."""
    found: dict[str, Order] = {"as it is": np.arange(len(ids))}
    for seed in range(count):
        found[f"random {seed}"] = np.random.default_rng([seed, 7]).permutation(len(ids))
    counts = read_counts(folder, ids) if shares else None
    for share in shares:
        if counts is None:
            raise SystemExit(f"{folder.root} holds no events to tell quiet clients by.")
        ranked = np.argsort(counts.total, kind="stable")
        quiet, rng = round(share * len(ids)), np.random.default_rng([0, 8])
        found[f"quiet {share:g} last"] = np.concatenate(
            [rng.permutation(ranked[quiet:]), rng.permutation(ranked[:quiet])]
        )
    return found


def show(name: str, task: Task, best: TaskMetrics) -> None:
    """One line."""
    parts = "" if best.novelty is None else f"  novelty {best.novelty:.3f}  diversity {best.diversity:.3f}"
    print(f"{name:16s} {task.name:20s} {best.score:.4f}  AUROC {best.auroc:.4f}{parts}", flush=True)


def main() -> None:
    """Print a line per order and task, then the spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submission", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--orders", type=int, default=4)
    parser.add_argument("--quiet", type=float, action="append", default=[], metavar="SHARE")
    parser.add_argument("--task", action="append", choices=[task.name for task in CHALLENGE])
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    given = parser.parse_args()
    folder, opened, run = DataFolder(given.data), Submission.open(given.submission), PROBES.loaded()["official"].run
    spread: dict[Task, list[TaskMetrics]] = {}
    for name, order in orders_of(opened.ids, folder, given.orders, given.quiet).items():
        vectors, total = np.asarray(opened.vectors)[order], 0.0
        for task in map(find_task, given.task or [task.name for task in CHALLENGE]):
            try:
                data = load_task(task, opened.ids[order], folder)
            except UndefinedTask as error:
                print(f"{task.name} is not defined here, because {error.reason}")
                continue
            (found,) = run(vectors, [data], Options(precision=given.precision, threads=given.threads))
            show(name, task, found.best)
            total += found.best.score
            if name.startswith("random"):
                spread.setdefault(task, []).append(found.best)
        print(f"{name:16s} {'sum':20s} {total:.4f}")
    for task, runs in spread.items() if given.orders > 1 else ():
        deviation = {
            part: np.std([getattr(r, part) or 0.0 for r in runs], ddof=1) for part in ("score", "auroc", "novelty")
        }
        print(f"{task.name:20s} over {len(runs)} orders: ±" + ", ±".join(f"{v:.4f} {k}" for k, v in deviation.items()))


if __name__ == "__main__":
    main()
