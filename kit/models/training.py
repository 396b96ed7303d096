"""The one training loop: every model of the kit is trained by `train`, on Lightning Fabric.

A model's `forward(batch)` returns its loss terms by name, already weighted; their sum is minimised. Which batch comes when is
a function of (seed, epoch) alone, so a run that was stopped and resumed takes the very steps of one that was not.
"""

from __future__ import annotations

import logging
import math
import pickle
import random
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from kit import tracking
from kit.errors import KitError
from kit.progress import say
from kit.recipe import Strict
from kit.store import write_atomically


class TrainSettings(Strict):
    """Settings of the training loop; a block's recipe table holds them under `train`."""

    epochs: int = Field(5, ge=1)
    lr: float = Field(2e-3, gt=0, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(0.01, ge=0)
    schedule: Literal["cosine", "constant"] = Field("cosine", description="After warm-up: cosine to zero, or flat.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of all steps during which the rate rises linearly.")
    accumulate: int = Field(1, ge=1, description="Batches per optimiser step.")
    clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 = autocast; weights stay fp32.")
    patience: int | None = Field(
        None, ge=1, description="Stop after this many epochs without a better validation; never if absent."
    )
    accelerator: str = Field("auto", description="cpu, cuda, auto: Lightning Fabric's word.")
    devices: int = Field(1, ge=1, description="Data-parallel processes.")


Batches = Callable[[int], Sequence[Callable[[], Any]]]
"""epoch → that epoch's batches in order, each made when called; a function of the epoch and a fixed seed alone."""


@dataclass
class TrainReport:
    """What happened: one entry per epoch."""

    losses: list[dict[str, float]] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best_epoch: int = -1
    seconds: float = 0.0
    steps: int = 0
    items: int = 0
    """Events (or edges) trained on, as counted by `size`; items / seconds is the throughput."""

    def as_json(self) -> dict[str, Any]:
        """For a block's saved files."""
        return {**self.__dict__, "items_per_second": round(self.items / max(self.seconds, 1e-9), 1)}


def train(
    model: nn.Module,
    batches: Batches,
    settings: TrainSettings,
    *,
    seed: int,
    name: str,
    validate: Callable[[nn.Module], float] | None = None,
    size: Callable[[Any], int] = lambda batch: 1,
    checkpoint: Path | None = None,
    optimizer: Optimizer | None = None,
) -> TrainReport:
    """Train `model` in place; with validation, the best epoch's weights are the ones it ends with.

    Args:
        model: forward(batch) → dict of weighted loss terms.
        batches: epoch → that epoch's batches, in order.
        settings: epochs, rates, precision, devices.
        seed: seeds Python, NumPy and torch; the caller builds the model after seeding with it too.
        name: for progress lines.
        validate: higher is better; called after each epoch with the model in eval mode.
        size: how many events a batch holds, for the throughput.
        checkpoint: file to save after each epoch and to resume from if it exists.
        optimizer: used instead of AdamW (then `lr` and `weight_decay` are its own affair); sparse gradients are clipped too.

    Raises:
        KitError: the loss is not finite.
    """
    fabric = _fabric(settings)
    _seed_everything(seed)
    if optimizer is None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    wrapped, optim = fabric.setup(model, optimizer)
    total = settings.epochs * math.ceil(len(batches(0)) / settings.accumulate / fabric.world_size)
    schedule = LambdaLR(optimizer, lambda step: rate_factor(step, total, settings))
    report, best, first = TrainReport(), _snapshot(model), 0
    if checkpoint is not None and checkpoint.exists():
        report, best, first = _resume(checkpoint, model, optimizer, schedule)
    for epoch in range(first, settings.epochs):
        if _out_of_patience(report, settings):
            break
        began = time.perf_counter()
        wrapped.train()
        terms = _run_epoch(fabric, wrapped, optim, schedule, batches(epoch), settings, size, report)
        report.seconds += time.perf_counter() - began
        report.losses.append(terms)
        if validate is not None:
            wrapped.eval()
            with torch.inference_mode():
                report.validation.append(validate(model))
            if report.validation[-1] >= max(report.validation):
                report.best_epoch, best = epoch, _snapshot(model)
        _tell(name, epoch, settings.epochs, report)
        if checkpoint is not None and fabric.is_global_zero:
            _save(checkpoint, model, optimizer, schedule, report, best)
    if validate is not None and report.best_epoch >= 0:
        model.load_state_dict(best)
    model.eval()
    return report


def rate_factor(step: int, total: int, settings: TrainSettings) -> float:
    """Multiplier of the peak rate at a step: linear warm-up, then cosine to zero or flat."""
    warm = int(settings.warmup * total)
    if step < warm:
        return (step + 1) / warm
    if settings.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min((step - warm) / max(total - warm, 1), 1.0)))


