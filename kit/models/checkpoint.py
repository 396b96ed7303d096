"""What a training leaves: its report, and checkpoints that hold everything that moves, so that a resumed run takes the very
steps of one that was never stopped."""

from __future__ import annotations

import json
import pickle
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kit.errors import KitError
from kit.store import write_atomically

EVERY = 300.0
"""Seconds between checkpoints within an epoch."""


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


def read_report(path: Path) -> dict[str, Any]:
    """What a training reported, without its times: the arguments of a TrainReport."""
    known = {field.name for field in fields(TrainReport)}
    return {name: value for name, value in json.loads(path.read_text(encoding="utf-8")).items() if name in known}


@dataclass
class Partial:
    """How far the epoch under way has come.

    Attributes:
        done: batches taken.
        seen: events (or edges) in them.
        sums: of each loss term over those of them that define it.
        defined: how many these are.
    """

    done: int = 0
    seen: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    defined: dict[str, int] = field(default_factory=dict)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's weights."""
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


class Checkpoint:
    """What a training must know to go on, and the file that holds it.

    Within an epoch it is saved every EVERY seconds by a single process; several save between epochs only, where they meet.

    Args:
        path: the file; None keeps nothing.
        fabric: whose processes take part.
        model, optimizer, schedule: what moves; changed in place by `resume`.

    Attributes:
        report: what happened so far.
        partial: the epoch under way.
        best: weights of the best epoch so far; empty without validation.
    """

    def __init__(
        self, path: Path | None, fabric: Fabric, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler
    ) -> None:
        self.path, self.fabric = path, fabric
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        self.report, self.partial = TrainReport(), Partial()
        self.best: dict[str, Tensor] = {}
        self._saved = time.monotonic()

    def save_if_due(self) -> None:
        """Called between two steps of an epoch."""
        if self.path is not None and self.fabric.world_size == 1 and time.monotonic() - self._saved >= EVERY:
            self.save()

    def save(self) -> None:
        """Atomically: weights, optimiser, schedule, every process's random state, report, best weights, the epoch under way."""
        if self.path is None:
            return
        fabric = self.fabric
        # Gathering moves to the fabric's device; a generator takes its state back from the CPU alone.
        random_states = cast("Tensor", fabric.all_gather(torch.get_rng_state())).cpu().reshape(fabric.world_size, -1)
        if not fabric.is_global_zero:
            return
        state = {
            "model": self.model.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "report": dict(self.report.__dict__),
            "partial": dict(self.partial.__dict__),
            "torch": random_states,
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, lambda temporary: torch.save(state, temporary))
        self._saved = time.monotonic()

    def resume(self) -> None:
        """Go back to where the file says, if there is one.

        Raises:
            KitError: it cannot be read, or is another model's or another number of processes'; never a silent fresh start.
        """
        if self.path is None or not self.path.exists():
            return
        try:
            state: dict[str, Any] = torch.load(self.path, weights_only=True, map_location=self.fabric.device)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            report, partial = TrainReport(**state["report"]), Partial(**state["partial"])
        except (pickle.UnpicklingError, RuntimeError, KeyError, EOFError, ValueError, TypeError, OSError) as error:
            raise KitError(
                f"The checkpoint {self.path} does not fit this model ({error}).", "Delete it to start again."
            ) from error
        self.schedule.load_state_dict(state["schedule"])
        if len(state["torch"]) != self.fabric.world_size:
            raise KitError(
                f"The checkpoint {self.path} was written by {len(state['torch'])} processes, not {self.fabric.world_size}.",
                "Set `train.devices` to that, or delete the checkpoint to start again.",
            )
        torch.set_rng_state(state["torch"][self.fabric.global_rank].cpu().clone())
        if state["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
        self.report, self.best, self.partial = report, state["best"], partial
