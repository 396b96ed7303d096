"""`kit score --calibrate`: which cheap stand-in ranks profiles as the official probe does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kit.cli.common import print_json

if TYPE_CHECKING:
    from kit.data.layout import DataFolder
    from kit.studies.calibration.calibrate import Plan


def run_study(submissions: list[Path], folder: DataFolder, plan: Plan, *, as_json: bool, quiet: bool) -> None:
    """Run or resume a study and print its table; report.md and report.json are in the plan's folder."""
    from kit.studies.calibration.calibrate import calibrate

    content = calibrate(submissions, folder, plan)
    if as_json:
        print_json(content)
    elif not quiet:
        _print(content, plan.out)


def _print(content: dict[str, Any], out: Path) -> None:
    from rich import box
    from rich.table import Table

    from kit.cli.console import Console

    tasks = content["tasks"]
    count = len(content["profiles"])
    title = f"Kendall's τ against the official probe, {count} profile{'' if count == 1 else 's'} on {content['data']}"
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("stand-in", no_wrap=True)
    for task in tasks:
        table.add_column(task.removeprefix("propensity_"), justify="right")
    table.add_column("times cheaper", justify="right")
    for name, part in content["stand_ins"].items():
        found = [tasks[task]["stand_ins"].get(name, {}).get("tau") for task in tasks]
        table.add_row(name, *(_number(value) for value in found), _number(part["times_cheaper"], 0))
    table.add_section()
    table.add_row("limit (start, order)", *(_number(tasks[task]["seed_noise"]["limit"]) for task in tasks), "")
    console = Console(least=100)
    console.print(title, highlight=False)  # above a narrow table it would be broken into many lines
    console.print(table)
    for reason in content["undefined"].values():
        console.print(f"  {reason}", highlight=False)
    more = "" if content["complete"] else "; not complete, the same command goes on"
    typer.echo(f"{out / 'report.md'}{more}")


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
