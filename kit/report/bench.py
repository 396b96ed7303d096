"""The figure of `kit bench`: a panel per task, a line per recipe, a mark per probe; one SVG file that stands by itself."""

from __future__ import annotations

from typing import Final

from markupsafe import escape

from kit.report.svg import Domain, decimals
from kit.report.words import number, short
from kit.studies.bench.result import SUM, Bench, Cell, Measure, OverShops

COLOURS: Final = {"none": "#7a4fb5", "gbm": "#2a7d4f", "fast": "#c8811a", "official": "#1f5fa8"}
OTHERS: Final = ("#a83232", "#4a4a4a", "#008b8b")
LINE, HEAD, FOOT = 22, 46, 30
PANEL, NAMES, GAP, EDGE = 210, 130, 22, 12
ACROSS: Final = 4
"""Panels side by side."""


def figure(bench: Bench) -> str:
    """An SVG drawing: AUROC per task and the sum of scores. Dots are means over shops with their 95 % intervals, which may reach
    beyond the panel; faint ones are the shops; dashed is the mean ceiling."""
    rows = [row for row in bench.rows if any(mean.row == row for mean in bench.means)]
    panels = [*bench.tasks, SUM]
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    height = HEAD + LINE * max(len(rows), 1) + FOOT
    width = 2 * EDGE + NAMES + across * (PANEL + GAP)
    body = [_legend(bench)]
    for k, task in enumerate(panels):
        x, y = EDGE + NAMES + (k % across) * (PANEL + GAP), 24 + (k // across) * height
        body.append(_panel(bench, task, rows, x, y, names=k % across == 0))
    style = "text{font:12px sans-serif;fill:#222}.s{fill:#666;font-size:10px}.g{stroke:#ddd}.c{stroke:#222;stroke-dasharray:4 3}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {24 + down * height}" role="img">'
        f"<style>{style}</style>"
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(body)}</svg>\n'
    )


def _legend(bench: Bench) -> str:
    """Which colour is which probe."""
    parts, x = [], EDGE + NAMES
    for probe in bench.probes:
        parts.append(f'<circle cx="{x}" cy="14" r="4" fill="{_colour(bench, probe)}"/>')
        parts.append(f'<text x="{x + 9}" y="18">{escape(probe)}</text>')
        x += 30 + 8 * len(probe)
    return "".join(parts)


def _colour(bench: Bench, probe: str) -> str:
    others = [name for name in bench.probes if name not in COLOURS]
    return COLOURS.get(probe) or OTHERS[others.index(probe) % len(OTHERS)]


def _panel(bench: Bench, task: str, rows: list[str], x: int, y: int, *, names: bool) -> str:
    """One task: AUROC, or the sum of the scores."""
    measure: Measure = "score" if task == SUM else "auroc"
    means = [mean for mean in bench.means if mean.task == task and mean.measure == measure]
    reported = {shop.name for shop in bench.shops if not shop.chosen}
    cells = [cell for cell in bench.cells if cell.task == task and cell.shop in reported]
    values = [value for cell in cells if (value := getattr(cell, measure)) is not None]
    ceiling = _ceiling(bench, task)
    domain = Domain.around(values, include=[] if ceiling is None else [ceiling])
    top, bottom = y + HEAD - 10, y + HEAD + LINE * len(rows)
    title = "sum of scores" if task == SUM else f"{short(task)}, AUROC"
    parts = [f'<text x="{x}" y="{y + 20}" font-weight="bold">{escape(title)}</text>']
    ticks = domain.ticks(4)
    for value in ticks:
        at = _at(domain, value, x)
        parts.append(f'<line class="g" x1="{at}" x2="{at}" y1="{top}" y2="{bottom}"/>')
        parts.append(
            f'<text class="s" x="{at}" y="{bottom + 13}" text-anchor="middle">{number(value, decimals(ticks))}</text>'
        )
    if ceiling is not None:
        at = _at(domain, ceiling, x)
        parts.append(
            f'<line class="c" x1="{at}" x2="{at}" y1="{top}" y2="{bottom}"><title>ceiling {ceiling:.4f}</title></line>'
        )
    for k, row in enumerate(rows):
        middle = y + HEAD + LINE * k + LINE // 2
        if names:
            parts.append(f'<text x="{x - 12}" y="{middle + 4}" text-anchor="end">{escape(row)}</text>')
        parts += [_shop(bench, cell, measure, domain, x, middle) for cell in cells if cell.row == row]
        parts += [_mark(bench, mean, domain, x, middle) for mean in means if mean.row == row]
    return "".join(parts)


def _level(bench: Bench, probe: str, middle: int) -> float:
    """Marks of several probes lie a little above one another."""
    return middle + 3 * (bench.probes.index(probe) - (len(bench.probes) - 1) / 2)


def _shop(bench: Bench, cell: Cell, measure: Measure, domain: Domain, x: int, middle: int) -> str:
    """A faint dot; the shop's name shows on hover."""
    value = getattr(cell, measure)
    if value is None:
        return ""
    y, colour = _level(bench, cell.probe, middle), _colour(bench, cell.probe)
    tip = escape(f"{cell.row}, {cell.probe}, {cell.shop}: {value:.4f}")
    return f'<circle cx="{_at(domain, value, x)}" cy="{y}" r="2" fill="{colour}" opacity=".35"><title>{tip}</title></circle>'


def _mark(bench: Bench, mean: OverShops, domain: Domain, x: int, middle: int) -> str:
    """A dot with its interval; the numbers show on hover."""
    y, colour = _level(bench, mean.probe, middle), _colour(bench, mean.probe)
    whiskers, text = "", f"{mean.row}, {mean.probe}: {mean.mean:.4f}"
    if mean.low is not None and mean.high is not None:
        low, high = _at(domain, mean.low, x), _at(domain, mean.high, x)
        whiskers = f'<line x1="{low}" x2="{high}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="1.5"/>'
        text += f" ({mean.low:.4f} … {mean.high:.4f}, {mean.shops} shops)"
    at = _at(domain, mean.mean, x)
    return f'{whiskers}<circle cx="{at}" cy="{y}" r="3.5" fill="{colour}"><title>{escape(text)}</title></circle>'


def _at(domain: Domain, value: float, x: int) -> float:
    return round(x + domain.percent(value) / 100 * PANEL, 1)


def _ceiling(bench: Bench, task: str) -> float | None:
    """Mean AUROC of the ceilings of the shops that are reported; None where one has none, and for the sum: sharpness costs
    novelty, so a ceiling's score bounds nothing."""
    found = [shop.ceiling.get(task, {}).get("auroc") for shop in bench.shops if not shop.chosen]
    known = [float(value) for value in found if value is not None]
    return sum(known) / len(known) if known and len(known) == len(found) else None
