"""`kit report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kit.cli.common import JsonOption, ThreadsOption, as_text, print_json, use_threads

if TYPE_CHECKING:
    from kit.data.layout import DataFolder
    from kit.report import Report
    from kit.submission.submission import Submission


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
    axes = _checked(style, method, as_json=as_json)
    from kit.plugins import use_plugins_of
    from kit.report import collect, data_folder_of
    from kit.store import Store
    from kit.submission.submission import Submission

    with Store().in_use(f"The report on {submission}"):
        opened = Submission.open(submission)
        for folder in against or ():
            use_plugins_of(folder)
        shop = data_folder_of(opened, data)
        if drift or ablate:
            _measure(opened, shop, drift=drift, ablate=ablate, threads=threads)
        found = collect(opened, shop, against or (), method=axes)
    _write(found, out, style, as_json=as_json)


def _checked(style: str, method: str, *, as_json: bool) -> Literal["pca", "umap"]:
    """The axes of the map; KitError for a format or a map that there is none of."""
    from kit.errors import KitError, nearest

    if style not in ("html", "markdown"):
        raise KitError(f"There is no format {style!r};", nearest(style, ["html", "markdown"]))
    if method not in ("pca", "umap"):
        raise KitError(f"There is no map {method!r};", nearest(method, ["pca", "umap"]))
    if as_json and style == "markdown":
        raise KitError("--json and --format markdown are two formats.", "Give one of them.")
    return "umap" if method == "umap" else "pca"


def _measure(
    submission: Submission, folder: DataFolder | None, *, drift: bool, ablate: bool, threads: int | None
) -> None:
    """The studies that were asked for, kept beside the vectors unless they are there for these very vectors."""
    from kit.errors import KitError
    from kit.probes.registry import Options
    from kit.studies.ablation.measure import measure_ablation
    from kit.studies.drift import write_drift

    if folder is None:
        raise KitError(f"{'Drift' if drift else 'Leaving blocks out'} needs the data folder.", "Give it with --data.")
    if ablate:  # first: it scores the submission too where that is missing
        measure_ablation(submission, folder, options=Options(threads=threads))
    if drift:
        write_drift(submission, folder)


def _write(found: Report, out: Path | None, style: str, *, as_json: bool) -> None:
    """JSON and Markdown to stdout without `out`; HTML into the submission's folder."""
    from kit.report import render, render_markdown
    from kit.store import write_atomically

    if as_json and out is None:
        print_json(found.as_json())
        return
    text = as_text(found.as_json()) if as_json else render(found) if style == "html" else render_markdown(found)
    if style == "markdown" and out is None:
        typer.echo(text, nl=False)
        return
    path = out or found.folder / "report.html"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    typer.echo(found.verdict.headline)
    for section, command in found.missing.items():
        typer.echo(f"  {section}: not here yet; {command}", err=True)
    typer.echo(str(path))
