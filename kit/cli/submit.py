"""`kit submit` and `kit validate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kit.cli.common import (
    DataOption,
    JsonOption,
    SeedOption,
    ThreadsOption,
    print_json,
    report_findings,
    submission_folder,
    use_threads,
)

if TYPE_CHECKING:
    from kit.submission.plan import SubmissionPlan


def submit(
    recipe: Annotated[Path, typer.Argument(help="A recipe: a file, or the name of one of the kit's (`blend`).")],
    data: DataOption,
    name: Annotated[str | None, typer.Option(help="Name under submissions/; the recipe's name by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Another folder than submissions/NAME.")] = None,
    cut: Annotated[
        str, typer.Option(help="`input`: before the target windows, to score it here. `end`: all events.")
    ] = "input",
    clients: Annotated[
        str,
        typer.Option(
            help="`relevant`: the folder's list. `all`, with --cut end: everybody with an event, where the split made the list."
        ),
    ] = "relevant",
    seed: SeedOption = None,
    threads: ThreadsOption = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            "--memory-limit", help="Use no more than this (12GB, 12GiB, 800MB); what is available by default."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what every stage will take, and whether it fits.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Build a submission: blocks → profile → client_ids.npy, embeddings.npy, manifest.json; then validate it.

    Finished stages are kept in .kit/, so a second call ends at once and an interrupted one goes on where it was.

    Memory and disk are estimated first: what cannot fit is refused before it begins. Below a limit, work is cut into smaller
    pieces and large arrays go into files; the numbers stay the same bit by bit. A run that passes its limit all the same
    is stopped, and its finished stages are kept.

    Example: kit submit pipelines/stats.toml --data data/small

    Example: kit submit pipelines/blend.toml --data data/official --memory-limit 12GB --dry-run
    """
    use_threads(threads)
    from kit.data.clients import parse_clients
    from kit.data.layout import DataFolder
    from kit.limits.size import parse_size
    from kit.recipe import read_recipe
    from kit.submission import read_manifest
    from kit.submission import submit as build
    from kit.submission.plan import SubmissionPlan, parse_cut

    limit = None if memory_limit is None else parse_size(memory_limit)
    plan = read_recipe(recipe)
    if seed is not None:
        plan = plan.model_copy(update={"seed": seed})
    folder = submission_folder(out, name, plan.name)
    who = parse_clients(clients)
    if dry_run:
        _foretell(SubmissionPlan(plan, DataFolder(data), folder, parse_cut(cut), who), limit, as_json=as_json)
        return
    built = build(plan, data, folder, cut, memory_limit=limit, clients=who)
    _show(folder, read_manifest(folder), built=built, as_json=as_json)


def _show(folder: Path, manifest: dict[str, Any], *, built: bool, as_json: bool) -> None:
    """Print what was built, block by block."""
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


def _foretell(plan: SubmissionPlan, limit: int | None, *, as_json: bool) -> None:
    """Print what every stage will take; KitError if it does not fit."""
    from kit.limits.size import shown
    from kit.submission.needs import require_room, stage_needs, summary
    from kit.submission.write import require_own

    require_own(plan)
    stages = stage_needs(plan)
    told = summary(stages, limit)
    if as_json:
        print_json(told)
    else:
        typer.echo(f"{plan.folder}: estimated; the program itself takes {shown(told['program'])}")
        typer.echo(f"    {'stage':<20} {'state':<8} {'memory':>9} {'at least':>9} {'disk':>9}")
        for stage in told["stages"]:
            sizes = " ".join(f"{shown(stage[key]):>9}" for key in ("memory", "memory_at_least", "disk"))
            typer.echo(f"    {stage['stage']:<20} {stage['state']:<8} {sizes}")
        limited = "no limit is set" if limit is None else f"the limit is {shown(limit)}"
        available, disk = shown(told["available"]), shown(told["disk"])
        typer.echo(f"    {available} of memory are available, {limited}; {disk} will be written")
    require_room(stages, limit, plan.store.root, plan.folder)


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
    from kit.submission.submission import Submission

    report_findings(findings_of(Submission(submission), DataFolder(data)), str(submission), as_json)
