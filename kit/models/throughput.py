"""How fast encoders train on this machine, beside how fast it multiplies matrices.

Technique I3.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

SIZE: Final = 1024
"""Side of the square matrices of the reference multiplication."""


@dataclass(frozen=True)
class Throughput:
    """One encoder's training step (forward, backward, optimiser), all objectives included.

    Attributes:
        encoder: its kind.
        events_per_second: real tokens, padding not counted.
        gflops: counted matrix and attention operations per second, billions.
        share: gflops over those of one large matrix multiplication in fp32.
    """

    encoder: str
    events_per_second: float
    gflops: float
    share: float


def best_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """CPU seconds per thread of the fastest of some runs, after one to warm up: other processes disturb it little."""
    work()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return max(min(times) / torch.get_num_threads(), 1e-9)


def matmul_gflops(dtype: torch.dtype = torch.float32) -> float:
    """Billions of floating-point operations per second of a 1024 × 1024 product."""
    a, b = (torch.ones(SIZE, SIZE, dtype=dtype) for _ in range(2))
    return 2 * SIZE**3 / best_seconds(lambda: a @ b) / 1e9


def step_throughput(
    name: str, model: nn.Module, batch: object, events: int, optimizer: torch.optim.Optimizer, reference: float
) -> Throughput:
    """Throughput of one training step (forward, backward, optimiser) on one batch.

    Args:
        name: of the encoder.
        model: forward(batch) → loss terms, in training mode.
        batch: what it reads.
        events: real tokens (or edges) in it.
        optimizer: of the model.
        reference: the machine's rate, `matmul_gflops()`.
    """

    def step() -> None:
        optimizer.zero_grad()
        torch.stack(list(model(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    with FlopCounterMode(display=False) as counter:
        step()
    seconds = best_seconds(step)
    gflops = counter.get_total_flops() / seconds / 1e9
    return Throughput(name, events / seconds, gflops, gflops / reference)
