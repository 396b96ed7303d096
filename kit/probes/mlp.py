"""The official probe: one network per task, 3 epochs of AdamW in file order, scored on the second window after each.

Source: section 6 of the challenge contract. Vectors stay in their memory map and are converted a block of rows at a time,
logits go to files (`kit.probes.scratch`), and the tasks share these passes over the data. Everything that decides the result
is per task, so scores do not depend on which tasks run together.

Technique D5.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from kit.errors import KitError
from kit.limits.crowd import give_way
from kit.probes.network import OFFICIAL, Shape, build, fuse_updates, let_go, parameter_groups, products
from kit.probes.orders import Reordered, reorder
from kit.probes.registry import Options, TaskRun, Vectors, probe
from kit.probes.scratch import scratch
from kit.progress import track
from kit.tasks.labels import TaskData
from kit.tasks.metric import TaskMetrics
from kit.tasks.metrics import EVALUATOR_BATCH

EPOCHS: Final = 3
BATCH: Final = EVALUATOR_BATCH
EVALUATION_BATCH: Final = 1024
"""Clients per forward pass when scoring; larger than in training because it is faster and changes nothing."""
BLOCK: Final = 4096
"""Rows converted to float32 at a time."""
SMALL: Final = 2**20
"""Elements of the largest hidden matrix up to which threads go to different networks."""
MANY_ROWS: Final = 100_000
"""Rows from which no more networks share a pass than run at a time: the others are finished, and kept, before these begin.
Reading the rows again costs little beside training."""
COMPILE_FROM: Final = 5000
"""Training steps from which torch.compile pays for itself on a GPU."""


@probe("official", "The organisers' evaluator: a 54 M parameter MLP per task, 3 epochs.", precisions=("fp32", "bf16"))
def official(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> list[TaskRun]:
    """The organisers' scores: exact in fp32; bf16 is several times faster on processors that have it."""
    return train(vectors, tasks, options, OFFICIAL)


def train(vectors: Vectors, tasks: Sequence[TaskData], options: Options, shape: Shape) -> list[TaskRun]:
    """Train and score a network per task and seed.

    Args:
        vectors: (n, d); rows in training order.
        tasks: labels, with `rows` pointing into `vectors`.
        options: seeds, reorder, precision, threads, device, progress, keep_logits.
        shape: widths, depth and pace of the network.

    Returns:
        A TaskRun per task and seed, in that order.
    """
    seeds = options.seed_numbers()
    if not options.reorder:
        return _train(vectors, [(task, seed) for task in tasks for seed in seeds], options, shape)
    runs = []
    for seed in seeds:
        rows, moved = reorder(vectors, tasks, seed)
        own = replace(options, finished=None, keep_logits=options.keep_logits and rows is vectors)
        runs.append(_train(rows, [(task, seed) for task in moved], own, shape))
    found = [run for of_task in zip(*runs, strict=True) for run in of_task]
    options.tell(found, [data.task for data in tasks])
    return found


