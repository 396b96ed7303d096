"""A timed slice of real training steps, what a step computes and moves, and what that comes to on a GPU.

Counted, not guessed: floating-point operations by torch's counter; bytes as the tensors that autograd keeps for the backward
pass (written once, read once), and what the optimiser reads and writes: every parameter with a dense gradient in full, of
row-sparse tables the rows that the step touched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode

from kit.models.loader import ahead

FLOAT: Final = 4
ADAM_PASSES: Final = 9
"""Floats moved per parameter by AdamW: gradient zeroed, written and read; value and two moments read and written."""


@dataclass(frozen=True)
class Device:
    """An accelerator as assumed: what large training steps sustain, not what the data sheet promises.

    Attributes:
        name: what it is.
        memory: bytes.
        flops: sustained per second: 30 % of the dense TF32 rate.
        bandwidth: bytes per second sustained: 60 % of the data sheet's.
        launch: seconds per step that kernel launches and Python take at least.
    """

    name: str
    memory: float
    flops: float
    bandwidth: float
    launch: float = 0.01


DEVICES: Final = (
    Device("24 GB (TF32 82 TFLOP/s, 1.0 TB/s)", 24e9, 0.3 * 82e12, 0.6 * 1.0e12),
    Device("80 GB (TF32 156 TFLOP/s, 2.0 TB/s)", 80e9, 0.3 * 156e12, 0.6 * 2.0e12),
)
RESERVE: Final = 1.5e9
"""Bytes that the driver and the allocator take."""


@dataclass(frozen=True)
class Slice:
    """Some training steps, measured.

    Attributes:
        steps: how many were timed.
        events: per step, on average.
        step_seconds, loader_seconds: per step, CPU seconds of this process over torch's threads (waiting for other processes is
            not in them).
        flops: of one step.
        activation_bytes: kept by autograd in one step.
        update_bytes: moved by the optimiser in one step.
        parameter_bytes, state_bytes, gradient_bytes: of the model, of the optimiser, and of its gradients.
        optimiser_seconds: CPU seconds of one optimiser step alone.
        waiting: share of the wall-clock time that training waits for batches where a thread makes one ahead (`train.prefetch`).
    """

    steps: int
    events: float
    step_seconds: float
    loader_seconds: float
    flops: float
    activation_bytes: float
    update_bytes: float
    parameter_bytes: float
    state_bytes: float
    gradient_bytes: float
    optimiser_seconds: float
    waiting: float = 0.0

    @property
    def stall(self) -> float:
        """Share of a step's time that goes to making its batch, where nothing is made ahead."""
        return self.loader_seconds / max(self.loader_seconds + self.step_seconds, 1e-12)

    def resident_bytes(self) -> float:
        """What training needs on a device."""
        return (
            RESERVE + self.parameter_bytes + self.state_bytes + self.gradient_bytes + 2 * self.activation_bytes
        )  # twice: gradients of activations and temporary results

    def seconds_on(self, device: Device) -> float:
        """Of one step: arithmetic and traffic one after the other, plus launches."""
        moved = 3 * self.activation_bytes + self.update_bytes
        return self.flops / device.flops + moved / device.bandwidth + device.launch


def timed_slice(
    model: nn.Module,
    thunks: Sequence[Callable[[], Any]],
    size: Callable[[Any], int],
    optimizer: Optimizer,
    seconds: float,
) -> Slice:
    """Run training steps on the first of these batches until `seconds` have passed (at least two steps).

    Args:
        model: forward(batch) → loss terms.
        thunks: an epoch's batches.
        size: events in a batch.
        optimizer: of the model.
        seconds: wall-clock time to spend.
    """
    model.train()
    kept = _Kept()
    with FlopCounterMode(display=False) as counter, kept.counting():  # one step to warm up is the one that is counted
        _step(model, thunks[0](), optimizer)
    gradients, moved = _gradients(model)
    threads = torch.get_num_threads()
    loaded = stepped = updated = 0.0
    events = steps = 0
    began = time.perf_counter()
    for thunk in thunks:
        if steps >= 2 and time.perf_counter() - began > seconds:
            break
        at = time.process_time()
        batch = thunk()
        made = time.process_time()
        updated += _step(model, batch, optimizer)
        done = time.process_time()
        loaded, stepped = loaded + made - at, stepped + done - made
        events, steps = events + size(batch), steps + 1
    state = sum(
        value.numel() * value.element_size()
        for held in optimizer.state.values()
        for value in held.values()
        if isinstance(value, Tensor)
    )
    return Slice(
        steps=steps, events=events / steps, step_seconds=stepped / steps / threads, loader_seconds=loaded / steps,
        flops=counter.get_total_flops(), activation_bytes=kept.bytes, update_bytes=moved,
        parameter_bytes=sum(p.numel() * p.element_size() for p in model.parameters()), state_bytes=state,
        gradient_bytes=gradients, optimiser_seconds=updated / steps / threads,
        waiting=_waiting(model, thunks[steps:], optimizer, seconds / 2),
    )  # fmt: skip


def _waiting(model: nn.Module, thunks: Sequence[Callable[[], Any]], optimizer: Optimizer, seconds: float) -> float:
    """Share of the time that steps wait for batches of which one is made ahead; 0 without a second batch."""
    source = ahead(thunks, 1)
    next(source, None)  # nothing could be made while this one was
    waited, began = 0.0, time.perf_counter()
    while time.perf_counter() - began <= seconds:
        asked = time.perf_counter()
        batch = next(source, None)
        if batch is None:
            break
        waited += time.perf_counter() - asked
        _step(model, batch, optimizer)
    source.close()
    return waited / (time.perf_counter() - began)


def _step(model: nn.Module, batch: object, optimizer: Optimizer) -> float:
    """One training step; CPU seconds of the optimiser's part."""
    optimizer.zero_grad(set_to_none=True)
    torch.stack(list(model(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
    began = time.process_time()
    optimizer.step()
    return time.process_time() - began


def _gradients(model: nn.Module) -> tuple[float, float]:
    """Bytes of the gradients at hand, and bytes that AdamW moves for them."""
    held = moved = 0.0
    for parameter in model.parameters():
        if parameter.grad is not None:
            values = parameter.grad.coalesce().values() if parameter.grad.is_sparse else parameter.grad
            held += values.numel() * values.element_size()
            moved += ADAM_PASSES * values.numel() * FLOAT
    return held, moved


class _Kept:
    """Bytes that autograd keeps for the backward pass, each storage once, parameters left out."""

    def __init__(self) -> None:
        self.seen: dict[int, int] = {}

    def counting(self) -> torch.autograd.graph.saved_tensors_hooks:
        """A context in which they are counted."""

        def pack(tensor: Tensor) -> Tensor:
            if not isinstance(tensor, nn.Parameter) and not tensor.is_sparse and tensor.layout is torch.strided:
                storage = tensor.untyped_storage()
                self.seen[storage.data_ptr()] = max(self.seen.get(storage.data_ptr(), 0), storage.nbytes())
            return tensor

        return torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)

    @property
    def bytes(self) -> float:
        """So far."""
        return float(sum(self.seen.values()))
