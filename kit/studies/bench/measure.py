"""The measuring of `kit bench worlds`: every recipe on every shop, by every probe.

Each row of each shop is a submission of its own under the working folder, and its scores and influences lie beside it as those of
any other. So a killed run goes on where it was: what is fresh is not built, what is known is not scored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kit import __version__
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.probes.registry import PROBES, Options, Source
from kit.progress import say
from kit.recipe import Recipe
from kit.scoring.results import read_ceiling
from kit.scoring.score import score_and_keep
from kit.store import Store, digest
from kit.studies.bench.cells import NONE, ceiling_cells, gains_of, scored_cells
from kit.studies.bench.oracle import write_oracle
from kit.studies.bench.over_shops import over_shops, reference
from kit.studies.bench.result import ORACLE, SUM, Bench, Cell, Failure, PairedGain, Shop
from kit.submission.forecasts import NoForecasts
from kit.submission.submission import Submission
from kit.submission.write import submit
from kit.tasks import CHALLENGE, Task

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
        against: the reference: a row's name, or ROW:PROBE; None for no differences.
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
        KitError: a folder is not split or given twice, two recipes share a name, the reference is no row, a probe is
            unknown, a folder that was chosen on is none of them.
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
    roots = {shop.root.resolve() for shop in asked.shops}
    if stray := [str(shop.root) for shop in asked.chosen if shop.root.resolve() not in roots]:
        raise KitError(f"--chosen-on {stray[0]} is none of the folders.", f"Add --data {stray[0]}, or leave it out.")
    for probe in asked.probes:
        PROBES.loaded().require(probe)
    base = reference(asked.against, asked.probes[0])
    if base is not None and base[0] not in rows:
        raise KitError(f"There is no row {base[0]!r} to compare with.", f"The rows are {', '.join(rows)}.")
    if base is not None and base[1] not in asked.probes:
        raise KitError(f"--against {asked.against} names a probe that is not run.", f"Add --probe {base[1]}.")


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
            bench.cells += ceiling_cells(asked.tasks, about)
            continue
        try:
            options = replace(asked.options, source=Source(place, shop, store))
            score_and_keep(submission, shop, probe, asked.tasks, options)
        except NoForecasts as error:
            bench.cells.append(Cell(shop=about.name, row=row, probe=probe, task=SUM, undefined=error.what))
            continue
        bench.cells += scored_cells(asked.tasks, place, about.name, row, probe)


def _gains(asked: Asked, shop: DataFolder, name: str, there: set[tuple[str, str]]) -> list[PairedGain]:
    """Every row's differences to the reference on one shop, paired over clients, of the rows and probes that are there."""
    found = []
    for probe in asked.probes:
        base = reference(asked.against, probe)
        if base is None or base not in there:
            continue
        other = asked.place(shop, base[0]), base[1]
        for row in asked.rows():
            if (row, probe) == base or (row, probe) not in there:
                continue
            found += gains_of(asked.tasks, (asked.place(shop, row), probe), other, name, row)
    return found
