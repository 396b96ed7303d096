"""Options that commands share which train probes, and the one object that carries them to the probe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kit.probes.registry import Precision
    from kit.tasks import Task

TaskOption = Annotated[
    list[str] | None,
    typer.Option("--task", help="One task, such as churn or price; repeat for several. Default: the challenge's six."),
]
ProbesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--probe", help="official, fast, gbm, or none: a block's own forecasts; repeat for several. Default: fast."
    ),
]
SeedsOption = Annotated[int, typer.Option("--seeds", help="Runs per task; the first has the official seed.")]
ReorderOption = Annotated[
    bool,
    typer.Option(
        "--reorder",
        help="Of --seeds, every run but the first reads the rows in another random order: adds its noise, larger "
        "than the start's, to the intervals.",
    ),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="Of the official probe: fp32 (default), or bf16, faster where there are units. The fast probe has bf16 where "
        "there are units, else fp32.",
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Score again what is known.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print no table and no progress.")]


def tasks_named(names: list[str] | None) -> list[Task] | None:
    """The tasks named, as they or as our tables call them ("price"), each once; None for the challenge's six."""
    from kit.errors import KitError, nearest
    from kit.tasks import TASKS

    tasks = [task for _, task in TASKS.loaded().items()]
    known = {task.short: task for task in tasks} | {task.name: task for task in tasks}
    for name in names or ():
        if name not in known:
            raise KitError(f"There is no task {name!r};", nearest(name, (task.name for task in tasks)))
    return list(dict.fromkeys(known[name] for name in names or ())) or None


def precision_named(name: str | None, default: Precision) -> Precision:
    """The precision named, or the default; KitError if there is no such."""
    from kit.errors import KitError

    if name not in (None, "fp32", "bf16"):
        raise KitError(f"There is no precision {name!r}.", "Choose fp32 or bf16.")
    return default if name is None else "bf16" if name == "bf16" else "fp32"
