"""`kit features list` and `kit features build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli.common import DataOption, JsonOption, ThreadsOption, print_json, use_threads

app = typer.Typer(no_args_is_help=True, help="Hand-made features: which families there are, and build them.")


@app.command("list")
def list_families(as_json: JsonOption = False) -> None:
    """Print every feature family: how many columns, examples, windows, what it is for.

    Example: kit features list
    """
    from dataclasses import asdict

    from kit.features.describe import describe

    lines = describe()
    if as_json:
        print_json([asdict(line) for line in lines])
        return
    from rich.table import Table

    from kit.cli.console import Console

    table = Table("family", "columns", "what it is for", "windows", "examples", show_lines=True)
    for line in lines:
        table.add_row(line.family, str(line.columns), line.purpose, line.windows, "\n".join(line.examples))
    Console(least=60).print(table)
    typer.echo(f"{len(lines)} families, {sum(line.columns for line in lines)} columns on a small example")


@app.command()
def build(
    recipe: Annotated[
        Path, typer.Argument(help="A recipe; its blocks of kind `stats` say which families and settings.")
    ],
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="The parquet file to write: client_id and Float32 columns.")],
    cut: Annotated[str, typer.Option(help="`input`: before the target windows. `end`: all events.")] = "input",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build the hand-made features of a recipe, unscaled, one row per relevant client sorted by id.

    Example: kit features build pipelines/stats.toml --data data/small --out features.parquet
    """
    use_threads(threads)
    from kit.blocks.stats import stats_plans
    from kit.data.layout import DataFolder
    from kit.errors import KitError
    from kit.features.build import write_features
    from kit.history import History
    from kit.recipe import read_recipe
    from kit.store import Store
    from kit.submission import parse_cut

    if out.suffix not in ("", ".parquet"):
        raise KitError(f"{out} would be a parquet file.", "Let its name end in .parquet.")
    plan = read_recipe(recipe)
    plans = stats_plans(plan)
    store = Store()
    with store.in_use(f"The building of {out}"):
        history = History.open(DataFolder(data), parse_cut(cut), store=store, duplicates=plan.duplicates)
        rows, columns = write_features(history, plans, out)
    if as_json:
        print_json({"out": str(out), "clients": rows, "columns": columns, "cut": history.cut.isoformat()})
        return
    typer.echo(f"{out}: {rows:,} clients × {columns} features, from events before {history.cut}")
