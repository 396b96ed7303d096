"""`kit submit` and `kit validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli.common import (
    DataOption,
    JsonOption,
    SeedOption,
    ThreadsOption,
    print_json,
    report_findings,
    use_threads,
)


def submit(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as pipelines/stats.toml.")],
    data: DataOption,
    name: Annotated[str | None, typer.Option(help="Name under submissions/; the recipe's name by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Another folder than submissions/NAME.")] = None,
    cut: Annotated[
        str, typer.Option(help="`input`: before the target windows, to score it here. `end`: all events.")
    ] = "input",
    seed: SeedOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build a submission: blocks → profile → client_ids.npy, embeddings.npy, manifest.json; then validate it.

    Finished stages are kept in .kit/, so a second call ends at once and an interrupted one goes on where it was.

    Example: kit submit pipelines/stats.toml --data data/small
    """
    use_threads(threads)
    from kit.recipe import read_recipe
    from kit.submission import read_manifest
    from kit.submission import submit as build

    plan = read_recipe(recipe)
    if seed is not None:
        plan = plan.model_copy(update={"seed": seed})
    folder = out or Path("submissions") / (name or plan.name)
    built = build(plan, data, folder, cut)
    manifest = read_manifest(folder)
    if as_json:
        print_json({"submission": str(folder), "built": built, **manifest})
        return
    state = f"built in {manifest['seconds']:.1f} s" if built else "fresh already, nothing to do"
    typer.echo(f"{folder}: {manifest['clients']:,} clients × {manifest['width']} columns, {state}")
    for block in manifest["blocks"]:
        typer.echo(
            f"    {block['name']:<16} columns {block['start']}–{block['stop'] - 1}, {block['dropped']} constant ones left out, "
            f"{block['missing_rows']} clients without data"
        )


def validate(
    submission: Annotated[Path, typer.Argument(help="Folder with client_ids.npy and embeddings.npy.")],
    data: DataOption,
    as_json: JsonOption = False,
) -> None:
    """List everything wrong or odd about a submission at once. Exit 1 if the organisers' evaluator would refuse it.

    Example: kit validate submissions/stats --data data/small
    """
    from kit.data.layout import DataFolder
    from kit.submission import validate as findings_of

    report_findings(findings_of(submission, DataFolder(data)), str(submission), as_json)