def _fabric(settings: TrainSettings) -> Fabric:
    precision: Any = {"fp32": "32-true", "bf16": "bf16-mixed"}[settings.precision]
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    fabric = Fabric(accelerator=settings.accelerator, devices=settings.devices, precision=precision)
    if settings.devices > 1:
        fabric.launch()
    return fabric


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _run_epoch(
    fabric: Fabric,
    wrapped: _FabricModule,
    optimizer: Optimizer,
    schedule: LRScheduler,
    thunks: Sequence[Callable[[], Any]],
    settings: TrainSettings,
    size: Callable[[Any], int],
    report: TrainReport,
) -> dict[str, float]:
    """One pass; returns the mean of each loss term. Every process takes its own slice of the batches."""
    mine = thunks[fabric.global_rank :: fabric.world_size][: len(thunks) // fabric.world_size or None]
    sums: dict[str, Tensor] = {}
    for index, thunk in enumerate(mine):
        batch = fabric.to_device(thunk())
        stepping = (index + 1) % settings.accumulate == 0 or index + 1 == len(mine)
        with fabric.no_backward_sync(wrapped, enabled=not stepping):
            terms: dict[str, Tensor] = wrapped(batch)
            loss = torch.stack(list(terms.values())).sum() / settings.accumulate
            fabric.backward(loss)
        report.items += size(batch)
        for key, value in terms.items():
            sums[key] = sums.get(key, torch.zeros((), device=value.device)) + value.detach()
        if stepping:
            norm = _clip(fabric, wrapped, optimizer, settings.clip)
            if norm is not None and not bool(torch.isfinite(norm)):
                raise KitError(
                    f"The gradient became {float(norm)} at step {report.steps} ({ {k: float(v) for k, v in terms.items()} }).",
                    'Lower `train.lr`, or set `train.precision = "fp32"`.',
                )
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            report.steps += 1
    return {key: float(value) / max(len(mine), 1) for key, value in sums.items()}


def _clip(fabric: Fabric, wrapped: nn.Module, optimizer: Optimizer, limit: float) -> Tensor | None:
    """Scale the gradients to a norm of at most `limit`; the norm before. Torch cannot clip sparse gradients itself."""
    gradients = [parameter.grad for parameter in wrapped.parameters() if parameter.grad is not None]
    if not any(gradient.is_sparse for gradient in gradients):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            norm: Any = fabric.clip_gradients(wrapped, optimizer, max_norm=limit, error_if_nonfinite=False)
            return cast("Tensor | None", norm)
    for parameter in wrapped.parameters():
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
    values: list[Tensor] = [
        p.grad.values() if p.grad.is_sparse else p.grad for p in wrapped.parameters() if p.grad is not None
    ]
    total: Tensor = torch.stack([value.norm() for value in values]).norm()
    factor = torch.clamp(limit / (total + 1e-6), max=1.0)
    for value in values:
        value.mul_(factor)
    return total


def _out_of_patience(report: TrainReport, settings: TrainSettings) -> bool:
    if settings.patience is None or report.best_epoch < 0:
        return False
    return len(report.validation) - 1 - report.best_epoch >= settings.patience


def _snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def _tell(name: str, epoch: int, epochs: int, report: TrainReport) -> None:
    terms = ", ".join(f"{key} {value:.4f}" for key, value in report.losses[-1].items())
    score = f", validation {report.validation[-1]:.4f}" if report.validation else ""
    rate = report.items / max(report.seconds, 1e-9)
    numbers = report.losses[-1] | ({"validation": report.validation[-1]} if report.validation else {})
    tracking.log("epoch", numbers | {"items_per_second": rate}, step=epoch + 1, about={"model": name})
    say(f"  {name}: epoch {epoch + 1} of {epochs}: {terms}{score} ({rate:,.0f} items/s)")


def _save(
    path: Path,
    model: nn.Module,
    optimizer: Optimizer,
    schedule: LRScheduler,
    report: TrainReport,
    best: dict[str, Tensor],
) -> None:
    """Everything that moves, atomically: weights, optimiser, schedule, random states, report, best weights."""
    state = {
        "model": model.state_dict(),
        "best": best,
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "report": dict(report.__dict__),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    write_atomically(path, lambda temporary: torch.save(state, temporary))


def _resume(
    path: Path, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler
) -> tuple[TrainReport, dict[str, Tensor], int]:
    """Load what `_save` wrote; a file that cannot be read is an error that says so, not a silent fresh start."""
    try:
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except (pickle.UnpicklingError, RuntimeError, KeyError, EOFError, ValueError, OSError) as error:
        raise KitError(
            f"The checkpoint {path} does not fit this model ({error}).", "Delete it to start again."
        ) from error
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    report = TrainReport(**state["report"])
    return report, state["best"], len(report.losses)
