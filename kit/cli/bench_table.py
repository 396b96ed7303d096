"""What `kit bench` prints: a table per probe and measure, a row per recipe, means over shops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kit.studies.bench.result import Bench, Mean, Measure

HEADS = {"score": "score", "auroc": "AUROC", "novelty": "novelty", "diversity": "diversity"}
HALVES = {"score": "half_width", "auroc": "auroc_half_width"}
"""Measures whose interval over the clients of a shop is known."""
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
    if len(reported) == 1:
        found.append(f"one shop ({reported[0]}): nobody knows how much shops differ; ± is over its clients.")
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
        table.add_row(row, *(_value(bench, mean) for mean in means))
        if any(mean is not None and mean.gain is not None for mean in means):
            table.add_row("", *(_gain(bench, mean) for mean in means))
    return table


def _value(bench: Bench, mean: Mean | None) -> str:
    """`0.8123 ± .0034`: over shops, or over the clients of the only one."""
    if mean is None:
        return "–"
    half = None if mean.high is None else mean.high - mean.mean
    if mean.shops == 1 and mean.measure in HALVES:
        key, half_of = (mean.row, mean.probe, mean.task), HALVES[mean.measure]
        half = next((getattr(c, half_of) for c in _reported(bench) if (c.row, c.probe, c.task) == key), None)
    return f"{mean.mean:.4f}" + ("" if half is None else f" ± {half:.4f}")


def _gain(bench: Bench, mean: Mean | None) -> str:
    """`+0.0123 ± 0.0034`, coloured where it is told from noise."""
    if mean is None or mean.gain is None:
        return ""
    low, high = mean.gain_low, mean.gain_high
    if mean.shops == 1 and mean.measure in HALVES:
        key = (mean.row, mean.probe, mean.task, mean.measure)
        shown = {shop.name for shop in bench.shops if not shop.chosen}
        one = next((g for g in bench.gains if g.shop in shown and (g.row, g.probe, g.task, g.measure) == key), None)
        low, high = (one.low, one.high) if one else (low, high)
    if low is None or high is None:
        return f"{mean.gain:+.4f}"
    text = f"{mean.gain:+.4f} ± {(high - low) / 2:.4f}"
    told = low > 0 or high < 0
    return f"[{COLOURS[mean.gain > 0]}]{text}[/{COLOURS[mean.gain > 0]}]" if told else text


def _reported(bench: Bench) -> list[Any]:
    shown = {shop.name for shop in bench.shops if not shop.chosen}
    return [cell for cell in bench.cells if cell.shop in shown]
