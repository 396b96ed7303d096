"""The report's figures: what is drawn, from the gathered numbers; how, is `kit.report.svg`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from markupsafe import Markup

from kit.report import svg
from kit.report.attributions import Waterfall
from kit.report.scores import Against, ProbeScores
from kit.report.words import breakable, number, percent, short, signed
from kit.studies.ablation.result import Ablation, LeftOut
from kit.studies.clients import ClientMap, Panel
from kit.studies.health import Health

TONE: Final = {"better": "good", "worse": "bad", "cannot tell": "unsure", "helps": "good", "hurts": "bad"}
NORM_BINS: Final = 36
NOTHING: Final = 1e-6
"""Log-odds that are the rounding of sums."""


@dataclass(frozen=True)
class Strip:
    """A row of a figure: label, drawing, what stands right of it, and its tone (good, bad, unsure or nothing)."""

    label: str
    drawing: Markup
    text: str
    detail: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Strips:
    """Rows on one axis."""

    rows: list[Strip]
    axis: Markup


def way(probe: ProbeScores, others: bool = True) -> Strips:
    """Per task the AUROC of the submission, the ones it is compared with, the board and the ceiling."""
    rival = probe.against[0] if probe.against and others else None
    rows = [row for row in probe.rows if row.auroc is not None]
    values = [row.auroc for row in rows if row.auroc is not None] + [
        row.ceiling_auroc for row in rows if row.ceiling_auroc
    ]
    values += list(rival.aurocs.values()) if rival else []
    domain = svg.Domain.around(values)
    strips = []
    for row in rows:
        own = row.auroc or 0.0
        marks = []
        base = rival.aurocs.get(row.task) if rival else None
        if row.ceiling_auroc is not None:
            marks.append(svg.line(domain, domain.low, row.ceiling_auroc, "reach"))
        if base is not None and rival is not None:
            marks += [svg.line(domain, base, own, "step"), svg.dot(domain, base, "base", f"{rival.name}: {base:.4f}")]
        if row.ceiling_auroc is not None:
            marks.append(svg.upright(domain, row.ceiling_auroc, "ceiling", f"ceiling: {row.ceiling_auroc:.4f}"))
        marks.append(svg.dot(domain, own, "own", f"AUROC {own:.4f}", 6))
        gap = rival.gap.get(row.task) if rival else None
        detail = f"{percent(gap)} of the gap" if gap is not None else ""
        strips.append(
            Strip(short(row.task), svg.strip(f"{short(row.task)}: AUROC {own:.4f}", marks), number(own), detail)
        )
    return Strips(strips, svg.axis(domain))


def forest(against: Against) -> Strips:
    """Differences of the scores with their intervals, around 0."""
    gains = against.gains
    domain = svg.Domain.around([end for gain in gains.values() for end in (gain.low, gain.high)], include=(0.0,))
    strips = [
        _interval(domain, short(task), gain.difference, gain.low, gain.high, TONE[gain.verdict], gain.verdict)
        for task, gain in gains.items()
    ]
    return Strips(strips, svg.axis(domain))


def left_out(ablation: Ablation, row: LeftOut) -> Strips:
    """What one block adds per task; all blocks share one scale."""
    ends = [end for other in ablation.rows for entry in other.without.values() for end in (entry.low, entry.high)]
    domain = svg.Domain.around(ends, include=(0.0,))
    strips = [
        _interval(
            domain,
            short(task),
            entry.difference,
            entry.low,
            entry.high,
            TONE.get(entry.verdict, "unsure"),
            entry.verdict,
        )
        for task, entry in row.without.items()
    ]
    return Strips(strips, svg.axis(domain, most=3))


def _interval(domain: svg.Domain, label: str, value: float, low: float, high: float, tone: str, verdict: str) -> Strip:
    marks = [
        svg.upright(domain, 0.0, "zero"),
        svg.line(domain, low, high, f"interval {tone}"),
        svg.dot(domain, value, tone, f"{signed(value)} [{signed(low)}, {signed(high)}]"),
    ]
    spoken = f"{label}: {value:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}"
    return Strip(label, svg.strip(spoken, marks), signed(value), verdict, tone)


def sparks(record: dict[str, Any]) -> list[Strip]:
    """A row per loss term of a training record, and one for its validation."""
    terms: dict[str, list[float]] = {}
    for epoch in record.get("losses", []):
        for name, value in epoch.items():
            terms.setdefault(name, []).append(float(value))
    if record.get("validation"):
        terms["validation"] = [float(value) for value in record["validation"]]
    rows = []
    for name, values in terms.items():
        change = f"{values[0]:.3g} → {values[-1]:.3g}"
        rows.append(Strip(name.replace("_", " "), svg.spark(values, f"{name} by epoch: {change}"), change))
    return rows


def map_panel(clients: ClientMap, panel: Panel) -> tuple[Markup, list[tuple[str, str, int]]]:
    """The map of one task, and its legend: (css class, name, clients)."""
    legend, groups = [], []
    colour = 0
    for name, mask in panel.groups.items():
        background = name in (panel.muted, "never bought before", "did not buy")
        if not background:
            colour += 1
        css = (
            ("faint" if name == "never bought before" else "rest")
            if background
            else f"{'s' if panel.ordered else 'c'}{colour}"
        )
        points = [(float(x), float(y)) for x, y in clients.points[mask]]
        groups.append((css, points))
        legend.append((css, name, len(points)))
    return svg.scatter(groups, f"Map of clients coloured by {short(panel.task.name)}"), legend


def norms(health: Health) -> Markup:
    """Histogram of row norms; one bar if all are equal."""
    low, high = float(health.norms.min()), float(health.norms.max())
    if high - low < 1e-3 * max(high, 1e-9):  # rounding to float16 alone
        low, high = low * 0.9, max(high * 1.1, low * 0.9 + 1e-3)
    domain = svg.Domain.around((low, high), 0.02)
    counts, _ = np.histogram(health.norms, bins=NORM_BINS, range=(domain.low, domain.high))
    return svg.histogram(counts.tolist(), domain, "Histogram of row norms")


def spectrum(health: Health) -> Markup:
    """Cumulative share of the variance over the first components."""
    return svg.curve(health.spectrum, "Share of the variance in the first components", (0.5, 0.9))


def shares(values: dict[str, float], digits: int = 0) -> list[Strip]:
    """Bars of shares, longest first; lengths relative to the longest."""
    top = max([*values.values(), 1e-12])
    ranked = sorted(values.items(), key=lambda pair: -pair[1])
    return [Strip(name, svg.bar(value / top), percent(value, digits)) for name, value in ranked]


def pushed(values: Sequence[tuple[str, float]]) -> list[Strip]:
    """Bars of mean contributions, longest first; lengths relative to the longest."""
    top = max([value for _, value in values] + [1e-12])
    ranked = sorted(values, key=lambda pair: -pair[1])
    return [Strip(breakable(name), svg.bar(value / top), number(value, 3)) for name, value in ranked]


def waterfall(fall: Waterfall) -> Strips:
    """From the base to the margin: each step begins where the one above it ended."""
    steps = [*fall.steps, ("all others", fall.rest)] if abs(fall.rest) > NOTHING else [*fall.steps]
    ends = np.cumsum([fall.base, *(value for _, value in steps)]).tolist()
    domain = svg.Domain.around([*ends, fall.margin])
    rows = [_point(domain, "base", fall.base, "base")]
    for (name, value), before, after in zip(steps, ends[:-1], ends[1:], strict=True):
        tip = f"{name}: {signed(value, 3)}"
        mark = svg.line(domain, before, after, "push up" if value > 0 else "push down", tip)
        drawing = svg.strip(f"{name}: {value:+.3f}, from {before:.3f} to {after:.3f}", [mark])
        rows.append(Strip(breakable(name), drawing, signed(value, 2)))
    return Strips([*rows, _point(domain, "margin", fall.margin, "own")], svg.axis(domain, most=3))


def _point(domain: svg.Domain, name: str, value: float, css: str) -> Strip:
    return Strip(
        name, svg.strip(f"{name}: {value:.3f}", [svg.dot(domain, value, css, number(value, 3))]), number(value, 2)
    )


def seconds(blocks: list[dict[str, Any]]) -> list[Strip]:
    """Time per block, longest first."""
    top = max([float(block["seconds"]) for block in blocks] + [1e-9])
    ranked = sorted(blocks, key=lambda block: -float(block["seconds"]))
    return [
        Strip(block["name"], svg.bar(float(block["seconds"]) / top), _time(float(block["seconds"]))) for block in ranked
    ]


def _time(value: float) -> str:
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def moved(drift: dict[str, Any]) -> Strips:
    """Per block the AUROC of the classifier that tells the cuts apart."""
    domain = svg.Domain(0.47, 1.02)
    strips = []
    for row in drift["blocks"]:
        marks = [
            svg.upright(domain, 0.5, "zero"),
            svg.line(domain, 0.5, row["auroc"], "step"),
            svg.dot(domain, row["auroc"], "own", f"AUROC {row['auroc']:.3f}"),
        ]
        detail = f"{row['moved']:,} of {row['columns']:,} columns moved"
        strips.append(
            Strip(row["block"], svg.strip(f"{row['block']}: {row['auroc']:.3f}", marks), f"{row['auroc']:.3f}", detail)
        )
    return Strips(strips, svg.axis(domain))
