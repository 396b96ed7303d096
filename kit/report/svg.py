"""Drawings as inline SVG: a few marks on a plane. Colours are CSS variables, so one drawing reads in light and in dark.

Strips are as wide as their place, with text beside them in HTML; planes keep their proportions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from kit.report.words import number, percent

STRIP_HEIGHT: Final = 28


@dataclass(frozen=True)
class Domain:
    """A range of values, mapped to 0 … 100 %."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float], margin: float = 0.06, include: Sequence[float] = ()) -> Domain:
        """The finite values and `include`, with a margin on either side."""
        finite = [value for value in [*values, *include] if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        pad = max((high - low) * margin, 1e-6)
        return cls(low - pad, high + pad)

    def percent(self, value: float) -> float:
        """Position of a value, clamped to the range."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values inside the range, at most `most`."""
        raw = (self.high - self.low) / max(most, 1)
        size = 10.0 ** math.floor(math.log10(raw))
        step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw)
        first = math.ceil(self.low / step)
        found = [round(k * step, 10) for k in range(first, first + most + 1)]
        return [value for value in found if value <= self.high]


def line(domain: Domain, low: float, high: float, css: str, tip: str = "") -> str:
    """A horizontal line between two values, halfway up a strip."""
    ends = f'x1="{domain.percent(low)}%" x2="{domain.percent(high)}%"'
    return f'<line class="{css}" {ends} y1="50%" y2="50%">{title(tip)}</line>'


def upright(domain: Domain, value: float, css: str, tip: str = "") -> str:
    """A vertical line over the height of a strip."""
    at = domain.percent(value)
    return f'<line class="{css}" x1="{at}%" x2="{at}%" y1="15%" y2="85%">{title(tip)}</line>'


def dot(domain: Domain, value: float, css: str, tip: str = "", radius: float = 5) -> str:
    """A dot halfway up a strip; `tip` shows on hover."""
    return f'<circle class="{css}" cx="{domain.percent(value)}%" cy="50%" r="{radius}">{title(tip)}</circle>'


def title(tip: str) -> str:
    """Hover text."""
    return f"<title>{escape(tip)}</title>" if tip else ""


def strip(label: str, marks: Iterable[str], height: int = STRIP_HEIGHT) -> Markup:
    """A full-width strip of marks; `label` is what a screen reader says."""
    body = "".join(marks)
    return Markup(
        f'<svg class="strip" width="100%" height="{height}" role="img" aria-label="{escape(label)}">{body}</svg>'
    )


def axis(domain: Domain, most: int = 5) -> Markup:
    """Tick labels under strips of the same domain."""
    marks = []
    values = domain.ticks(most)
    if len(values) < 2:  # one number is no scale
        values = domain.ticks(2 * most)
    digits = decimals(values)
    for value in values:
        at = domain.percent(value)
        marks.append(f'<line class="tick" x1="{at}%" x2="{at}%" y1="0" y2="5"/>')
        anchor = "start" if at <= 3 else "end" if at >= 97 else "middle"  # at the edge a label stays inside
        label = f'<text class="tick-label" x="{at}%" y="17" text-anchor="{anchor}">{number(value, digits)}</text>'
        marks.append(label)
    return Markup(f'<svg class="strip axis" width="100%" height="20" aria-hidden="true">{"".join(marks)}</svg>')


def bar(share: float, css: str = "bar", height: int = 10) -> Markup:
    """A horizontal bar of `share` of its place."""
    width = round(100 * min(1.0, max(0.0, share)), 2)
    return Markup(
        f'<svg class="strip" width="100%" height="{height}" aria-hidden="true">'
        '<rect class="track" width="100%" height="100%" rx="3"/>'
        f'<rect class="{css}" width="{width}%" height="100%" rx="3"/></svg>'
    )