def _train(
    vectors: Vectors | Reordered, wanted: list[tuple[TaskData, int]], options: Options, shape: Shape
) -> list[TaskRun]:
    """A TaskRun per pair of task and seed, on rows in one order."""
    workers = _workers(shape, options)
    runs: list[TaskRun] = []
    with _threads(1 if workers > 1 else options.threads), products(options.precision), give_way():
        most = workers if len(vectors) > MANY_ROWS else len(wanted)
        for group in _groups(wanted, vectors.shape[1], shape, options, most):
            learners = [Learner(task, seed, vectors.shape[1], shape, options) for task, seed in group]
            steps = len(passes(shape)) * -(-len(vectors) // BLOCK) * len(learners)
            done = _perform(_work(vectors, learners, shape), workers)
            for _ in track(done, "probe networks", steps) if options.progress else done:
                pass
            runs += [learner.result() for learner in learners]
            options.tell(runs, [data.task for data, _ in group])
    return runs


def _work(
    vectors: Vectors | Reordered, learners: Sequence[Learner], shape: Shape
) -> Iterator[list[Callable[[], None]]]:
    """All there is to do, in order: a block of rows is read once, and each learner has its piece of work with it."""
    for act, batch in passes(shape):
        for learner in learners:
            learner.rewind(batch)
        for first in range(0, len(vectors), BLOCK):
            block = torch.from_numpy(np.array(vectors[first : first + BLOCK])).float().to(learners[0].device)
            yield [partial(act, learner, first, block) for learner in learners]


Pass: TypeAlias = "tuple[Callable[[Learner, int, Tensor], None], int]"
"""What a learner does with a block of rows, and in batches of how many clients."""


def passes(shape: Shape) -> list[Pass]:
    """The passes over all rows, in order."""
    learn: Pass = (Learner.learn, BATCH)
    score: Pass = (Learner.score, EVALUATION_BATCH)
    unscored = shape.scored_from - 1
    return [learn] * unscored + [learn, score] * (EPOCHS - unscored)


def _perform(work: Iterator[list[Callable[[], None]]], workers: int) -> Iterator[None]:
    """Do the work, yielding after each piece; pieces of one list are independent."""
    if workers == 1:
        for pieces in work:
            yield from (piece() for piece in pieces)
        return
    with ThreadPoolExecutor(workers) as pool:
        for pieces in work:
            yield from pool.map(lambda piece: piece(), pieces)


def _workers(shape: Shape, options: Options) -> int:
    """Learners that run at a time: matrices too small to occupy several threads get a thread per learner instead."""
    small = shape.thin * shape.wide <= SMALL and pick_device(options.device).type == "cpu"
    return (options.threads or torch.get_num_threads()) if small and options.precision == "fp32" else 1


class Learner:
    """One network on its way through the data.

    Args:
        data: rows and labels.
        seed: of the initial weights.
        width: columns of the vectors.
        shape: widths of the network.
        options: device, precision, threads, keep_logits.
    """

    def __init__(self, data: TaskData, seed: int, width: int, shape: Shape, options: Options) -> None:
        self.data, self.seed, self.options = data, seed, options
        self.device = pick_device(options.device)
        self.network = network = build(width, data.width, shape, seed).to(self.device)
        self.forward: Callable[[Tensor], Tensor] = network
        if self.device.type == "cpu":
            self.optimizer = fuse_updates(network, options.precision)
        else:
            self.optimizer = torch.optim.AdamW(parameter_groups(network), fused=True)
            if EPOCHS * len(data.rows) > COMPILE_FROM * BATCH:
                self.forward = torch.compile(network)
        self.epochs: list[TaskMetrics] = []
        self.outputs: NDArray[np.float32] | None = None
        self.kept: NDArray[np.float32] | None = None
        self.seconds = 0.0
        self.rewind(BATCH)

    def rewind(self, batch: int) -> None:
        """Back to the first row, to be cut into batches of `batch` clients."""
        self.batch, self.taken, self.done = batch, 0, 0
        self.carry: Tensor | None = None
        self.closed = False

    def learn(self, first: int, block: Tensor) -> None:
        """Train on the clients of this task among rows `first`, `first` + 1, … of the vectors.

        A last batch that the block cannot fill waits for the next block; the task's very last one may be partial.
        """
        began = time.perf_counter()
        for x in self._batches(first, block):
            y = torch.from_numpy(self.data.train[self.done : self.done + len(x)].toarray()).to(self.device)
            self.optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(self._logits(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.done += len(x)
        self.seconds += time.perf_counter() - began

    def score(self, first: int, block: Tensor) -> None:
        """Predict as `learn` learns; once all clients are done, compute the epoch's metrics."""
        began = time.perf_counter()
        if self.outputs is None:
            self.outputs = scratch(len(self.data.rows), self.data.width)
        with torch.no_grad():
            for x in self._batches(first, block):
                self.outputs[self.done : self.done + len(x)] = self._logits(x).cpu().numpy()
                self.done += len(x)
        if self.done == len(self.data.rows) and not self.closed:
            self._close_epoch(self.outputs)
        self.seconds += time.perf_counter() - began

    def result(self) -> TaskRun:
        """What came out, after the last epoch; the network is let go."""
        let_go(self.network)
        return TaskRun(self.data.task, self.seed, tuple(self.epochs), self.seconds, self.kept)

    def _close_epoch(self, outputs: NDArray[np.float32]) -> None:
        data = self.data
        metrics = data.task.metric.evaluate(outputs, data.validation, data.popularity, threads=self.options.threads)
        if self.options.keep_logits and all(metrics.score > epoch.score for epoch in self.epochs):
            self.kept, self.outputs = outputs, self.kept  # the next epoch writes over the best one before
        self.epochs.append(metrics)
        self.closed = True

    def _logits(self, x: Tensor) -> Tensor:
        if self.device.type == "cpu":
            return self.forward(x)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.precision == "bf16"):
            return self.forward(x).float()

    def _batches(self, first: int, block: Tensor) -> Iterator[Tensor]:
        rows = self.data.rows
        stop = int(np.searchsorted(rows, first + len(block)))
        mine = rows[self.taken : stop] - first
        x = block if len(mine) == len(block) else block[torch.from_numpy(mine).to(block.device)]
        self.taken = stop
        if self.carry is not None:
            x = torch.cat([self.carry, x])
        whole = len(x) if stop == len(rows) else len(x) - len(x) % self.batch
        self.carry = x[whole:] if whole < len(x) else None
        for start in range(0, whole, self.batch):
            yield x[start : min(start + self.batch, whole)]


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one; KitError if a named device is not there or is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise KitError(f"PyTorch sees no GPU for --device {name}.", "Leave --device out or install a CUDA build.")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise KitError(f"There is no device {name!r}.", "Give auto, cpu, cuda or cuda:1.") from error


def _groups(
    wanted: list[tuple[TaskData, int]], width: int, shape: Shape, options: Options, most: int
) -> Iterator[list[tuple[TaskData, int]]]:
    """As many networks at once, up to `most`, as fit into a quarter of the free memory: weights, two moments and a gradient
    each."""
    parameters = shape.thin * width + shape.parameters
    on_gpu = pick_device(options.device).type == "cuda"
    free = torch.cuda.mem_get_info()[0] if on_gpu else psutil.virtual_memory().available
    count = max(1, min(most, int(free // 4 // (16 * parameters))))
    for start in range(0, len(wanted), count):
        yield wanted[start : start + count]


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
