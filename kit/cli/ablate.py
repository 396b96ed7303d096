"""`kit ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kit.cli.common import DataOption, JsonOption, SeedOption, ThreadsOption, print_json, use_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.studies.ablation.result import Ablation, LeftOut

COLOURS = {"helps": "green", "hurts": "red"}


RecipeArgument = Annotated[Path, typer.Argument(help="A recipe with several blocks, such as pipelines/blend.toml.")]
ProbeOption = Annotated[str, typer.Option("--probe", help="official, fast or gbm.")]
RunsOption = Annotated[int, typer.Option("--seeds", min=1, help="Runs per task and profile; 3 or more to decide.")]
ExactOption = Annotated[str, typer.Option("--precision", help="fp32, or bf16 where the probe has it.")]
TasksOption = Annotated[
    list[str] | None,
    typer.Option(
        "--task", help="One task, such as price; repeat for several. ablation.json is written for all tasks only."
    ),
]
PartOption = Annotated[
    list[str] | None,
    typer.Option("--part", help="Also leave out some columns of a block: 'stats:recency_*'; repeat for several."),
]
SilenceOption = Annotated[
    bool, typer.Option("--silence", help="Set a block's columns to 0 instead of assembling without them.")
]
AloneOption = Annotated[bool, typer.Option("--alone/--no-alone", help="Also score every block alone.")]
SubmissionOption = Annotated[
    Path | None,
    typer.Option("--submission", help="Gets ablation.json; by default submissions/NAME, built if it is missing."),
]


def ablate(
    recipe: RecipeArgument,
    data: DataOption,
    probe: ProbeOption = "fast",
    seeds: RunsOption = 1,
    precision: ExactOption = "fp32",
    task: TasksOption = None,
    part: PartOption = None,
    silence: SilenceOption = False,
    alone: AloneOption = True,
    seed: SeedOption = None,
    submission: SubmissionOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Leave one block out at a time, and score each alone: what is every block worth, and is it more than noise?

    A block is really left out: the profile is assembled anew (PCA, norms) from the others, as if the recipe did not name it.
    That is what the answer is about, but the probe, narrower now, starts from other weights, and one seed's interval does not
    hold that noise: decide by --seeds 3 or more. --silence sets the block's columns to 0 instead, so that the probe starts
    alike: sharper from one seed, but of a profile that nobody would submit, and impossible after a joint PCA.

    Entries that share one run (`like`) are also left out together. Intervals are 95 %, paired over clients, with the noise
    between seeds where there are several. Blocks come from the store and every score is kept there: the same command goes on
    after a kill, and another --part or more --seeds pay only for what is new. `kit report` shows ablation.json.

    Example: kit ablate pipelines/blend.toml --data data/small --seeds 3

    Example: kit ablate pipelines/stats.toml --data data/small --part 'stats:recency_*' --no-alone
    """
    use_threads(threads)
    from kit.cli.options import precision_named, tasks_named
    from kit.data.layout import DataFolder
    from kit.probes.registry import Options
    from kit.recipe import read_recipe
    from kit.scoring.scorer import Scorer
    from kit.store import Store
    from kit.studies.ablation.measure import leave_one_out, submission_of
    from kit.studies.ablation.parts import Study
    from kit.studies.ablation.result import write_ablation

    plan, folder, store = read_recipe(recipe), DataFolder(data), Store()
    if seed is not None:
        plan = plan.model_copy(update={"seed": seed})
    every = _every_task()
    options = Options(precision=precision_named(precision, "fp32"), threads=threads)
    scorer = Scorer(folder, probe, tasks_named(task) or every, store, options)
    study = Study(plan, folder, store, "silenced" if silence else "left out", tuple(dict.fromkeys(part or ())))
    with store.in_use(f"The ablation of {plan.name}"):
        found = leave_one_out(study, scorer, seeds, alone=alone)
    place = submission or Path("submissions") / plan.name
    written = set(scorer.tasks) == set(every) and submission_of(study, place)
    if written:
        write_ablation(place, found)
    if as_json:
        print_json(found.model_dump(mode="json") | {"written": str(place / "ablation.json") if written else None})
    else:
        _print(found)
        _say_where(place, written=written, every=not task)


def _say_where(place: Path, *, written: bool, every: bool) -> None:
    """Where the result lies, or why it was not written although all tasks were scored."""
    if written:
        typer.echo(f"{place / 'ablation.json'} written; `kit report {place}` shows it")
    elif every:
        typer.echo(
            f"{place} holds another submission: ablation.json was not written there (see --submission)", err=True
        )


def _every_task() -> Sequence[Any]:
    from kit.tasks import CHALLENGE

    return list(CHALLENGE)


def _print(found: Ablation) -> None:

    from kit.cli.console import Console

    console = Console(piped=200)  # a pipe has no width of its own
    runs = f"{found.probe} probe, {found.precision}, {found.seeds} seed{'s' if found.seeds > 1 else ''}"
    console.print(_table(f"what a block adds: full − without ({found.how}; {runs})", found, found.rows))
    if found.alone:
        console.print(_table("a block alone: its score, and full − alone", found, found.alone, scores=True))
    if found.seeds == 1:
        console.print(
            "[yellow]note:[/yellow] one seed: ± holds the noise over clients, not that of the probe's start; "
            "--seeds 3 adds it.",
            highlight=False,
        )


def _table(title: str, found: Ablation, rows: Sequence[LeftOut], *, scores: bool = False) -> Any:  # noqa: ANN401
    """A row per block: difference ± half of its 95 % interval, coloured where it is told from noise."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("block", no_wrap=True)
    for name in (*(task.removeprefix("propensity_") for task in found.full), "sum"):
        table.add_column(name, justify="right", no_wrap=True)
    full = [*found.full.values(), sum(found.full.values())]
    table.add_row("(all)", *(f"{score:.4f}" for score in full))
    table.add_section()
    for row in rows:
        cells = [row.block]
        for entry in (*row.without.values(), row.sum):
            if entry is None:
                cells.append("")
                continue
            text = f"{entry.difference:+.4f} ± {(entry.high - entry.low) / 2:.4f}"
            text = f"{entry.score:.4f} ({entry.difference:+.4f})" if scores else text
            colour = COLOURS.get(entry.verdict)
            cells.append(f"[{colour}]{text}[/{colour}]" if colour else text)
        table.add_row(*cells)
    return table
