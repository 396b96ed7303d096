"""`kit compare` and `kit board`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kit.cli.common import JsonOption, print_json

if TYPE_CHECKING:
    from kit.scoring.board import Row
    from kit.scoring.compared import Compared

ProbeOption = Annotated[str, typer.Option("--probe", help="Which probe's scores: official, fast or gbm.")]


def compare(
    first: Annotated[Path, typer.Argument(help="A submission that was scored.")],
    second: Annotated[Path, typer.Argument(help="Another one, scored on the same data with the same probe.")],
    probe: ProbeOption = "fast",
    as_json: JsonOption = False,
) -> None:
    """Say per task whether the first submission is better or worse than the second, or whether noise cannot be ruled out.

    Differences are paired over clients; with `kit score --seeds N --reorder` they include the noise of the probe's
    start and of the row order.

    Example: kit compare submissions/stats submissions/baseline
    """
    from kit.scoring.compared import compared
    from kit.scoring.remarks import notes_on
    from kit.scoring.results import moved_on, read_scores

    pairs = compared(first, second, probe)
    notes = notes_on({str(path): read_scores(path)[probe] for path in (first, second)})
    if (moved := moved_on(read_scores(first)[probe])) is not None:
        notes.append(moved)
    if as_json:
        tasks = {name: _compared(pair) for name, pair in pairs.items()}
        last = {"sum": tasks.pop("sum")} if "sum" in tasks else {}
        print_json({"first": str(first), "second": str(second), "probe": probe, "tasks": tasks, "notes": notes} | last)
        return
    typer.echo(f"{first} against {second}, {probe} probe, 95 % intervals paired over clients")
    for name, pair in pairs.items():
        row = pair.difference
        low, high = row.interval
        typer.echo(
            f"  {name:<20} {pair.first.score:.4f} − {pair.second.score:.4f} = {row.difference:+.4f} [{low:+.4f}, {high:+.4f}] "
            f"{row.verdict} (told from noise from {row.detectable:.4f})"
        )
    for note in notes:
        typer.echo(f"  note: {note}")
    if any(side.runs is None for pair in pairs.values() for side in (pair.first, pair.second)):
        typer.echo(
            "  One run of a score: the noise of the probe's start and of the row order is not in the intervals; "
            "`kit score --seeds 3 --reorder` adds it."
        )
    elif not all(read_scores(path)[probe].get("reordered") for path in (first, second)):
        typer.echo("  Runs in one row order: `kit score --reorder` adds the noise of the order.")


def _compared(pair: Compared) -> dict[str, Any]:
    """One row for --json."""
    row = pair.difference
    return {
        "first": pair.first.score,
        "second": pair.second.score,
        "difference": row.difference,
        "interval": list(row.interval),
        "detectable": row.detectable,
        "verdict": row.verdict,
    }


def board(
    root: Annotated[Path, typer.Option("--submissions", help="Folder that holds the submissions.")] = Path(
        "submissions"
    ),
    data: Annotated[Path | None, typer.Option("--data", help="Only submissions scored on this folder.")] = None,
    probe: ProbeOption = "fast",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Rank all scored submissions as the challenge does (Borda over the tasks), with the probability of each rank.

    Example: kit board --data data/small
    """
    from kit.errors import KitError
    from kit.scoring.board import as_json as rows_as_json
    from kit.scoring.board import as_markdown, comparable, rank, submissions_on
    from kit.scoring.remarks import notes_on
    from kit.scoring.results import read_scores

    if markdown and as_json:
        raise KitError("--markdown and --json were both given.", "Give one of them.")
    absent: dict[str, str] = {}
    found = submissions_on(root, data, probe, absent.__setitem__)
    groups = {place: [path for path in found if found[path] == place] for place in dict.fromkeys(found.values())}
    for place, folders in groups.items():
        groups[place], others = comparable(folders, probe)
        absent |= others
    for name, why in absent.items():
        typer.echo(f"left out: {name}: {why}", err=True)
    if not groups:
        rank([], probe)
    boards = {place: rank(folders, probe) for place, folders in groups.items()}
    for folders in groups.values():
        for note in notes_on({folder.name: read_scores(folder)[probe] for folder in folders}):
            typer.echo(f"note: {note}", err=True)
    if as_json:
        left = [{"name": name, "why": why} for name, why in absent.items()]
        print_json(
            [
                {"data": place, "probe": probe, "rows": rows_as_json(rows), "left_out": left}
                for place, rows in boards.items()
            ]
        )
    elif markdown:
        for place, rows in boards.items():
            typer.echo(f"\n{place}, {probe} probe\n\n{as_markdown(rows)}")
    else:
        for place, rows in boards.items():
            _print(place, rows, probe)


def _print(place: str, rows: list[Row], probe: str) -> None:
    from rich import box
    from rich.table import Table

    from kit.cli.console import Console

    table = Table(title=f"{place}: {probe} probe", title_justify="left", box=box.SIMPLE_HEAD)
    tasks = list(rows[0].scores)
    for head in (
        "rank",
        "submission",
        *(task.name.replace("propensity_", "") for task in tasks),
        "sum",
        "Borda",
        "P(1st)",
    ):
        table.add_column(head, justify="left" if head == "submission" else "right")
    for row in rows:
        scores = [f"{row.scores[task]:.4f}" for task in tasks]
        table.add_row(
            str(row.rank),
            row.name,
            *scores,
            f"{sum(row.scores.values()):.4f}",
            f"{row.borda:g}",
            f"{row.rank_chances[0]:.0%}",
        )
    for name, reference in _references(place, tasks):
        table.add_row(
            "",
            f"[dim]{name}[/dim]",
            *(f"[dim]{_plain(score)}[/dim]" for score in reference),
            _plain(sum(reference)),
            "",
            "",
        )
    console = Console(least=120)  # a cut number is worth nothing; a terminal may wrap
    console.print(table)


def _plain(score: float) -> str:
    """Four digits; a dash for what is not defined there."""
    return "–" if math.isnan(score) else f"{score:.4f}"


def _references(place: str, tasks: list[Any]) -> list[tuple[str, list[float]]]:
    """Rows to look up to: the ceiling of a synthetic shop, the published leaderboard for the real data."""
    from kit.data.layout import DataFolder
    from kit.scoring.board import PUBLISHED, REAL_CLIENTS
    from kit.scoring.results import read_ceiling
    from kit.tasks import CHALLENGE

    folder = DataFolder(Path(place))
    ceiling = read_ceiling(folder)
    if ceiling:
        return [("ceiling", [float(ceiling[task.name].get("score", "nan")) for task in tasks])]
    if folder.relevant_clients.exists() and len(folder.clients()) == REAL_CLIENTS:
        return [(name, [row[list(CHALLENGE).index(task)] for task in tasks]) for name, row in PUBLISHED.items()]
    return []
