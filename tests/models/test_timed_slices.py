"""The step meter: what it counts on a model whose numbers are known."""

from __future__ import annotations

import time

import torch

from kit.models.optim import LazyAdamW
from kit.models.slices import DEVICES, RESERVE, Slice, timed_slice


class Two(torch.nn.Module):
    """A table of 1000 × 4 with row-sparse gradients and a 4 → 3 linear map without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(1000, 4, sparse=True)
        self.linear = torch.nn.Linear(4, 3, bias=False)

    def forward(self, batch):
        return {"x": self.linear(self.table(batch)).square().sum()}


def test_counts_of_a_known_step():
    model = Two()
    batches = [lambda: torch.tensor([1, 2, 2, 9, 5])] * 4
    found = timed_slice(model, batches, len, LazyAdamW(model.parameters()), seconds=0.0)
    assert found.steps == 2
    assert found.events == 5
    assert found.flops == 3 * 2 * 5 * 4 * 3  # forward, gradient of the input, gradient of the weight
    assert found.parameter_bytes == 4 * (4000 + 12)
    assert found.state_bytes == 2 * 4 * (4000 + 12) + 2 * 4  # two moments, and a step counter per parameter
    assert found.gradient_bytes == 4 * (4 * 4 + 12)  # four distinct rows
    assert found.update_bytes == 9 * found.gradient_bytes
    assert found.activation_bytes >= 4 * (5 * 4 + 5 * 3)
    assert found.activation_bytes < 4 * 1000 * 4  # the table is no activation


def test_waiting_is_what_making_takes_beyond_the_step():
    class Slow(Two):
        def forward(self, batch):
            time.sleep(0.02)
            return super().forward(batch)

    def slow():
        time.sleep(0.05)
        return torch.tensor([1])

    def share(model, thunk):
        return timed_slice(model, [thunk] * 12, len, LazyAdamW(model.parameters()), seconds=0.2).waiting

    assert share(Two(), slow) > 0.6
    assert share(Slow(), lambda: torch.tensor([1])) < 0.3


def test_time_and_memory_on_a_device_by_hand():
    known = Slice(1, 10, 0.9, 0.1, 1e12, 6e9, 12e9, 1e9, 2e9, 1e9, 0.1)
    small = DEVICES[0]
    assert abs(known.stall - 0.1) < 1e-9
    assert known.resident_bytes() == RESERVE + 1e9 + 2e9 + 1e9 + 12e9
    assert abs(known.seconds_on(small) - (1e12 / 24.6e12 + 30e9 / 0.6e12 + 0.01)) < 1e-9
    assert small.memory < DEVICES[1].memory
