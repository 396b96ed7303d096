"""Log-log drawings of a stage's costs over clients, on the report's plane and in its colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from markupsafe import Markup, escape

from kit.report.svg import Domain, plane, title

WIDTH: Final = 340
HEIGHT: Final = 190
LEFT: Final = 50
FOOT: Final = 24
TOP: Final = 10
RIGHT: Final = 14


@dataclass(frozen=True)
class Point:
    """A cost at a number of clients; `kind` says how it is known: a lower bound gets an arrow."""

    x: float
    y: float
    kind: Literal["measured", "extrapolated", "cut"]
    tip: str


def loglog(points: Sequence[Point], label: str, unit: str) -> Markup:
    """Points joined by a line, with a dashed line of slope 1 through the first, and a tick at every number of clients.

    Args:
        points: by ascending x; both coordinates above 0.
        label: what a screen reader says.
        unit: `s` or `GiB`: how the ticks of y are written.
    """
    if not points:
        return Markup('<p class="muted small">Nothing to draw.</p>')
    across = _decades([point.x for point in points])
    up = _decades([point.y for point in points])

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * across.percent(math.log10(value)) / 100

    def y(value: float) -> float:
        return HEIGHT - FOOT - (HEIGHT - FOOT - TOP) * up.percent(math.log10(value)) / 100

    body = [_rule(x(point.x), _clients(point.x)) for point in points]
    body += [_level(y(value), _amount(value, unit)) for value in _ticks(up)]
    first, last = points[0], points[-1]
    if last.x > first.x:
        body.append(_linear(first, up, last.x, x, y))
        path = " ".join(f"{x(point.x):.1f},{y(point.y):.1f}" for point in points)
        body.append(f'<polyline class="curve" points="{path}"/>')
    body += [_mark(x(point.x), y(point.y), point) for point in points]
    return plane(WIDTH, HEIGHT, label, "".join(body))


def _decades(values: Sequence[float]) -> Domain:
    """A logarithmic range with a margin, at least a decade wide."""
    low, high = math.log10(min(values)), math.log10(max(values))
    spare = max(0.0, 1.0 - (high - low)) / 2
    return Domain(low - spare - 0.12, high + spare + 0.12)


def _ticks(domain: Domain) -> list[float]:
    """Powers of ten in the range; 1, 2 and 5 of each where there is at most one."""
    powers = range(math.floor(domain.low), math.floor(domain.high) + 1)
    found = [
        factor * 10.0**k for k in powers for factor in (1, 2, 5) if domain.low <= math.log10(factor) + k <= domain.high
    ]
    round_ones = [value for value in found if math.log10(value).is_integer()]
    return round_ones if len(round_ones) > 1 else found


def _rule(x: float, text: str) -> str:
    foot = HEIGHT - FOOT
    return (
        f'<line class="guide" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{foot}"/>'
        f'<text class="tick-label" x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{text}</text>'
    )


def _level(y: float, text: str) -> str:
    return (
        f'<line class="guide" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick-label" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>'
    )


def _linear(first: Point, up: Domain, stop: float, x: object, y: object) -> str:
    """Slope 1 from the first point, up to the last size or the upper edge."""
    assert callable(x) and callable(y)
    top = first.x * 10.0 ** (up.high - math.log10(first.y))
    end = min(stop, top)
    return (
        f'<line class="zero" x1="{x(first.x):.1f}" y1="{y(first.y):.1f}" x2="{x(end):.1f}" '
        f'y2="{y(first.y * end / first.x):.1f}"/>'
    )


def _mark(x: float, y: float, point: Point) -> str:
    if point.kind == "cut":  # at least this much
        return (
            f'<path class="curve" d="M{x - 4:.1f} {y - 6:.1f}l4 -6l4 6M{x:.1f} {y:.1f}v-12">{title(point.tip)}</path>'
        )
    css = "own" if point.kind == "measured" else "base"
    return f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="4.5">{title(point.tip)}</circle>'


def _clients(value: float) -> str:
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g} {name}"
    return f"{value:g}"


def _amount(value: float, unit: str) -> str:
    return f"{value * 1000:g} ms" if unit == "s" and value < 1 else f"{value:,g} {unit}"
