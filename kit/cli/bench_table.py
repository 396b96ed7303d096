"""What `kit bench` prints: a table per probe and measure, a row per recipe, means over shops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kit.studies.bench.result import Bench, Measure, OverShops

HEADS = {"score": "score", "auroc": "AUROC", "novelty": "novelty", "diversity": "diversity"}
FEW = 3
"""Fewer shops say next to nothing of how much shops differ: Student's t of two is 12.7 standard errors wide."""
COLOURS = {True: "green", False: "red"}


def show(bench: Bench, measures: list[Measure]) -> None:
    """Tables on stdout, and what is to be said of them."""
    from kit.cli.console import Console

    console = Console(piped=220)  # a pipe has no width of its own
    for probe in bench.probes:
        for measure in measures:
            if any(mean.probe == probe and mean.measure == measure for mean in bench.means):
                console.print(_table(bench, probe, measure))
    for note in notes(bench):
        console.print(f"[yellow]note:[/yellow] {note}", highlight=False)


def notes(bench: Bench) -> list[str]:
    """What a reader should know."""
    reported = [shop.name for shop in bench.shops if not shop.chosen]
    chosen = [shop.name for shop in bench.shops if shop.chosen]
    found = []
    if not reported:
        found.append("settings were chosen on every shop: there is nothing to report.")
    if 0 < len(reported) < FEW:
        found.append(
            f"± is over the clients of {' and '.join(reported)}: how much shops differ is not known from so few."
        )
    if chosen:
        found.append(f"left out of the means, since settings were chosen on them: {', '.join(chosen)}.")
    counts = {
        (mean.row, mean.probe): mean.shops for mean in bench.means if mean.task == "sum" and mean.measure == "auroc"
    }
    if fewer := [f"{row} ({probe}) {n}" for (row, probe), n in counts.items() if n < len(reported)]:
        found.append(f"not on all {len(reported)} shops, so that means are of different ones: {', '.join(fewer)}.")
    silent = sorted({f"{cell.row} ({cell.probe})" for cell in bench.cells if cell.task == "sum" and cell.undefined})
    if silent:
        found.append(f"no forecasts of their own: {', '.join(silent)}.")
    undefined = sorted({f"{c.task} on {c.shop}" for c in bench.cells if c.task != "sum" and c.undefined})
    if undefined:
        found.append(f"not defined: {', '.join(undefined)}.")
    return [*found, *(f"{failure.row} on {failure.shop} failed: {failure.what}" for failure in bench.failures)]


def _table(bench: Bench, probe: str, measure: Measure) -> Any:  # noqa: ANN401
    """A rich table: mean ± half of the interval over shops, and the gain over the reference."""
    from rich import box
    from rich.table import Table

    reported = [shop.name for shop in bench.shops if not shop.chosen]
    against = f", difference to {bench.against} below" if bench.against else ""
    last = "sum" if measure == "score" else "mean"
    title = (
        f"{probe} probe: {HEADS[measure]}, mean over {len(reported)} shop{'s' if len(reported) != 1 else ''}{against}"
    )
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("recipe", no_wrap=True)
    for task in bench.tasks:
        table.add_column(task.removeprefix("propensity_"), justify="right", no_wrap=True)
    table.add_column(last, justify="right", no_wrap=True)
    columns = [*bench.tasks, "sum"]
    for row in bench.rows:
        means = [bench.mean(row, probe, task, measure) for task in columns]
        if not any(means):
            continue
        table.add_row(row, *(_value(mean) for mean in means))
        if any(mean is not None and mean.gain is not None for mean in means):
            table.add_row("", *(_gain(mean) for mean in means))
    return table


def _value(mean: OverShops | None) -> str:
    """`0.8123 ± 0.0034`: over shops, or, of few, over their clients."""
    if mean is None:
        return "–"
    half = mean.clients if mean.shops < FEW or mean.high is None else mean.high - mean.mean
    return f"{mean.mean:.4f}" + ("" if half is None else f" ± {half:.4f}")


def _gain(mean: OverShops | None) -> str:
    """`+0.0123 ± 0.0034`, coloured where it is told from noise."""
    if mean is None or mean.gain is None:
        return ""
    half = mean.gain_clients if mean.shops < FEW or mean.gain_high is None else mean.gain_high - mean.gain
    if half is None:
        return f"{mean.gain:+.4f}"
    text = f"{mean.gain:+.4f} ± {half:.4f}"
    colour = COLOURS[mean.gain > 0]
    return f"[{colour}]{text}[/{colour}]" if abs(mean.gain) > half else text
