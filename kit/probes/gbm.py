"""The boosted-tree probe: LightGBM in its own process (together with torch in one process it can crash).

The child cannot outlive us: it ends when its standard input closes, however we end. It sits in a session of its own, so
Ctrl-C reaches us alone and we stop it and wait for it. Labels go over in a temporary folder; a submission's vectors are mapped
where they are, only others (a study's variants) are written there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import scipy.sparse as sp

from kit.arrays import mapped_file
from kit.errors import KitError
from kit.probes.registry import Explanation, Options, TaskRun, Vectors, probe
from kit.probes.scratch import no_room, scratch_folder
from kit.progress import track
from kit.tasks.labels import TaskData

STOP_SECONDS = 5.0
"""How long a child may take to end when asked to, before it is killed."""


@probe(
    "gbm",
    "LightGBM, one model per label: what trees can read from the vectors, whatever their scale and order.",
    explains=("the trees", "gain"),
)
def gbm(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> list[TaskRun]:
    """Scores of boosted trees; seeds change the client split and the samples of columns and negatives."""
    runs: list[TaskRun] = []
    with tempfile.TemporaryDirectory(prefix="kit-gbm-", dir=scratch_folder()) as name:
        job = Path(name)
        with no_room(job.parent, "labels and vectors"):
            write_job(job, vectors, tasks, options)
        total = len(tasks) * options.seeds
        with child(job) as lines:
            done = track(lines, "boosted trees", total) if options.progress else lines
            for line, (index, seed) in zip(done, order(len(tasks), options), strict=True):
                data, logits = tasks[index], np.load(job / f"logits{index}-{seed}.npy")
                metrics = data.task.metric.evaluate(logits, data.validation, data.popularity, threads=options.threads)
                kept = logits if options.keep_logits else None
                explained = _explanation(job, f"{index}-{seed}", data, options)
                runs.append(TaskRun(data.task, seed, (metrics,), json.loads(line)["seconds"], kept, explained))
                (job / f"logits{index}-{seed}.npy").unlink()
                options.tell(runs, [data.task])
    return runs


def _explanation(job: Path, name: str, data: TaskData, options: Options) -> Explanation | None:
    """What the child left beside the logits of a run."""
    if options.explain is None:
        return None
    contributions = np.load(job / f"contributions{name}.npy")
    (job / f"contributions{name}.npy").unlink()
    return Explanation(np.load(job / f"gain{name}.npy"), np.intersect1d(data.rows, options.explain), contributions)


def order(tasks: int, options: Options) -> list[tuple[int, int]]:
    """(task index, seed) in the order in which the child works and the parent reads."""
    return [(task, seed) for task in range(tasks) for seed in options.seed_numbers()]


def write_job(job: Path, vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> None:
    """What the child needs: job.json, and per task rows, training labels and the rows to explain."""
    path = mapped_file(vectors) or job / "vectors.npy"
    if path.parent == job:
        np.save(path, vectors)
    for index, data in enumerate(tasks):
        np.save(job / f"rows{index}.npy", data.rows)
        sp.save_npz(job / f"labels{index}.npz", data.train)
        if options.explain is not None:
            np.save(job / f"explain{index}.npy", np.intersect1d(data.rows, options.explain))
    threads = options.threads or psutil.cpu_count(logical=False) or 1
    settings = {"vectors": str(path.resolve()), "threads": threads, "order": order(len(tasks), options)}
    (job / "job.json").write_text(json.dumps(settings), encoding="utf-8")


@contextmanager
def child(job: Path) -> Iterator[Iterator[str]]:
    """Runs the worker on `job`; yields its lines, one per finished task and seed.

    Raises:
        KitError: the worker failed; what it said is in the message.
    """
    command = [sys.executable, "-m", "kit.probes.gbm_worker", str(job)]
    with (job / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True
        )
    assert process.stdout is not None and process.stdin is not None
    try:
        yield _lines(process, job)
    finally:
        process.stdin.close()  # the worker ends by itself on this
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _lines(process: subprocess.Popen[str], job: Path) -> Iterator[str]:
    assert process.stdout is not None
    yield from process.stdout
    if process.wait():
        said = (job / "stderr").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = said[-1] if said else f"exit code {process.returncode}"
        raise KitError(f"The boosted-tree probe failed: {reason}.", "`kit doctor` checks the installation of LightGBM.")
