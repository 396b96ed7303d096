"""The organisers' evaluator, run as it is: Synerise/recsys2025 at e91c1a6, in a process of its own.

    python tests/benchmarks/organisers.py CHECKOUT PYTHON DATA SUBMISSION [TASK …]

prints a line of JSON per task: the seconds it took and the metrics of its epochs. CHECKOUT is a checkout of the repository,
PYTHON an interpreter with torch, pandas 2.2, pyarrow, torchmetrics, rich and pytorch_lightning. Two things are done from
outside, through a `sitecustomize` module, without touching a file of theirs: `pytorch_lightning.loggers` gets a class named
NeptuneLogger, which Lightning has no more and their code imports but does not use here; and what their MetricsAggregator is
told is noted down, since their own files keep only the best epoch, rounded.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCES = "16e15749296c03b6eebf0d981a5ce87e5c746c1cf3bc08265507e0e8a3bd12a6"
"""Digest of their Python files at e91c1a6, see `source_digest`."""
HIDDEN = {"conversion": "hidden1", "propensity_new_sku": "hidden2", "propensity_price": "hidden3"}
"""What their log calls these tasks with --hidden-logging-mode, without which they draw bars and want the logger."""
TASKS = ("churn", "conversion", "propensity_category", "propensity_sku", "propensity_new_sku", "propensity_price")
SITE = """
import dataclasses, importlib.abc, importlib.util, json, os, sys

def logger(module):
    if not hasattr(module, "NeptuneLogger"):
        module.NeptuneLogger = type("NeptuneLogger", (module.Logger,), {})

def aggregator(module):
    update = module.MetricsAggregator.update
    def told(self, task, metrics_tracker):
        epochs = [dataclasses.asdict(e) | {"score": e.compute_weighted_metric()} for e in metrics_tracker]
        with open(os.environ["EPOCHS_FILE"], "a") as out:
            out.write(json.dumps({"task": task.name, "epochs": epochs}) + "\\n")
        return update(self, task=task, metrics_tracker=metrics_tracker)
    module.MetricsAggregator.update = told

AFTER = {"pytorch_lightning.loggers": logger, "training_pipeline.metric_aggregator": aggregator}

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name not in AFTER:
            return None
        act = AFTER.pop(name)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            act(module)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


@dataclass(frozen=True)
class Theirs:
    """One task: seconds from `Running on` to `completed` in their log, and the metrics of each epoch by their names."""

    seconds: float
    epochs: list[dict[str, float]]


def source_digest(checkout: Path) -> str:
    """SHA-256 over names and bytes of the Python files that evaluate."""
    files = [
        path for room in ("training_pipeline", "validator", "data_utils") for path in (checkout / room).rglob("*.py")
    ]
    state = hashlib.sha256()
    for path in sorted(files):
        state.update(path.relative_to(checkout).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()


def evaluate(
    checkout: Path, python: str, data: Path, submission: Path, tasks: Sequence[str] = TASKS, threads: int = 2
) -> Iterator[tuple[str, Theirs]]:
    """Train and score on the CPU, yielding each task when it is done. Ends this program with their log if theirs fails."""
    if (found := source_digest(checkout)) != SOURCES:
        sys.exit(f"{checkout} is not Synerise/recsys2025 at e91c1a6, unmodified (its files have the digest {found}).")
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        (room / "sitecustomize.py").write_text(SITE, encoding="utf-8")
        options = ["--data-dir", data.resolve(), "--embeddings-dir", submission.resolve(), "--score-dir", room]
        options += ["--log-name", "x", "--num-workers", "0", "--accelerator", "cpu", "--devices", "auto"]
        command = [python, "-W", "ignore", "-m", "training_pipeline.train", "--tasks", *tasks, *options]
        paths = os.pathsep.join([str(room), str(checkout.resolve())])
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
        environment.pop("THP_MEM_ALLOC_ENABLE", None)  # a setting of this kit (kit/__init__.py), not of theirs
        environment |= {"EPOCHS_FILE": str(room / "epochs.jsonl"), "PYTHONDONTWRITEBYTECODE": "1"}
        with subprocess.Popen(
            [*map(str, command), "--hidden-logging-mode"],
            cwd=room,  # Lightning leaves its checkpoints where it runs
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield from _follow(process, tasks, room / "epochs.jsonl")
            finally:
                process.terminate()


def _follow(process: subprocess.Popen[str], tasks: Sequence[str], epochs: Path) -> Iterator[tuple[str, Theirs]]:
    """Read their log; a task is done when it says so, and `epochs` then holds its line."""
    assert process.stderr is not None
    said, left, began = list[str](), list(tasks), 0.0
    for line in process.stderr:
        said.append(line)
        shown = HIDDEN.get(left[0], left[0]) if left else ""
        if left and line.endswith(f"Running on {shown}\n"):
            began = time.perf_counter()
        elif left and line.endswith(f"Run on {shown} completed\n"):
            noted = json.loads(epochs.read_text(encoding="utf-8").splitlines()[-1])
            assert noted["task"] == left[0]
            yield left.pop(0), Theirs(time.perf_counter() - began, noted["epochs"])
    if process.wait() or left:
        sys.exit(f"the organisers' code ended with {process.returncode}:\n{''.join(said)[-4000:]}")


if __name__ == "__main__":
    chosen = sys.argv[5:] or TASKS
    for task, run in evaluate(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), chosen):
        print(json.dumps({"task": task} | vars(run)), flush=True)
