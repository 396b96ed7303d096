"""Means over shops, and what a row gains over a reference, with intervals by Student's t over the shops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

from kit.errors import KitError
from kit.studies.bench.result import MEASURES, Bench, Mean, Measure


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


def over_shops(bench: Bench) -> list[Mean]:
    """`means` of the cells, over shops that nothing was chosen on."""
    reported = {shop.name for shop in bench.shops if not shop.chosen}
    table: dict[tuple[str, str, str, Measure], dict[str, float]] = {}
    for cell in bench.cells:
        for measure in MEASURES:
            value = getattr(cell, measure)
            if value is not None and cell.shop in reported:
                table.setdefault((cell.row, cell.probe, cell.task, measure), {})[cell.shop] = value
    means = []
    for (row, probe, task, measure), values in table.items():
        mean, low, high = interval(list(values.values()))
        found = Mean(row=row, probe=probe, task=task, measure=measure, mean=mean, low=low, high=high, shops=len(values))
        base = reference(bench.against, probe)
        other = {} if base in (None, (row, probe)) else table.get((*base, task, measure), {})
        paired = [values[shop] - other[shop] for shop in values if shop in other]
        if paired:
            found.gain, found.gain_low, found.gain_high = interval(paired)
        means.append(found)
    return means


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