def spark(values: Sequence[float], label: str) -> Markup:
    """A small line over the index, as wide as its place; a dot for a single value."""
    domain = Domain.around(values, 0.1)
    spots = [(100 * k / max(len(values) - 1, 1), 100 - domain.percent(value)) for k, value in enumerate(values)]
    if len(spots) == 1:
        return strip(label, ['<circle class="own" cx="50%" cy="50%" r="3"/>'])
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    inner = f'<polyline class="curve" points="{path}"/>'
    return Markup(
        f'<svg class="strip spark" width="100%" height="{STRIP_HEIGHT}" viewBox="0 0 100 100" preserveAspectRatio="none" '
        f'role="img" aria-label="{escape(label)}">{inner}</svg>'
    )


def plane(width: int, height: int, label: str, body: str, css: str = "plane") -> Markup:
    """A drawing that keeps its proportions."""
    return Markup(
        f'<svg class="{css}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{body}</svg>'
    )


def scatter(groups: Sequence[tuple[str, Sequence[tuple[float, float]]]], label: str, size: int = 300) -> Markup:
    """Dots in the unit square; (css class, points) in drawing order. One path per group keeps the page small."""
    edge = 10
    body = []
    for css, points in groups:
        steps = "".join(
            f"M{edge + x * (size - 2 * edge):.0f} {size - edge - y * (size - 2 * edge):.0f}h0" for x, y in points
        )
        if steps:
            body.append(f'<path class="dots {css}" d="{steps}"/>')
    return plane(size, size, label, "".join(body), "plane map")


def histogram(counts: Sequence[int], domain: Domain, label: str) -> Markup:
    """Bars over a value axis, 340 × 150."""
    width, height, foot = 340, 150, 22
    top = max([*counts, 1])
    step = width / max(len(counts), 1)
    body = [
        f'<rect class="bar" x="{k * step + 0.5:.1f}" width="{max(step - 1, 0.5):.1f}" y="{(height - foot) * (1 - n / top):.1f}" '
        f'height="{(height - foot) * n / top:.1f}"><title>{n:,}</title></rect>'
        for k, n in enumerate(counts)
    ]
    return plane(width, height, label, "".join(body) + _foot(domain, width, height, foot))


def curve(values: Sequence[float], label: str, marks: Sequence[float] = ()) -> Markup:
    """Values in [0, 1] over their number, 1 … n, with horizontal guides at `marks`; 340 × 150."""
    width, height, foot, left = 340, 150, 22, 34
    inner_w, inner_h = width - left - 4, height - foot - 6
    across = max(len(values) - 1, 1)
    spots = " ".join(f"{left + inner_w * k / across:.1f},{6 + inner_h * (1 - v):.1f}" for k, v in enumerate(values))
    guides = "".join(
        f'<line class="guide" x1="{left}" x2="{width}" y1="{6 + inner_h * (1 - m):.1f}" y2="{6 + inner_h * (1 - m):.1f}"/>'
        f'<text class="tick-label" x="{left - 5}" y="{10 + inner_h * (1 - m):.1f}" text-anchor="end">{percent(m)}</text>'
        for m in marks
    )
    ends = (
        f'<text class="tick-label" x="{left}" y="{height - 4}">1</text>'
        f'<text class="tick-label" x="{width - 4}" y="{height - 4}" text-anchor="end">{len(values)}</text>'
    )
    return plane(width, height, label, f'{guides}<polyline class="curve" points="{spots}"/>{ends}')


def decimals(values: Sequence[float]) -> int:
    """Digits after the point that tell neighbouring ticks apart."""
    return next((n for n in range(7) if all(abs(value - round(value, n)) < 1e-9 for value in values)), 6)


def _foot(domain: Domain, width: int, height: int, foot: int) -> str:
    marks = [f'<line class="guide" x1="0" x2="{width}" y1="{height - foot}" y2="{height - foot}"/>']
    values = domain.ticks()
    for value in values:
        x = domain.percent(value) / 100 * width
        if 12 < x < width - 12:
            text = number(value, decimals(values))
            marks.append(f'<text class="tick-label" x="{x:.1f}" y="{height - 6}" text-anchor="middle">{text}</text>')
    return "".join(marks)
