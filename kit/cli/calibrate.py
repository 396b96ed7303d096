"""`kit calibrate`: which cheap stand-in ranks profiles as the official probe does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kit.cli.common import DataOption, JsonOption, ThreadsOption, print_json, use_threads
from kit.cli.options import QuietOption, TaskOption, precision_named, tasks_named

TwiceOption = Annotated[
    int | None,
    typer.Option(
        "--twice",
        min=0,
        help="How many profiles the official probe scores again, to learn its own noise; 6 by default, 100 for all: few can "
        "mislead.",
    ),
]


def calibrate(
    submissions: Annotated[
        list[Path], typer.Argument(help="Submissions made on the same data; profiles are made from them.")
    ],
    data: DataOption,
    task: TaskOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the report.")] = None,
    stand_in: Annotated[
        list[str] | None, typer.Option("--stand-in", help="One candidate; repeat for several. Default: the usual ones.")
    ] = None,
    profiles: Annotated[int | None, typer.Option("--profiles", help="Only the first so many profiles.")] = None,
    twice: TwiceOption = None,
    minutes: Annotated[float | None, typer.Option("--minutes", help="Start nothing after this long.")] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="Of the official probe: bf16 (default), or fp32, slower.")
    ] = None,
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Rank many profiles, made from a few submissions, by the official probe and by cheap stand-ins: which one ranks as it does?

    The report is written to --out, by default .kit/calibration/DATA: report.md and report.json. It can be stopped at any time,
    and the same command goes on: every score is kept in the store, where `kit score` and searches find it as well.

    Example: kit calibrate submissions/baseline submissions/stats --data data/small --profiles 24
    """
    use_threads(threads)
    from kit.data.layout import DataFolder
    from kit.probes.registry import Options
    from kit.store import Store
    from kit.studies.calibration.calibrate import calibrate as run_study
    from kit.studies.calibration.calibrate import plan_study
    from kit.submission.submission import Submission

    folder, options = DataFolder(data), Options(precision=precision_named(precision, "bf16"), threads=threads)
    with Store().in_use(f"The calibration with {', '.join(map(str, submissions))}"):
        opened = [Submission.open(path) for path in submissions]
        plan = plan_study(folder, out, tasks_named(task), stand_in, profiles, minutes, twice, options)
        content = run_study(opened, folder, plan)
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
