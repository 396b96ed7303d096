"""Means over shops, and what a row gains over a reference, with intervals by Student's t over the shops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from scipy.stats import t as student

from kit.errors import KitError
from kit.studies.bench.result import MEASURES, Bench, Measure, OverShops


def interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean and 95 % interval of the mean over shops, by Student's t; no interval for a single one."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return mean, None, None
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


def reference(against: str | None, probe: str) -> tuple[str, str] | None:
    """Row and probe that scores by `probe` are compared with; None for no comparison."""
    if against is None:
        return None
    row, _, fixed = against.partition(":")
    return row, fixed or probe


HALVES: Final[Mapping[Measure, str]] = {"score": "half_width", "auroc": "auroc_half_width"}
"""Measures whose interval over the clients of a shop is known, and the field of a cell that holds half of it."""
Key = tuple[str, str, str, Measure]
"""Row, probe, task, measure."""


def over_shops(bench: Bench) -> list[OverShops]:
    """`means` of the cells, over shops that nothing was chosen on."""
    reported = {shop.name for shop in bench.shops if not shop.chosen}
    table: dict[Key, dict[str, float]] = {}
    halves: dict[Key, dict[str, float]] = {}
    for cell in [cell for cell in bench.cells if cell.shop in reported]:
        for measure in MEASURES:
            key, half = (cell.row, cell.probe, cell.task, measure), getattr(cell, HALVES.get(measure, ""), None)
            if (value := getattr(cell, measure)) is not None:
                table.setdefault(key, {})[cell.shop] = value
            if half is not None:
                halves.setdefault(key, {})[cell.shop] = half
    gains: dict[Key, dict[str, float]] = {}
    for one in bench.gains:
        gains.setdefault((one.row, one.probe, one.task, one.measure), {})[one.shop] = (one.high - one.low) / 2
    means = []
    for key, values in table.items():
        row, probe, task, measure = key
        mean, low, high = interval(list(values.values()))
        found = OverShops(
            row=row, probe=probe, task=task, measure=measure, mean=mean, low=low, high=high, shops=len(values)
        )
        found.clients = _of_mean(halves.get(key, {}), list(values))
        base = reference(bench.against, probe)
        other = {} if base in (None, (row, probe)) else table.get((*base, task, measure), {})
        both = [shop for shop in values if shop in other]
        if both:
            found.gain, found.gain_low, found.gain_high = interval([values[shop] - other[shop] for shop in both])
            found.gain_clients = _of_mean(gains.get(key, {}), both)
        means.append(found)
    return means


def _of_mean(halves: Mapping[str, float], shops: Sequence[str]) -> float | None:
    """Half of the interval of a mean over shops, from those of the shops, whose clients are others; None where one is unknown."""
    if any(shop not in halves for shop in shops):
        return None
    return float(np.sqrt(sum(halves[shop] ** 2 for shop in shops)) / len(shops))


def compared_with(bench: Bench, against: str) -> Bench:
    """The same cells, compared with another row: over shops alone, as gains over clients need the submissions.

    Raises:
        KitError: the bench has no such row or probe.
    """
    row, _, probe = against.partition(":")
    if row not in bench.rows or probe not in ("", *bench.probes):
        shown = f"The rows are {', '.join(bench.rows)}; the probes {', '.join(bench.probes)}."
        raise KitError(f"There is no {against!r} in this bench to compare with.", f"Give ROW or ROW:PROBE. {shown}")
    other = bench.model_copy(update={"against": against, "gains": []})
    return other.model_copy(update={"means": over_shops(other)})
