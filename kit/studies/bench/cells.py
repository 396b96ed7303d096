"""The cells of one row on one shop: read from what `kit score` keeps beside a submission, or from a shop's ceiling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from kit.scoring.results import read_areas, read_scored, read_scores
from kit.scoring.statistics import Scored, compare, together
from kit.studies.bench.result import MEASURES, ORACLE, SUM, Cell, Measure, PairedGain, Shop
from kit.tasks import Task

NONE: Final = "none"
"""The probe that is none."""
READ: Final[Mapping[Measure, Callable[[Path, str], dict[Task, Scored]]]] = {"score": read_scored, "auroc": read_areas}


def scored_cells(tasks: Sequence[Task], place: Path, shop: str, row: str, probe: str) -> list[Cell]:
    """A submission's cells by one probe: the tasks asked for, and their sum."""
    entries, scored, areas = read_scores(place)[probe]["tasks"], read_scored(place, probe), read_areas(place, probe)
    cells = []
    for task in tasks:
        entry = entries[task.name]
        kept = {key: entry.get(key) for key in (*MEASURES, "auroc_defined", "labels_without_positives", "seconds")}
        cell = Cell(shop=shop, row=row, probe=probe, task=task.name, **kept, undefined=entry.get("undefined"))
        if task in scored:
            cell.score, cell.half_width = scored[task].score, scored[task].half_width
        if task in areas:
            cell.auroc_half_width = areas[task].half_width
        cells.append(cell)
    six = {task.name for task in tasks if task.in_challenge and task in scored}
    area = whole(tasks, areas, "auroc") if scored.keys() == areas.keys() else None
    return [*cells, *_sum_cell(cells, six, whole(tasks, scored, "score"), area)]


def _sum_cell(cells: list[Cell], six: set[str], score: Scored | None, auroc: Scored | None) -> Iterator[Cell]:
    """The sum over the tasks of the challenge that are defined; the means of AUROC, novelty and diversity beside it."""
    if score is None:
        return
    means: dict[str, float | None] = {}
    for measure in MEASURES[1:]:
        values = [value for cell in cells if cell.task in six and (value := getattr(cell, measure)) is not None]
        means[measure] = sum(values) / len(values) if values else None
    about = {"shop": cells[0].shop, "row": cells[0].row, "probe": cells[0].probe, "task": SUM}
    widths = {"half_width": score.half_width, "auroc_half_width": None if auroc is None else auroc.half_width}
    told = {"score": score.score, "seconds": sum(cell.seconds or 0.0 for cell in cells)}
    yield Cell.model_validate(about | means | widths | told)


def whole(tasks: Sequence[Task], scored: dict[Task, Scored], measure: Measure) -> Scored | None:
    """The sum of the scores, or the mean of the AUROC, of the challenge's tasks among these; None where there is none."""
    six = [scored[task] for task in tasks if task.in_challenge and task in scored]
    if not six:
        return None
    total = together(six)
    if measure == "score":
        return total
    return Scored(total.score / len(six), None, total.clients, total.influence / np.float32(len(six)))


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
    tasks: Sequence[Task], mine: tuple[Path, str], other: tuple[Path, str], shop: str, row: str
) -> list[PairedGain]:
    """A row's differences to the reference in score and in AUROC, paired over clients: per task, and of the challenge's together.

    Args:
        tasks: that count.
        mine, other: submission and probe of the row and of the reference.
        shop, row: names.
    """
    found = []
    every = {task for task in tasks if task in read_scored(*mine) and task in read_scored(*other)}
    for measure, read in READ.items():
        own, rival = read(*mine), read(*other)
        both = [task for task in tasks if task in own and task in rival]
        pairs = [(task.name, own[task], rival[task]) for task in both]
        one, two = (whole(both, scored, measure) for scored in (own, rival))
        if (
            one is not None and two is not None and set(both) == every
        ):  # an older version kept the AUROC of some tasks only
            pairs.append((SUM, one, two))
        for task_name, first, second in pairs:
            told = compare(first, second)
            low, high = told.interval
            about = {"shop": shop, "row": row, "probe": mine[1], "task": task_name, "measure": measure}
            numbers = {"difference": told.difference, "low": low, "high": high, "verdict": told.verdict}
            found.append(PairedGain.model_validate(about | numbers))
    return found
