"""`kit report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kit.cli.common import JsonOption, ThreadsOption, as_text, print_json, use_threads


def report(
    submission: Annotated[Path, typer.Argument(help="A folder made by `kit submit`, scored or not.")],
    data: Annotated[Path | None, typer.Option("--data", help="Its data folder; the manifest's by default.")] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            "--against", help="A submission to compare with; repeat for several. Default: the baseline beside it."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Another file than SUBMISSION/report.html.")] = None,
    style: Annotated[str, typer.Option("--format", help="html, or markdown for a pull request.")] = "html",
    drift: Annotated[
        bool, typer.Option("--drift", help="Also measure drift between cuts: refits every block at an earlier cut.")
    ] = False,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Also score once per block with it silenced, by the fast probe.")
    ] = False,
    method: Annotated[str, typer.Option("--map", help="Axes of the map of clients: pca, or umap (an extra).")] = "pca",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write what a team lead would read: a verdict in plain words, scores, gains, blocks, cohorts, maps, health, drift, cost.

    One HTML file without script or network, light and dark. Markdown and JSON go to stdout unless --out is given. A section whose
    input is missing says which command makes it.

    Example: kit report submissions/stats --against submissions/small-baseline

    Example: kit report submissions/stats --ablate --drift

    Example: kit report submissions/stats --format markdown >> pull-request.md
    """
    use_threads(threads)
    from kit.errors import KitError, nearest
    from kit.plugins import use_plugins_of
    from kit.report import collect, render, render_markdown
    from kit.store import Store, write_atomically

    if style not in ("html", "markdown"):
        raise KitError(f"There is no format {style!r};", nearest(style, ["html", "markdown"]))
    if method not in ("pca", "umap"):
        raise KitError(f"There is no map {method!r};", nearest(method, ["pca", "umap"]))
    if as_json and style == "markdown":
        raise KitError("--json and --format markdown are two formats.", "Give one of them.")
    axes: Literal["pca", "umap"] = "umap" if method == "umap" else "pca"
    for folder in (submission, *(against or ())):
        use_plugins_of(folder)
    with Store().in_use(f"The report on {submission}"):
        found = collect(submission, data, against or (), drift=drift, ablate=ablate, threads=threads, method=axes)
    if as_json and out is None:
        print_json(found.as_json())
        return
    text = as_text(found.as_json()) if as_json else render(found) if style == "html" else render_markdown(found)
    if style == "markdown" and out is None:
        typer.echo(text, nl=False)
        return
    path = out or submission / "report.html"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    typer.echo(found.verdict.headline)
    for section, command in found.missing.items():
        typer.echo(f"  {section}: not here yet; {command}", err=True)
    typer.echo(str(path))
