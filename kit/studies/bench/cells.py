"""The cells of one row on one shop: read from what `kit score` keeps beside a submission, or from a shop's ceiling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from kit.scoring.results import read_scored, read_scores
from kit.scoring.statistics import Scored, compare, together
from kit.studies.bench.result import MEASURES, ORACLE, SUM, Cell, Gain, Shop
from kit.tasks import Task

NONE: Final = "none"
"""The probe that is none."""


def scored_cells(tasks: Sequence[Task], place: Path, shop: str, row: str, probe: str) -> list[Cell]:
    """A submission's cells by one probe: the tasks asked for, and their sum."""
    entries, scored = read_scores(place)[probe]["tasks"], read_scored(place, probe)
    cells = []
    for task in tasks:
        entry = entries[task.name]
        kept = {key: entry.get(key) for key in (*MEASURES, "auroc_defined", "labels_without_positives", "seconds")}
        cell = Cell(shop=shop, row=row, probe=probe, task=task.name, **kept, undefined=entry.get("undefined"))
        if task in scored:
            cell.score, cell.half_width = scored[task].score, scored[task].half_width
        cells.append(cell)
    return [*cells, *_sum_cell(tasks, cells, shop, row, probe, scored)]


def _sum_cell(
    tasks: Sequence[Task], cells: list[Cell], shop: str, row: str, probe: str, scored: dict[Task, Scored]
) -> Iterator[Cell]:
    """The sum over the tasks of the challenge that are defined; the means of AUROC, novelty and diversity beside it."""
    own = [task for task in tasks if task.in_challenge and task in scored]
    if not own:
        return
    whole = together([scored[task] for task in own])
    names = {task.name for task in own}
    means = {}
    for measure in MEASURES[1:]:
        values = [getattr(cell, measure) for cell in cells if cell.task in names]
        defined = [value for value in values if value is not None]
        means[measure] = sum(defined) / len(defined) if defined else None
    seconds = sum(cell.seconds or 0.0 for cell in cells)
    yield Cell(
        shop=shop, row=row, probe=probe, task=SUM, score=whole.score, half_width=whole.half_width, seconds=seconds, **means
    )  # fmt: skip


def ceiling_cells(tasks: Sequence[Task], about: Shop) -> list[Cell]:
    """The row `oracle` without a probe, the generator's probabilities ranked as they are: ceiling.json has them."""
    cells = []
    for task in tasks:
        entry = about.ceiling.get(task.name, {})
        if entry.get("score") is not None:
            kept = {key: entry.get(key) for key in (*MEASURES, "auroc_defined", "labels_without_positives")}
            cells.append(Cell(shop=about.name, row=ORACLE, probe=NONE, task=task.name, **kept))
    if not cells:
        return []
    total = Cell(
        shop=about.name, row=ORACLE, probe=NONE, task=SUM,
        score=sum(float(cell.score or 0) for cell in cells),
        auroc=sum(float(cell.auroc or 0) for cell in cells) / len(cells),
    )  # fmt: skip
    return [*cells, total]


def gains_of(
    tasks: Sequence[Task], mine: dict[Task, Scored], other: dict[Task, Scored], shop: str, row: str, probe: str
) -> list[Gain]:
    """A row's differences to the reference, paired over clients: per task, and of the sum of the challenge's."""
    both = [task for task in tasks if task in mine and task in other]
    pairs = [(task.name, mine[task], other[task]) for task in both]
    if six := [task for task in both if task.in_challenge]:
        pairs.append((SUM, together([mine[task] for task in six]), together([other[task] for task in six])))
    found = []
    for task_name, own, rival in pairs:
        told = compare(own, rival)
        low, high = told.interval
        about = {"difference": told.difference, "low": low, "high": high, "verdict": told.verdict}
        found.append(Gain.model_validate({"shop": shop, "row": row, "probe": probe, "task": task_name} | about))
    return found
