"""The measuring of `kit bench worlds`: every recipe on every shop, by every probe.

Each row of each shop is a submission of its own under the working folder, and its scores and influences lie beside it as those of
any other. So a killed run goes on where it was: what is fresh is not built, what is known is not scored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kit import __version__
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.probes.registry import Options, Source, load_probes
from kit.progress import say
from kit.recipe import Recipe
from kit.scoring.results import read_ceiling, read_scored, read_scores, require_writable, write_scores
from kit.scoring.score import score_submission
from kit.scoring.statistics import Scored, compare, together
from kit.store import Store, digest
from kit.studies.bench.oracle import write_oracle
from kit.studies.bench.result import MEASURES, ORACLE, SUM, Bench, Cell, Failure, Gain, Shop, over_shops
from kit.submission.forecasts import NoForecasts
from kit.submission.submission import Submission
from kit.submission.write import submit
from kit.tasks import CHALLENGE, Task

NONE = "none"
"""The probe that is none."""
Told = Callable[[Bench], object]


@dataclass(frozen=True)
class Asked:
    """What is to be measured.

    Attributes:
        shops: split data folders.
        recipes: one row each, by their names.
        probes: names of probes.
        work: where submissions lie.
        tasks: that are scored.
        options: of the probes.
        against: name of the reference row; None for no differences.
        chosen: those of `shops` that settings were chosen on.
        oracle: whether to send the generator's own probabilities through the probes, where there are any.
        command: for the file.
    """

    shops: Sequence[DataFolder]
    recipes: Sequence[Recipe]
    probes: Sequence[str]
    work: Path
    tasks: Sequence[Task] = CHALLENGE
    options: Options = field(default_factory=Options)
    against: str | None = None
    chosen: Sequence[DataFolder] = ()
    oracle: bool = True
    command: str = ""

    def rows(self) -> list[str]:
        """Names of rows, in order."""
        return [recipe.name for recipe in self.recipes] + ([ORACLE] if self.oracle else [])

    def place(self, shop: DataFolder, row: str) -> Path:
        """Where a row's submission on a shop lies."""
        root = shop.root.resolve()
        return self.work / f"{root.name}-{digest(str(root))[:6]}" / row


def check(asked: Asked) -> None:
    """What can be said before hours of work.

    Raises:
        KitError: a folder is not split or given twice, two recipes share a name, the reference is no row, a probe is unknown.
    """
    for shop in asked.shops:
        shop.require_split()
    names, rows = _shop_names(asked.shops), asked.rows()
    for what, found, remedy in (
        ("data folders", names, "Give each folder once."),
        ("recipes", rows, "Give one of them another `name`; `oracle` is the row of the generator's probabilities."),
    ):
        if twice := sorted({name for name in found if found.count(name) > 1}):
            raise KitError(f"Two {what} are called {twice[0]!r}.", remedy)
    if asked.against is not None and asked.against not in rows:
        raise KitError(f"There is no row {asked.against!r} to compare with.", f"The rows are {', '.join(rows)}.")
    for probe in asked.probes:
        load_probes().require(probe)


def measure(asked: Asked, store: Store, told: Told | None = None) -> Bench:
    """All cells, gains and means.

    Args:
        asked: what.
        store: of the blocks.
        told: called with the table so far after each row of each shop, such as to write it.

    Raises:
        KitError: see `check`. What goes wrong with one row on one shop is noted in `failures`, and the others go on.
    """
    check(asked)
    bench = _empty(asked)
    for shop, about in zip(asked.shops, bench.shops, strict=True):
        for row in bench.rows:
            try:
                _row(asked, store, shop, about, row, bench)
            except KitError as error:
                say(f"  {row} on {about.name} failed: {error.what}")
                bench.failures.append(Failure(shop=about.name, row=row, what=f"{error.what} {error.remedy}"))
            if told is not None:
                bench.means = over_shops(bench)
                told(bench)
        there = {
            (cell.row, cell.probe) for cell in bench.cells if cell.shop == about.name and cell.half_width is not None
        }
        bench.gains += _gains(asked, shop, about.name, there)
    bench.means = over_shops(bench)
    if told is not None:
        told(bench)
    return bench


