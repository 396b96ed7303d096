"""How fast encoders train on this machine, beside how fast it multiplies matrices."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from kit.blocks.sequence import SequenceSettings, events_in, new_model
from kit.models.sequence import load_encoders
from kit.tokens import Tokens, length_buckets

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


def training_throughput(tokens: Tokens, settings: SequenceSettings, seed: int = 0) -> list[Throughput]:
    """Throughput of every registered encoder on the median batch of these tokens."""
    reference = matmul_gflops()
    sizes = np.minimum(tokens.lengths(), settings.encoder.length)
    groups = length_buckets(sizes, settings.budget)
    rows = groups[len(groups) // 2]
    found = []
    for kind in load_encoders():
        chosen = settings.model_copy(update={"encoder": settings.encoder.model_copy(update={"kind": kind})})
        model = new_model(tokens, chosen, seed).train()
        model.bind(tokens)
        batch = model.batch(tokens, rows, np.random.default_rng(seed), tokens.cut)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

        def step(
            model: torch.nn.Module = model,
            batch: dict[str, dict[str, Tensor]] = batch,
            optimizer: torch.optim.Optimizer = optimizer,
        ) -> None:
            optimizer.zero_grad()
            torch.stack(list(model(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        with FlopCounterMode(display=False) as counter:
            step()
        seconds = best_seconds(step)
        gflops = counter.get_total_flops() / seconds / 1e9
        found.append(Throughput(kind, events_in(batch) / seconds, gflops, gflops / reference))
    return found
