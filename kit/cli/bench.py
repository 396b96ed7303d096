"""`kit bench`: many folders, many recipes, one table."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kit.cli.common import JsonOption, ThreadsOption, print_json, use_threads
from kit.cli.options import DeviceOption, QuietOption, SeedsOption, TaskOption, precision_named, tasks_named

if TYPE_CHECKING:
    from kit.recipe import Recipe
    from kit.studies.bench.result import Bench, Measure

app = typer.Typer(no_args_is_help=True, help="Compare recipes on many data folders.")

MeasureOption = Annotated[
    list[str] | None,
    typer.Option("--measure", help="score, auroc, novelty or diversity; repeat for several. Default: score and auroc."),
]
FoldersOption = Annotated[list[Path], typer.Option("--data", help="A split data folder; repeat for each shop.")]
RecipesOption = Annotated[
    list[Path], typer.Option("--recipe", help="A recipe, or a folder of recipes; repeat for several.")
]
BenchProbesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--probe", help="none (a block's own forecasts), gbm, fast or official; repeat. Default: none, gbm, fast."
    ),
]
AgainstOption = Annotated[
    str | None,
    typer.Option("--against", help="What all are compared with: a row, under the same probe, or ROW:PROBE."),
]
ChosenOption = Annotated[
    list[Path] | None,
    typer.Option("--chosen-on", help="One of the folders that settings were chosen on: shown, left out of the means."),
]
OutOption = Annotated[Path, typer.Option("--out", help="JSON file; the figure goes beside it, FILE.svg.")]
WorkOption = Annotated[
    Path | None, typer.Option("--work", help="Where submissions and scores are kept; by default in the store, bench/.")
]
OracleOption = Annotated[
    bool,
    typer.Option("--oracle/--no-oracle", help="Also a profile of the generator's own probabilities, where there are."),
]
BenchPrecisionOption = Annotated[str, typer.Option("--precision", help="Of the official probe: bf16 or fp32.")]


@app.command()
def worlds(
    data: FoldersOption,
    recipe: RecipesOption,
    out: OutOption,
    probe: BenchProbesOption = None,
    task: TaskOption = None,
    against: AgainstOption = None,
    chosen_on: ChosenOption = None,
    work: WorkOption = None,
    oracle: OracleOption = True,
    seeds: SeedsOption = 1,
    precision: BenchPrecisionOption = "bf16",
    measure: MeasureOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Build and score every recipe on every folder: AUROC, novelty, diversity, score and sum, with intervals over the clients of
    a shop and over shops, the shops' ceilings, and differences to a reference.

    Submissions and scores are kept under --work: the same command goes on after a kill, and one with more recipes, folders or
    probes pays only for what is new. The file is written after every row. Exit code 1 if a row failed on a shop.

    Example: kit bench worlds --data data/s4 --data data/s5 --recipe pipelines/stats.toml --recipe pipelines/bench --against
    stats --probe none --probe gbm --out bench.json
    """
    use_threads(threads)
    from kit.data.layout import DataFolder
    from kit.probes.registry import Options
    from kit.report.bench import figure
    from kit.store import Store, write_atomically
    from kit.studies.bench.measure import Asked
    from kit.studies.bench.measure import measure as measured
    from kit.studies.bench.result import write_bench
    from kit.tasks import CHALLENGE

    measures, store = _measures(measure), Store()
    asked = Asked(
        shops=[DataFolder(root) for root in data],
        recipes=[found for path in recipe for found in _recipes(path)],
        probes=list(dict.fromkeys(probe or ("none", "gbm", "fast"))),
        work=work or store.root / "bench",
        tasks=tasks_named(task) or CHALLENGE,
        options=Options(seeds, precision_named(precision, "bf16"), threads, device, not quiet),
        against=against,
        chosen=[DataFolder(root) for root in chosen_on or ()],
        oracle=oracle,
        command=shlex.join(["kit", *sys.argv[1:]]),
    )
    with store.in_use(f"The bench {out}"):
        found = measured(asked, store, lambda bench: write_bench(out, bench))
    write_atomically(out.with_suffix(".svg"), lambda path: path.write_text(figure(found), encoding="utf-8"))
    _tell(found, measures, as_json=as_json, quiet=quiet)
    if found.failures:
        raise typer.Exit(1)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="What `kit bench worlds --out` wrote.")],
    measure: MeasureOption = None,
    against: AgainstOption = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="Draw the figure again to this SVG file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print a finished table again, or compare with another row: then with intervals over shops alone.

    Example: kit bench show bench.json --measure auroc --against stats:gbm
    """
    from kit.report.bench import figure as drawn
    from kit.store import write_atomically
    from kit.studies.bench.over_shops import compared_with, over_shops
    from kit.studies.bench.result import read_bench

    found = read_bench(file)
    found = found.model_copy(update={"means": over_shops(found)}) if against is None else compared_with(found, against)
    if figure is not None:
        write_atomically(figure, lambda path: path.write_text(drawn(found), encoding="utf-8"))
    _tell(found, _measures(measure), as_json=as_json, quiet=False)


def _tell(found: Bench, measures: list[Measure], *, as_json: bool, quiet: bool) -> None:
    """JSON, or tables, or nothing."""
    from kit.cli.bench_table import show as print_tables

    if as_json:
        print_json(found.model_dump(mode="json"))
    elif not quiet:
        print_tables(found, measures)


def _measures(names: list[str] | None) -> list[Measure]:
    """The measures named, each once; KitError for one that there is not."""
    from kit.errors import KitError, nearest
    from kit.studies.bench.result import MEASURES

    for name in names or ():
        if name not in MEASURES:
            raise KitError(f"There is no measure {name!r};", nearest(name, MEASURES))
    return [measure for measure in MEASURES if measure in (names or ("score", "auroc"))]


def _recipes(path: Path) -> list[Recipe]:
    """The recipe of a file, or those of a folder by name; KitError where a folder has none."""
    from kit.errors import KitError
    from kit.recipe import read_recipe

    files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    if not files:
        raise KitError(f"{path} holds no recipe.", "Give a .toml file, or a folder of them.")
    return [read_recipe(file) for file in files]
