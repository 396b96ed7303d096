"""`kit techniques`: what there is of every technique, and what it is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli.common import JsonOption, ThreadsOption, print_json, use_threads

DataOption = Annotated[
    list[Path] | None,
    typer.Option("--data", help="Measure the techniques named on this split folder; repeat for several."),
]
ProbeOption = Annotated[
    list[str] | None, typer.Option("--probe", help="none, gbm, fast or official; repeat. Default: none, gbm, fast.")
]
WriteOption = Annotated[Path | None, typer.Option("--write", help="Write the table to this Markdown file.")]
ResultsOption = Annotated[Path, typer.Option("--results", help="JSON file of measurements, added to.")]
BaseOption = Annotated[
    Path | None,
    typer.Option("--recipe", help="Recipe that has the part's kind of block: measured with and without it."),
]
WorkOption = Annotated[
    Path | None, typer.Option("--work", help="Where submissions and scores are kept; by default in the store.")
]


def techniques(
    ids: Annotated[list[str] | None, typer.Argument(help="Such as B5 D4; all by default.")] = None,
    data: DataOption = None,
    probe: ProbeOption = None,
    base: BaseOption = None,
    write: WriteOption = None,
    results: ResultsOption = Path("docs/measured/techniques.json"),
    work: WorkOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List techniques: source, recipe key, tests of what must hold (U), planted worlds (S), measured difference (R), status.

    With --data the techniques named are measured: the same recipe with and without the part, by forecasts without a probe,
    LightGBM and the fast probe, differences paired over clients.

    Example: kit techniques D4 B6
    """
    use_threads(threads)
    from kit.errors import KitError
    from kit.store import write_atomically
    from kit.techniques.catalogue import rows_named
    from kit.techniques.table import markdown, row_of

    wanted = rows_named(list(ids or ()))
    if data:
        from kit.techniques.measure import measure

        if not ids:
            raise KitError("--data measures the techniques that are named.", "Name some: kit techniques D4 --data DIR.")
        measure(wanted, data, probe or ["none", "gbm", "fast"], results, base, work)
    rows = [row_of(technique, measured=results) for technique in wanted]
    if write is not None:
        text = markdown(rows)
        write_atomically(write, lambda path: path.write_text(text, encoding="utf-8"))
    if as_json:
        print_json([row.model_dump(mode="json") for row in rows])
        return
    if write is not None:
        typer.echo(f"{write}: {len(rows)} techniques")
        return
    from rich.table import Table

    from kit.cli.console import Console
    from kit.techniques.table import shown_measurement

    table = Table("id", "technique", "status", "recipe key", "U", "S", "R", show_lines=len(rows) < 12)
    for row in rows:
        about = row.key or ", ".join(row.homes)
        exact = str(len(row.exact)) if row.exact else "–"
        table.add_row(
            row.id, row.name, row.status, about, exact, str(len(row.signal) or "–"), shown_measurement(row.measured)
        )
    Console(least=100).print(table)
    for row in rows if len(rows) < 12 else ():
        typer.echo("\n".join(filter(None, [f"{row.id}: {row.source}", row.note, *row.exact, *row.signal])))