def _empty(asked: Asked) -> Bench:
    """The table without cells."""
    chosen = {shop.root.resolve() for shop in asked.chosen}
    shops = [
        Shop(
            name=name,
            path=str(shop.root),
            clients=len(shop.clients()),
            chosen=shop.root.resolve() in chosen,
            ceiling=read_ceiling(shop),
        )
        for name, shop in zip(_shop_names(asked.shops), asked.shops, strict=True)
    ]
    return Bench(
        kit=__version__,
        made=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        command=asked.command,
        precision=asked.options.precision,
        seeds=asked.options.seeds,
        against=asked.against,
        probes=list(asked.probes),
        tasks=[task.name for task in asked.tasks],
        shops=shops,
        rows=asked.rows(),
    )


def _shop_names(shops: Sequence[DataFolder]) -> list[str]:
    """The folders' names, with their parents' where two are called alike."""
    short = [shop.root.resolve().name for shop in shops]
    long = ["/".join(shop.root.resolve().parts[-2:]) for shop in shops]
    return [name if short.count(name) == 1 else whole for name, whole in zip(short, long, strict=True)]


def _row(asked: Asked, store: Store, shop: DataFolder, about: Shop, row: str, bench: Bench) -> None:
    """Build a row's submission on a shop and add its cells."""
    place = asked.place(shop, row)
    if row == ORACLE:
        if not write_oracle(shop, place):
            say(f"  {about.name} has no probabilities of its generator for all clients: no {ORACLE}")
            return
    else:
        recipe = next(recipe for recipe in asked.recipes if recipe.name == row)
        submit(recipe, shop.root, place, store=store)
    submission = Submission.open(place)
    for probe in asked.probes:
        say(f"  {about.name}: {row}, {probe}")
        if row == ORACLE and probe == NONE:
            bench.cells += _ceiling_cells(asked, about)
            continue
        try:
            require_writable(place)
            options = replace(asked.options, source=Source(place, shop, store))
            keep = lambda part: write_scores(place, [part])  # noqa: E731
            report = score_submission(submission, shop, probe, asked.tasks, options, keep=keep)
        except NoForecasts as error:
            bench.cells.append(Cell(shop=about.name, row=row, probe=probe, task=SUM, undefined=error.what))
            continue
        write_scores(place, [report])
        bench.cells += _cells(asked, place, about.name, row, probe)


def _cells(asked: Asked, place: Path, shop: str, row: str, probe: str) -> list[Cell]:
    """A submission's cells by one probe: the tasks asked for, and their sum."""
    entries, scored = read_scores(place)[probe]["tasks"], read_scored(place, probe)
    cells = []
    for task in asked.tasks:
        entry = entries[task.name]
        kept = {key: entry.get(key) for key in (*MEASURES, "auroc_defined", "labels_without_positives", "seconds")}
        cell = Cell(shop=shop, row=row, probe=probe, task=task.name, **kept, undefined=entry.get("undefined"))
        if task in scored:
            cell.score, cell.half_width = scored[task].score, scored[task].half_width
        cells.append(cell)
    return [*cells, *_sum_cell(asked, cells, shop, row, probe, scored)]


def _sum_cell(
    asked: Asked, cells: list[Cell], shop: str, row: str, probe: str, scored: dict[Task, Scored]
) -> Iterator[Cell]:
    """The sum over the tasks of the challenge that are defined; the means of AUROC, novelty and diversity beside it."""
    own = [task for task in asked.tasks if task.in_challenge and task in scored]
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


def _ceiling_cells(asked: Asked, about: Shop) -> list[Cell]:
    """The generator's probabilities ranked as they are: ceiling.json has them."""
    cells = []
    for task in asked.tasks:
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


def _gains(asked: Asked, shop: DataFolder, name: str, there: set[tuple[str, str]]) -> list[Gain]:
    """Every row's differences to the reference on one shop, paired over clients, of the rows and probes that are there."""
    found = []
    for probe in asked.probes:
        if asked.against is None or (asked.against, probe) not in there:
            continue
        reference = read_scored(asked.place(shop, asked.against), probe)
        for row in asked.rows():
            if row == asked.against or (row, probe) not in there:
                continue
            mine = read_scored(asked.place(shop, row), probe)
            both = [task for task in asked.tasks if task in mine and task in reference]
            pairs = [(task.name, mine[task], reference[task]) for task in both]
            if six := [task for task in both if task.in_challenge]:
                pairs.append((SUM, together([mine[t] for t in six]), together([reference[t] for t in six])))
            for task, own, other in pairs:
                told = compare(own, other)
                low, high = told.interval
                found.append(
                    Gain(
                        shop=name, row=row, probe=probe, task=task, difference=told.difference, low=low, high=high,
                        verdict=told.verdict,
                    )
                )  # fmt: skip
    return found
