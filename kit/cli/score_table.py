"""What `kit score` shows: JSON, or tables with the ceiling, a rival and what the probe read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.cli.common import print_json

if TYPE_CHECKING:
    from kit.data.layout import DataFolder
    from kit.scoring.results import ScoreReport


def show(
    reports: list[tuple[ScoreReport, ScoreReport | None]],
    folder: DataFolder,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """JSON, or tables, or nothing."""
    from kit.scoring.results import read_ceiling

    if as_json:
        ceiling = read_ceiling(folder)
        rows = [_as_json(own, other, ceiling) for own, other in reports]
        print_json(rows[0] if len(rows) == 1 else rows)
    elif not quiet:
        _print(reports, folder)


def _as_json(own: ScoreReport, other: ScoreReport | None, ceiling: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The command contract's object, with the ceiling and the other submission's scores where there are any."""
    extra: dict[str, Any] = {"ceiling": ceiling} if ceiling else {}
    if own.importance:
        extra["importance"] = own.importance
    return own.as_json() | extra | ({"against": other.as_json()} if other else {})


def _print(reports: list[tuple[ScoreReport, ScoreReport | None]], folder: DataFolder) -> None:
    from kit.cli.console import Console
    from kit.scoring.results import read_ceiling

    console = Console(piped=140)  # a pipe has no width of its own
    ceiling = read_ceiling(folder)
    for own, other in reports:
        console.print(_table(own, other, ceiling))
        for name, entry in own.tasks.items():
            if "undefined" in entry:
                console.print(f"  {name}: {entry['undefined']}", highlight=False)
        if own.importance:
            _print_importance(own, console)
    for note in dict.fromkeys(note for own, _ in reports for note in own.remarks):
        console.print(f"[yellow]note:[/yellow] {note}", highlight=False)


def _print_importance(own: ScoreReport, console: Any) -> None:  # noqa: ANN401
    """Per task the blocks' shares of the weight and the best columns; the rest is in explain-PROBE.json."""
    from kit.probes.registry import PROBES

    explaining = PROBES.loaded()[own.probe].explaining
    assert explaining is not None, "it was explained"
    read = f"{explaining.reader} read (share of the {explaining.weights})"
    console.print(f"what {read}:", highlight=False)
    for name, part in own.importance.items():
        blocks = ", ".join(f"{block} {entry['share']:.0%}" for block, entry in part["blocks"].items())
        best = ", ".join(f"{row['column']} {row['share']:.1%}" for row in part["features"][:5])
        console.print(f"  {name.removeprefix('propensity_')}: {blocks}; {best}", highlight=False)


def _table(own: ScoreReport, other: ScoreReport | None, ceiling: dict[str, dict[str, Any]]) -> Any:  # noqa: ANN401
    """A rich table: a row per task, columns only for what there is to show."""
    from rich import box
    from rich.table import Table

    from kit.scoring.results import total as results_total

    known = ", known already" if own.reused else ""
    title = f"{own.submission} on {own.data}: {own.probe} probe, {own.precision}{known}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    heads = ["score", "AUROC", "novelty", "diversity", "empty labels"]
    mean = len(heads)
    heads += [f"mean of {own.seeds}", "s.e."] if own.seeds > 1 else []
    heads += ["ceiling", "its AUROC"] if ceiling else []
    beside = len(heads)
    heads += [Path(other.submission).name] if other else []
    heads += ["gap closed (AUROC)"] if other and ceiling else []
    heads += ["seconds"]
    table.add_column("task", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for name, entry in own.tasks.items():
        table.add_row(name.removeprefix("propensity_"), *_cells(own, name, entry, other, ceiling))
    total = [""] * len(heads)
    total[0] = _sum(own)
    if own.seeds > 1:
        means = {name: {"score": entry["mean"]} for name, entry in own.tasks.items() if entry.get("mean") is not None}
        total[mean] = _number(results_total(means) if means else None)
    if other:
        total[beside] = _sum(other)
    table.add_section()
    table.add_row("sum", *total)
    return table


def _cells(
    own: ScoreReport,
    name: str,
    entry: dict[str, Any],
    other: ScoreReport | None,
    ceiling: dict[str, dict[str, Any]],
) -> list[str]:
    best = ceiling.get(name, {})
    base = other.tasks[name] if other else {}
    cells = [_number(entry[key]) for key in ("score", "auroc", "novelty", "diversity")]
    cells.append("" if entry["labels_without_positives"] is None else str(entry["labels_without_positives"]))
    cells += [_number(entry.get("mean")), _number(entry.get("standard_error"))] if own.seeds > 1 else []
    cells += [_number(best.get("score")), _number(best.get("auroc"))] if ceiling else []
    cells += [_number(base.get("score"))] if other else []
    if other and ceiling:  # in AUROC: sharp predictions cost novelty, so the ceiling's score is no upper bound
        cells.append(_share(entry["auroc"], base.get("auroc"), best.get("auroc")))
    cells.append("" if entry["seconds"] is None else f"{entry['seconds']:.1f}")
    return cells


def _sum(report: ScoreReport) -> str:
    """The sum of the challenge's tasks that are defined; nothing defined is not 0."""
    from kit.challenge import TaskName

    defined = [name for name, entry in report.tasks.items() if "undefined" not in entry]
    return _number(report.sum if set(defined) & set(TaskName) else None)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _share(score: float | None, base: float | None, best: float | None) -> str:
    """Share of the way from the other submission's score to the ceiling."""
    if score is None or base is None or best is None or best <= base:
        return "–"
    return f"{(score - base) / (best - base):.0%}"
