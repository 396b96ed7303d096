"""What happened in a run, as it happens: JSON lines always; TensorBoard, MLflow and W&B beside them if asked for.

    with tracking.run("submit", {"recipe": "stats"}, Path(".kit/runs")):
        tracking.log("stage", {"seconds": 1.5}, about={"stage": "events"})

`log` is the one hook: it does nothing where no run is going on, so library code may call it anywhere. Which further sinks to
use is said by KIT_TRACK (`tensorboard`, `mlflow`, `wandb`, several with commas) or `kit --track`. Their packages are extras, and
none of their failures stops a run.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

from kit import __version__
from kit.errors import KitError, nearest
from kit.progress import say
from kit.trouble import sentence

VARIABLE = "KIT_TRACK"


class Sink(Protocol):
    """Where a run is told to. Made by a function of (run's name, its parameters, folder of runs)."""

    def log(self, kind: str, values: Mapping[str, float], step: int | None, about: Mapping[str, Any]) -> None:
        """Numbers by name. `step`: epoch or the like. `about`: what they belong to (`block`, `task` …)."""

    def end(self, state: str) -> None:
        """The run is over: done, failed or stopped."""


class JsonLines:
    """FOLDER/NAME.jsonl: one object per line, on disk as soon as it is said, so that a killed run's log is whole too."""

    def __init__(self, name: str, parameters: Mapping[str, Any], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._stream: TextIO = (folder / f"{name}.jsonl").open("a", encoding="utf-8")
        self._write({"kind": "begin", "run": name, "kit": __version__, "pid": os.getpid(), **parameters})

    def log(self, kind: str, values: Mapping[str, float], step: int | None, about: Mapping[str, Any]) -> None:
        """One line: time, kind, what it is about, the numbers (null where not finite)."""
        numbers = {key: value if math.isfinite(value) else None for key, value in values.items()}
        self._write({"kind": kind, **about, **({} if step is None else {"step": step}), **numbers})

    def end(self, state: str) -> None:
        """The last line."""
        self._write({"kind": "end", "state": state})
        self._stream.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._stream.write(json.dumps({"time": round(time.time(), 3), **line}, default=str) + "\n")
        self._stream.flush()


class TensorBoard:
    """Curves for `tensorboard --logdir .kit/runs/tensorboard`."""

    def __init__(self, name: str, parameters: Mapping[str, Any], folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        make: Any = SummaryWriter  # untyped
        self._writer = make(str(folder / "tensorboard" / name))
        self._writer.add_text("parameters", json.dumps(dict(parameters), indent=1, default=str))

    def log(self, kind: str, values: Mapping[str, float], step: int | None, about: Mapping[str, Any]) -> None:
        """A scalar per number."""
        for key, value in named(kind, values, about).items():
            self._writer.add_scalar(key, value, step or 0)

    def end(self, state: str) -> None:
        """Write what is buffered."""
        self._writer.add_text("state", state)
        self._writer.close()


class MLflow:
    """A run of MLflow's present experiment; MLFLOW_TRACKING_URI says where."""

    def __init__(self, name: str, parameters: Mapping[str, Any], folder: Path) -> None:
        import importlib

        self._mlflow: Any = importlib.import_module("mlflow")
        self._mlflow.start_run(run_name=name)
        self._mlflow.log_params({key: str(value) for key, value in parameters.items()})

    def log(self, kind: str, values: Mapping[str, float], step: int | None, about: Mapping[str, Any]) -> None:
        """A metric per number."""
        self._mlflow.log_metrics(named(kind, values, about), step=step or 0)

    def end(self, state: str) -> None:
        """Close MLflow's run."""
        self._mlflow.end_run({"done": "FINISHED", "stopped": "KILLED"}.get(state, "FAILED"))


class WandB:
    """A run of W&B's project `kit` (WANDB_PROJECT, WANDB_MODE and the like are W&B's own)."""

    def __init__(self, name: str, parameters: Mapping[str, Any], folder: Path) -> None:
        import importlib

        wandb: Any = importlib.import_module("wandb")
        project = os.environ.get("WANDB_PROJECT", "kit")
        self._run = wandb.init(project=project, name=name, config=dict(parameters), dir=str(folder))

    def log(self, kind: str, values: Mapping[str, float], step: int | None, about: Mapping[str, Any]) -> None:
        """A metric per number; W&B counts its own steps, so ours is one of the numbers."""
        self._run.log({**named(kind, values, about), **({} if step is None else {f"{kind}/step": step})})

    def end(self, state: str) -> None:
        """Close W&B's run."""
        self._run.finish(exit_code=0 if state == "done" else 1)


SINKS: dict[str, Callable[[str, Mapping[str, Any], Path], Sink]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WandB,
}


class _TrackedRun:
    """The sinks of the run that is going on."""

    def __init__(self, name: str, parameters: Mapping[str, Any], folder: Path, extra: Sequence[str]) -> None:
        self.sinks: list[Sink] = [_open(sink, name, parameters, folder) for sink in extra]
        self.tell(lambda: self.sinks.insert(0, JsonLines(name, parameters, folder)))

    def each(self, act: Callable[[Sink], None]) -> None:
        for sink in list(self.sinks):
            if not self.tell(lambda sink=sink: act(sink)):  # type: ignore[misc]
                self.sinks.remove(sink)

    def tell(self, act: Callable[[], None]) -> bool:
        """Whether it worked; a log that cannot be written is said once and then left alone."""
        try:
            act()
        except Exception as error:
            known = sentence(error)
            reason = f"{type(error).__name__}: {error}" if known is None else known.what.rstrip(".")
            say(f"  the run's log fails and is given up: {reason}")
            return False
        return True


_current: list[_TrackedRun] = []
Watch = Callable[[Mapping[str, float], int | None, Mapping[str, Any]], None]
"""Called with (values, step, about) of an event."""
_watchers: list[tuple[str, Watch]] = []


def chosen_sinks() -> list[str]:
    """Names in KIT_TRACK.

    Raises:
        KitError: an unknown one.
    """
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    for name in names:
        if name not in SINKS:
            raise KitError(f"There is no tracking sink {name!r} ({VARIABLE}, --track);", nearest(name, SINKS))
    return list(dict.fromkeys(names))


@contextmanager
def run(kind: str, parameters: Mapping[str, Any], folder: Path) -> Iterator[None]:
    """Keep a log of what is done inside. A run within a run is told to the outer one.

    Args:
        kind: what is run (`submit`, `score`).
        parameters: what it was asked to do.
        folder: where JSON lines and TensorBoard's files go.

    Raises:
        KitError: an unknown sink, or one whose package is not installed.
    """
    if _current:
        log("begin", {}, about={"inner": kind, **parameters})
        yield
        return
    name = f"{time.strftime('%Y%m%dT%H%M%S')}-{kind}-{os.getpid()}"
    _current.append(_TrackedRun(name, {"command": kind, **parameters}, folder, chosen_sinks()))
    state = "failed"
    try:
        yield
        state = "done"
    except (KeyboardInterrupt, SystemExit):
        state = "stopped"
        raise
    finally:
        _current.pop().each(lambda sink: sink.end(state))


def log(
    kind: str, values: Mapping[str, float], *, step: int | None = None, about: Mapping[str, Any] | None = None
) -> None:
    """Tell the present run something; nothing where there is none.

    Args:
        kind: `stage`, `epoch`, `score` …
        values: numbers by name.
        step: epoch or the like.
        about: what they belong to.
    """
    for current in _current:
        current.each(lambda sink: sink.log(kind, values, step, about or {}))
    for wanted, watch in list(_watchers):
        if wanted == kind:
            watch(values, step, about or {})


@contextmanager
def watching(kind: str, watch: Watch) -> Iterator[None]:
    """Call `watch` for every event of a kind that is logged inside. Unlike a sink's, its errors pass: so a search can stop a
    training that is not worth finishing.
    """
    _watchers.append((kind, watch))
    try:
        yield
    finally:
        _watchers.remove((kind, watch))


def named(kind: str, values: Mapping[str, float], about: Mapping[str, Any]) -> dict[str, float]:
    """`epoch/combined/loss`: names for tools that know nothing but names and numbers."""
    place = "/".join([kind, *(str(part) for part in about.values() if isinstance(part, str))])
    return {f"{place}/{key}": float(value) for key, value in values.items()}


def _open(sink: str, name: str, parameters: Mapping[str, Any], folder: Path) -> Sink:
    try:
        return SINKS[sink](name, parameters, folder)
    except ImportError as error:
        raise KitError(
            f"Tracking to {sink} needs a package that is not installed ({error}).", f"pip install 'kit[{sink}]'"
        ) from error
