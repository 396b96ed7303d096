"""`kit status`, `kit explain` and `kit clean`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kit.cli.common import JsonOption, SeedOption, print_json, submission_folder

if TYPE_CHECKING:
    from kit.lineage import Stage
    from kit.submission.explain import Origin

COLOURS = {"fresh": "green", "stale": "yellow", "missing": "blue"}


def status(
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe; without one, every submission by its own recipe.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The data folder, split (`kit data split`).")] = None,
    name: Annotated[str | None, typer.Option(help="Name under submissions/; the recipe's name by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Another folder than submissions/NAME.")] = None,
    cut: Annotated[str, typer.Option(help="`input` or `end`, as for `kit submit`.")] = "input",
    seed: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is fresh, stale or missing, and why: which setting, data file or source file changed. Computes nothing.

    Exit 1 if something is not fresh. Stages of a fresh submission are not needed any more and may be missing.

    Example: kit status pipelines/stats.toml --data data/small
    """
    from kit.data.layout import DataFolder
    from kit.errors import KitError
    from kit.recipe import read_recipe
    from kit.submission.plan import SubmissionPlan, parse_cut
    from kit.submission.status import recipe_status, submission_status

    found: dict[str, list[Stage]] = {}
    if recipe is not None:
        if data is None:
            raise KitError(f"The state of {recipe} depends on the data.", "Add --data DIR.")
        plan = read_recipe(recipe)
        plan = plan if seed is None else plan.model_copy(update={"seed": seed})
        folder = submission_folder(out, name, plan.name)
        found[str(folder)] = recipe_status(SubmissionPlan(plan, DataFolder(data), folder, parse_cut(cut)))
    else:
        options = {
            "--data": data,
            "--name": name,
            "--out": out,
            "--seed": seed,
            "--cut": None if cut == "input" else cut,
        }
        for option, value in options.items():
            if value is not None:
                raise KitError(f"{option} {value} belongs to a recipe, and none was given.", "Name the recipe first.")
        for manifest in sorted(Path("submissions").glob("*/manifest.json")):
            try:
                found[str(manifest.parent)] = submission_status(manifest.parent)
            except KitError as error:  # one that cannot be judged must not hide the others
                typer.echo(f"{manifest.parent}: {error.what} {error.remedy}", err=True)
    fresh = all(stages[-1].state == "fresh" for stages in found.values())
    if as_json:
        rows = {folder: [stage.as_json() for stage in stages] for folder, stages in found.items()}
        print_json({"fresh": fresh, "submissions": rows})
    else:
        for shown, stages in found.items():
            typer.echo(shown)
            for stage in stages:
                _print_stage(stage)
        if not found:
            typer.echo("There are no submissions yet: `kit submit RECIPE --data DIR` makes one.")
    raise typer.Exit(0 if fresh else 1)


def _print_stage(stage: Stage) -> None:
    typer.echo(f"    {stage.name:<20} ", nl=False)
    typer.secho(f"{stage.state.value:<8}", fg=COLOURS[stage.state.value], nl=False)
    size = f"{stage.bytes / 2**20:.1f} MiB, " if stage.bytes is not None else ""
    typer.echo(f" {size}made {stage.made} in {stage.seconds} s  {stage.key}" if stage.made else f" {stage.key}")
    for reason in stage.reasons:
        typer.echo(f"        {reason}")


def explain(
    target: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A submission, a file in it, an artefact's folder, or a fingerprint."),
    ],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all files again and say whether their bytes are those recorded.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what a file was made from, walking back to the data: recipe, blocks, fingerprints, code, when, how long.

    With --verify, exit 1 if a file is not what was recorded.

    Example: kit explain submissions/stats/embeddings.npy
    """
    from kit.submission.explain import explain as origin_of

    origin = origin_of(target, verify=verify)
    if as_json:
        print_json(origin.as_json())
    else:
        _print_origin(origin, "", set())
    if origin.altered:
        raise typer.Exit(1)


def _print_origin(origin: Origin, indent: str, seen: set[str]) -> None:
    """An indented tree; what several parts were made from is printed in full once."""
    typer.secho(f"{indent}{'← ' if indent else ''}{origin.what}", bold=True, nl=False)
    again = origin.what in seen
    typer.echo(" (as above)" if again else "")
    if again:
        return
    seen.add(origin.what)
    indent += "    "
    width = max((len(label) for label in origin.facts), default=0)
    for label, text in origin.facts.items():
        typer.echo(f"{indent}{label:<{width}}  {text}")
    for parent in origin.parents:
        _print_origin(parent, indent, seen)


def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Delete. Without it, only say what would go.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="All artefacts, also those of current submissions (which stay themselves).")
    ] = False,
    submissions: Annotated[Path, typer.Option(help="Folder of the submissions that count as current.")] = Path(
        "submissions"
    ),
    as_json: JsonOption = False,
) -> None:
    """List, or with --yes delete, stored stages that no current submission was made from, and what killed runs left.

    Nothing is lost for good: the same recipe, data and code make it again.

    Example: kit clean            and then: kit clean --yes
    """
    from kit.store import Store
    from kit.submission.clean import plan_removals, remove

    store = Store()
    removals = plan_removals(store, submissions, everything)
    freed = remove(store, removals) if yes else 0
    total = sum(removal.bytes for removal in removals)
    if as_json:
        print_json({"deleted": yes, "bytes": freed if yes else total, "found": [item.as_json() for item in removals]})
        return
    for removal in removals:
        typer.echo(f"  {removal.bytes / 2**20:9.1f} MiB  {removal.path}  ({removal.why})")
    if yes:
        typer.echo(f"{freed / 2**20:.1f} MiB freed")
    else:
        typer.echo(
            f"{total / 2**20:.1f} MiB in {len(removals)} folders" + (": `--yes` deletes them" if removals else "")
        )
