"""The one training loop: every model of the kit is trained by `train`, on Lightning Fabric.

A model's `forward(batch)` returns its loss terms by name, already weighted; their sum is minimised. Which batch comes when is
a function of (seed, epoch) alone, so a run that was stopped and resumed takes the very steps of one that was not.

With several `devices`, Fabric starts that many processes for the training alone, each with a copy of the model. Process r of w
takes batches r, r + w, …, and gradients are averaged: n devices take the steps of one device with `accumulate` × n, to within
the rounding of sums, as long as nothing is drawn in `forward` (dropout masks differ between processes, as they must). The
last batches of an epoch, fewer than n, are left out; the order changes from epoch to epoch.
"""

from __future__ import annotations

import logging
import math
import pickle
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar, cast

import cloudpickle
import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.wrappers import _FabricModule
from pydantic import Field
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from kit import tracking
from kit.errors import KitError
from kit.limits.crowd import give_way
from kit.models.checkpoint import Checkpoint, Partial, TrainReport, snapshot
from kit.models.loader import ahead
from kit.models.optim import adam_w
from kit.models.sums import same_sums
from kit.progress import say, track
from kit.recipe import Strict


class LoopSettings(Strict):
    """Settings of the training loop; a block's recipe table holds them under `train`."""

    epochs: int = Field(5, ge=1)
    lr: float = Field(2e-3, gt=0, description="Peak learning rate.")
    schedule: Literal["cosine", "constant", "schedule-free"] = Field(
        "cosine",
        description="After warm-up: cosine to zero, flat, or flat with averaged weights (schedule-free AdamW), which need no "
        "end to be planned.",
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of all steps during which the rate rises linearly.")
    accumulate: int = Field(1, ge=1, description="Batches per optimiser step.")
    clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 = autocast; weights stay fp32.")
    patience: int | None = Field(
        None, ge=1, description="Stop after this many epochs without a better validation; never if absent."
    )
    prefetch: int = Field(
        1,
        ge=0,
        description="Batches that a thread makes ahead, so that steps do not wait for them; the same ones for any number.",
    )
    accelerator: str = Field("auto", description="cpu, cuda, auto: Lightning Fabric's word.")
    devices: int = Field(1, ge=1, description="Data-parallel processes: n take the steps of `accumulate` × n.")


Loop = TypeVar("Loop", bound=LoopSettings)


def unvalidated(settings: Loop) -> Loop:
    """The same, for blocks that validate nothing while they train; ValueError (as settings raise it) for `patience`, which would
    never stop them."""
    if settings.patience is not None and settings.epochs > 1:
        raise ValueError(
            "nothing is validated here, so `patience` would never stop it: leave it out and choose `epochs`"
        )
    return settings


class TrainSettings(LoopSettings):
    """The loop's settings and those of AdamW, which moves what brings no optimiser of its own."""

    weight_decay: float = Field(0.01, ge=0, description="Of weights; norms, biases and single numbers do not decay.")
    rows: Literal["adam", "adagrad"] = Field(
        "adam",
        description="What moves embedding tables with row-sparse gradients: Adam's moments rest while a row has no gradient, "
        "Adagrad keeps one number per row instead of two per value.",
    )


Number = TypeVar("Number", int, float)
Batches = Callable[[int], Sequence[Callable[[], Any]]]
"""epoch → that epoch's batches in order, each made when called; a function of the epoch and a fixed seed alone."""


def train(
    model: nn.Module,
    batches: Batches,
    settings: LoopSettings,
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
        checkpoint: file to save after each epoch, every few minutes within one, and to resume from if it exists.
        optimizer: used instead of AdamW (`settings` need then name none of AdamW's); sparse gradients are clipped too.

    Raises:
        KitError: the loss is not finite; fewer batches than devices; an optimizer where the schedule brings its own; patience
            where nothing is validated.
    """
    if settings.patience is not None and validate is None and settings.epochs > 1:
        raise KitError(
            f"{name} has no validation: `train.patience = {settings.patience}` would never stop it.",
            "Leave it out, and choose `train.epochs`.",
        )
    if optimizer is not None and settings.schedule == "schedule-free":
        raise KitError(
            f"{name} brings an optimiser of its own: `train.schedule` cannot be 'schedule-free'.",
            "Use cosine or constant.",
        )
    run = _Training(model, batches, settings, seed, name, validate, size, checkpoint, optimizer)
    return _alone(_fabric(settings), run) if settings.devices == 1 else _in_processes(run)


@dataclass
class _Training:
    """The arguments of `train`."""

    model: nn.Module
    batches: Batches
    settings: LoopSettings
    seed: int
    name: str
    validate: Callable[[nn.Module], float] | None
    size: Callable[[Any], int]
    checkpoint: Path | None
    optimizer: Optimizer | None


def _in_processes(run: _Training) -> TrainReport:
    """`_loop` in as many processes as there are devices; the model here gets the weights of the first.

    They are started for this alone, with the run as a pickle: to run the whole command again in every process, as launchers
    do, would have them wait for each other's locks on the artefact store.
    """
    if (count := len(run.batches(0))) < run.settings.devices:
        raise KitError(f"{run.settings.devices} devices for {count} batches.", "Lower `train.devices`, or the batch.")
    with TemporaryDirectory(prefix="kit-train-") as place:
        result = Path(place) / "result.pickle"
        try:
            _fabric(run.settings).launch(cast(Any, _work), cloudpickle.dumps(run), result)
        except ProcessRaisedException as error:
            last = str(error).strip().splitlines()[-1]
            raise KitError(
                f"Training {run.name} with {run.settings.devices} processes failed: {last}",
                "`train.devices = 1` uses one.",
            ) from error
        weights, report = pickle.loads(result.read_bytes())
    run.model.load_state_dict(weights)
    run.model.eval()
    for epoch in range(len(report.losses)):
        _log(run.name, epoch, report)
    return cast(TrainReport, report)


def _work(fabric: Fabric, pickled: bytes, result: Path) -> None:
    """In a process of its own. The first leaves weights and report in a file: a pipe that nobody reads until all processes
    have ended takes few bytes, and shared memory ends with its process."""
    run: _Training = pickle.loads(pickled)
    report = _alone(fabric, run)
    if fabric.is_global_zero:
        result.write_bytes(pickle.dumps(({key: value.cpu() for key, value in run.model.state_dict().items()}, report)))


def _alone(fabric: Fabric, run: _Training) -> TrainReport:
    """`_loop`, with the same sums whatever else the processor does, and giving way to it."""
    with same_sums(fabric.device), give_way():
        return _loop(fabric, run)


def _loop(fabric: Fabric, run: _Training) -> TrainReport:
    """All epochs, in this process."""
    model, settings, validate = run.model, run.settings, run.validate
    _seed_everything(run.seed + 7919 * fabric.global_rank)
    averaged = settings.schedule == "schedule-free"
    if isinstance(settings, TrainSettings) and run.optimizer is None:
        optimizer = adam_w(model, settings.lr, settings.weight_decay, settings.rows, averaged=averaged)
    elif run.optimizer is not None:
        optimizer = run.optimizer
    else:
        raise ValueError("these settings have none for AdamW, and no optimiser was given")
    wrapped, optim = fabric.setup(model, optimizer)
    total = settings.epochs * math.ceil(len(run.batches(0)) // fabric.world_size / settings.accumulate)
    schedule = LambdaLR(optimizer, lambda step: rate_factor(step, total, settings))
    saved = Checkpoint(run.checkpoint, fabric, model, optimizer, schedule)
    saved.best = {} if validate is None else snapshot(model)
    saved.resume()
    report = saved.report
    for epoch in range(len(report.losses), settings.epochs):
        if _out_of_patience(report, settings):
            break
        wrapped.train()
        _switch(optimizer, "train")
        terms = _run_epoch(fabric, wrapped, optim, schedule, run, epoch, saved)
        # Averaged weights between epochs, asked for or not: the way there and back costs a rounding, and a run with
        # checkpoints must take the very steps of one without.
        _switch(optimizer, "eval")
        report.losses.append(terms)
        if validate is not None:
            wrapped.eval()
            with torch.inference_mode():
                # All processes go by one number: were they to disagree when to stop, the others would wait for ever.
                report.validation.append(fabric.broadcast(validate(model)))
            if report.validation[-1] >= max(report.validation):
                report.best_epoch, saved.best = epoch, snapshot(model)
        if fabric.is_global_zero:
            _tell(run.name, epoch, settings.epochs, report)
        saved.save()
    if validate is not None and report.best_epoch >= 0:
        model.load_state_dict(saved.best)
    model.eval()
    return report


def _switch(optimizer: Optimizer, mode: Literal["train", "eval"]) -> None:
    """Put a schedule-free optimiser's weights where gradients are taken, or on their average; others have one place."""
    change = getattr(optimizer, mode, None)
    if change is not None:
        change()


def rate_factor(step: int, total: int, settings: LoopSettings) -> float:
    """Multiplier of the peak rate at a step: linear warm-up, then cosine to zero, else flat."""
    warm = int(settings.warmup * total)
    if step < warm:
        return (step + 1) / warm
    if settings.schedule != "cosine":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min((step - warm) / max(total - warm, 1), 1.0)))


def _fabric(settings: LoopSettings) -> Fabric:
    precision: Any = {"fp32": "32-true", "bf16": "bf16-mixed"}[settings.precision]
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    # Terms of weight 0 leave parameters without gradient.
    several = DDPStrategy(start_method="spawn", find_unused_parameters=True)
    strategy: Any = "auto" if settings.devices == 1 else several
    return Fabric(accelerator=settings.accelerator, devices=settings.devices, precision=precision, strategy=strategy)


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _run_epoch(
    fabric: Fabric,
    wrapped: _FabricModule,
    optimizer: Optimizer,
    schedule: LRScheduler,
    run: _Training,
    epoch: int,
    saved: Checkpoint,
) -> dict[str, float]:
    """One pass, or what is left of it; returns the mean of each loss term over the batches that define it, of all processes,
    each of which takes its own slice of them."""
    settings, thunks, report, partial = run.settings, run.batches(epoch), saved.report, saved.partial
    mine = thunks[fabric.global_rank :: fabric.world_size][: len(thunks) // fabric.world_size]
    left = mine[partial.done :]
    told = track(left, f"{run.name}: epoch {epoch + 1} of {settings.epochs}", len(left), "batches")
    began = time.perf_counter()
    for made in ahead(told if fabric.is_global_zero else left, settings.prefetch):
        batch = fabric.to_device(made)
        partial.done += 1
        stepping = partial.done % settings.accumulate == 0 or partial.done == len(mine)
        with fabric.no_backward_sync(wrapped, enabled=not stepping):
            terms: dict[str, Tensor] = wrapped(batch)
            loss = torch.stack(list(terms.values())).sum() / settings.accumulate
            fabric.backward(loss)
        partial.seen += run.size(batch)
        for key, value in terms.items():
            partial.sums[key] = partial.sums.get(key, torch.zeros((), device=value.device)) + value.detach()
            partial.defined[key] = partial.defined.get(key, 0) + 1
        if stepping:
            norm = _clip(wrapped, settings.clip)
            if not bool(torch.isfinite(norm)):
                found = {key: float(value.detach()) for key, value in terms.items()}
                raise KitError(
                    f"The gradient became {float(norm)} at step {report.steps} ({found}).",
                    'Lower `train.lr`, or set `train.precision = "fp32"`.',
                )
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            report.steps += 1
            report.seconds, began = report.seconds + time.perf_counter() - began, time.perf_counter()
            saved.save_if_due()
    saved.partial = Partial()
    report.items += _over_processes(fabric, partial.seen)
    return {
        key: _over_processes(fabric, float(partial.sums.get(key, 0.0)))
        / _over_processes(fabric, partial.defined.get(key, 0))
        for key in _over_all(fabric, list(partial.sums))
    }


def _over_all(fabric: Fabric, names: list[str]) -> list[str]:
    """Names that any process has, in one order: a term that no batch of a process defines is not among its own."""
    if fabric.world_size == 1:
        return names
    found: list[list[str]] = [[] for _ in range(fabric.world_size)]
    torch.distributed.all_gather_object(found, names)
    return list(dict.fromkeys(name for own in found for name in own))


def _over_processes(fabric: Fabric, value: Number) -> Number:
    """The sum of a number over all processes, as a double."""
    if fabric.world_size == 1:
        return value
    total = fabric.all_reduce(torch.tensor(value, dtype=torch.float64), reduce_op="sum")
    return type(value)(cast("Tensor", total).item())


def _clip(wrapped: nn.Module, limit: float) -> Tensor:
    """Scale the gradients, row-sparse ones included, to a norm of at most `limit`; the norm before.

    Its sum is taken in order of size and in double precision: the order in which a model registers its parameters decides no bit.
    """
    held = [parameter for parameter in wrapped.parameters() if parameter.grad is not None]
    for parameter in held:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
    values: list[Tensor] = [p.grad.values() if p.grad.is_sparse else p.grad for p in held if p.grad is not None]
    norms = torch.stack([value.norm() for value in values]).double().sort().values
    total = norms.square().sum().sqrt()
    factor = torch.clamp(limit / (total + 1e-6), max=1.0).float()
    for value in values:
        value.mul_(factor)
    return total


def _out_of_patience(report: TrainReport, settings: LoopSettings) -> bool:
    if settings.patience is None or report.best_epoch < 0:
        return False
    return len(report.validation) - 1 - report.best_epoch >= settings.patience


def _tell(name: str, epoch: int, epochs: int, report: TrainReport) -> None:
    terms = ", ".join(f"{key} {value:.4f}" for key, value in report.losses[-1].items())
    score = f", validation {report.validation[-1]:.4f}" if report.validation else ""
    rate = report.items / max(report.seconds, 1e-9)
    _log(name, epoch, report)
    say(f"  {name}: epoch {epoch + 1} of {epochs}: {terms}{score} ({rate:,.0f} items/s)")


def _log(name: str, epoch: int, report: TrainReport) -> None:
    """An epoch's losses to the run's log."""
    numbers = report.losses[epoch] | ({"validation": report.validation[epoch]} if report.validation else {})
    rate = report.items / max(report.seconds, 1e-9)
    tracking.log("epoch", numbers | {"items_per_second": rate}, step=epoch + 1, about={"model": name})
