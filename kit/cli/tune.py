"""`kit tune`: search, status, best, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from kit.cli.common import DataOption, JsonOption, print_json, use_threads

if TYPE_CHECKING:
    from rich.console import RenderableType

DEFAULT = "run"


class RunByDefault(TyperGroup):
    """`kit tune RECIPE …` means `kit tune run RECIPE …`; `kit tune status …` stays what it is."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer's own context class
        """Put `run` in front unless the first word is a command or an option of the group."""
        if (
            args
            and args[0] not in self.commands
            and args[0] not in ("--help", "--install-completion", "--show-completion")
        ):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=RunByDefault,
    no_args_is_help=True,
    subcommand_metavar="RECIPE --data DIR | status|best|report STUDY",
    help="Search over recipes. The search space is a recipe whose values may be ranges or choices (pipelines/tune/).\n\n"
    "Example: kit tune pipelines/tune/stats.toml --data data/small --trials 60 --workers 2 --official 3\n\n"
    "The same command goes on after a kill, a full disk or a crash. Then, by the recipe's name: "
    "kit tune status stats-search, kit tune best stats-search, kit tune report stats-search.",
)
StudyArgument = Annotated[str, typer.Argument(help="A journal file, its bare name under .kit/tune/, or a storage URL.")]
NameOption = Annotated[str | None, typer.Option("--name", help="Which study, where the storage holds several.")]


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A search space, such as pipelines/tune/stats.toml.")],
    data: DataOption,
    trials: Annotated[
        int, typer.Option("--trials", min=1, help="Trials of the study in all, over all workers and runs.")
    ],
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes on this machine.")] = 1,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0, help="Begin no trial after so many seconds.")
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(
            "--study", help="Journal file or storage URL; by default .kit/tune/NAME.journal. Other machines join it."
        ),
    ] = None,
    official: Annotated[
        int, typer.Option("--official", min=0, help="Score so many of the best with the official probe at the end.")
    ] = 0,
    probe: Annotated[str | None, typer.Option("--probe", help="Another probe than the search table's.")] = None,
    sampler: Annotated[str | None, typer.Option("--sampler", help="tpe, random, grid or cmaes.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Another seed of the sampler.")] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Threads per worker; cores / workers.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a search, or go on with it: `kit tune RECIPE …` for short.

    Example: kit tune pipelines/tune/stats.toml --data data/small --trials 60 --workers 2
    """
    import os

    share = threads or max(1, (os.cpu_count() or 1) // workers) if workers > 1 or threads else None
    use_threads(share)
    overrides = {"probe": probe, "sampler": sampler, "seed": seed}
    state, place = _search(recipe, overrides, data, study, trials, workers, timeout, official, share)
    if as_json:
        print_json(state)
        return
    _print(_page(state))
    typer.echo(f"kit tune best {place} writes the winner as a recipe; kit tune report {place} the whole story.")


def _search(
    recipe: Path,
    overrides: dict[str, Any],
    data: Path,
    study: str | None,
    trials: int,
    workers: int,
    timeout: float | None,
    official: int,
    threads: int | None,
) -> tuple[dict[str, Any], str]:
    """Begin or join the study, work until the cap or the clock ends it, score the best officially; its status and place."""
    import time

    from kit.store import DEFAULT_ROOT, Store
    from kit.tune.best import score_officially
    from kit.tune.objective import RecipeObjective
    from kit.tune.space import read_space
    from kit.tune.status import status as state_of
    from kit.tune.storage import find_place
    from kit.tune.study import begin, make_sampler
    from kit.tune.workers import Job
    from kit.tune.workers import run as run_job

    space = read_space(recipe, overrides)
    make_sampler(space, (0,))  # an unsuitable one is found out before anything is computed
    place = find_place(study, space.name)
    alone = threads and threads * workers  # before and after the workers this process has the machine to itself
    objective = RecipeObjective(space, data, DEFAULT_ROOT, alone)
    found = begin(space, place, objective.identity(), trials, str(data))
    stop_at = None if timeout is None else time.time() + timeout
    with Store().in_use(f"The search {place.name}"):
        objective.prepare(found, place)
    run_job(Job(space, place, data, DEFAULT_ROOT, trials, stop_at, threads), workers)
    if official:
        with Store().in_use(f"The search {place.name}"):
            score_officially(found, place, objective, official, alone)
    return state_of(found, place), place.shown


@app.command()
def status(
    study: StudyArgument,
    name: NameOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Renew the table until the cap is reached (Ctrl-C ends it).")
    ] = False,
    every: Annotated[float, typer.Option("--every", min=0.2, help="Seconds between two looks with --watch.")] = 2.0,
    as_json: JsonOption = False,
) -> None:
    """Show how a search stands: trials by state, the best, who works on what, the hit rate, what failed and why.

    Example: kit tune status stats-search --watch
    """
    from kit.tune.status import status as state_of
    from kit.tune.storage import open_existing

    found, place = open_existing(study, name)
    if as_json:
        print_json(state_of(found, place))
        return
    if not watch:
        _print(_page(state_of(found, place)))
        return
    import time

    from rich.live import Live

    with Live(_page(state := state_of(found, place)), auto_refresh=False) as live:
        while state["cap"] is None or state["taken"] < state["cap"] or state["running"]:
            time.sleep(every)
            live.update(_page(state := state_of(found, place)), refresh=True)


@app.command()
def best(
    study: StudyArgument,
    out: Annotated[Path | None, typer.Option("--out", help="Write the recipe there instead of printing it.")] = None,
    recipe_name: Annotated[str | None, typer.Option("--recipe-name", help="Another name for the recipe.")] = None,
    trial: Annotated[int | None, typer.Option("--trial", help="This trial instead of the best.")] = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the winner as a plain recipe, with comments that say where it comes from.

    The winner has the highest sum under the official probe where `--official` was asked for, else the highest value.

    Example: kit tune best stats-search --out pipelines/tuned.toml --recipe-name tuned
    """
    from kit.tune.best import recipe_of, recipe_text, winner, write_recipe
    from kit.tune.storage import open_existing

    found, place = open_existing(study, name)
    chosen = winner(found, trial)
    text = recipe_text(found, chosen, place, recipe_name)
    if out is not None:
        write_recipe(out, text)
    if as_json:
        recipe = recipe_of(found, chosen).model_dump(mode="json", exclude_none=True)
        print_json({"trial": chosen.number, "values": chosen.values, "params": chosen.params, "recipe": recipe})
    elif out is None:
        typer.echo(text, nl=False)
    else:
        typer.echo(f"{out}: trial {chosen.number}; build it with `kit submit {out} --data DIR`")


@app.command()
def report(
    study: StudyArgument,
    out: Annotated[Path | None, typer.Option("--out", help="The HTML file; by default tune-NAME.html.")] = None,
    name: NameOption = None,
) -> None:
    """Write one HTML file that works offline: history, importances, slices, cost, hit rate, what was pruned and why.

    Example: kit tune report stats-search --out stats-search.html
    """
    from kit.tune.report import write_report
    from kit.tune.storage import open_existing

    found, place = open_existing(study, name)
    path = out or Path(f"tune-{found.study_name}.html")
    write_report(found, place, path)
    typer.echo(f"{path} ({path.stat().st_size / 2**20:.1f} MiB)")


def _print(page: RenderableType) -> None:
    from kit.cli.console import Console

    console = Console(least=120)  # a cut number is worth nothing; a terminal may wrap
    console.print(page)


def _page(state: dict[str, Any]) -> RenderableType:
    """The status as a rich page."""
    from rich.console import Group
    from rich.markup import escape

    counts = ", ".join(f"{number} {name}" for name, number in state["trials"].items() if number)
    hits = state["hit_rate"]
    lines = [
        f"[bold]{state['study']}[/bold] on {state['data']}: {state['taken']} of {state['cap']} trials ({counts or 'none'})"
    ]
    if hits["asked"]:
        lines.append(f"blocks found in the store: {hits['fresh']} of {hits['asked']} ({hits['rate']:.0%})")
    if state["seconds_per_trial"] is not None:
        left = max((state["cap"] or 0) - state["taken"], 0) * state["seconds_per_trial"]
        workers = max(len({(row["host"], row["pid"]) for row in state["running"]}), 1)
        tail = f", about {max(left / workers / 60, 1):.0f} min left" if left and state["running"] else ""
        lines.append(f"median trial {state['seconds_per_trial']:.1f} s{tail}")
    shown = [row for row in state["reasons"] if row["state"] != "pruned"][-5:]
    failed = [f"  trial {row['trial']} {row['state']}: {escape(row['reason'])}" for row in shown]
    return Group("\n".join(lines), _best_table(state), *_running_table(state), *failed)


def _best_table(state: dict[str, Any]) -> RenderableType:
    from rich import box
    from rich.table import Table

    rows = list(state["best"])
    if state["defaults"] and all(row["trial"] != state["defaults"]["trial"] for row in rows):
        rows.append(state["defaults"])
    tasks = list(rows[0]["scores"] or {}) if rows else []
    table = Table(box=box.SIMPLE_HEAD, title="best", title_justify="left")
    goals = [state["gain"] if goal == "score" else goal for goal in state["goals"]]
    official = ["official sum"] if state["official"] else []
    for head in (
        "trial",
        *goals,
        *(task.replace("propensity_", "") for task in tasks),
        "sum",
        "width",
        "seconds",
        *official,
    ):
        table.add_column(str(head), justify="right", no_wrap=True)
    for row in rows:
        mark = " (defaults)" if state["defaults"] and row["trial"] == state["defaults"]["trial"] else ""
        scores = [f"{(row['scores'] or {}).get(task, float('nan')):.4f}" for task in tasks]
        extra = [f"{state['official'].get(str(row['trial']), {}).get('sum', '')}"] if official else []
        numbers = zip(state["goals"], row["values"], strict=True)
        values = [f"{value:+.3f}" if goal == "score" else f"{value:g}" for goal, value in numbers]
        table.add_row(
            f"{row['trial']}{mark}", *values, *scores, f"{row['sum']}", f"{row['width']}", f"{row['seconds']}", *extra
        )
    return table


def _running_table(state: dict[str, Any]) -> list[RenderableType]:
    from rich import box
    from rich.table import Table

    if not state["running"]:
        return []
    table = Table(box=box.SIMPLE_HEAD, title="running", title_justify="left")
    for head in ("trial", "host", "process", "seconds", "last sign of life", "steps done"):
        table.add_column(head, justify="right")
    for row in state["running"]:
        table.add_row(*(str(row[key]) for key in ("trial", "host", "pid", "seconds", "last_sign_of_life", "steps")))
    return [table]
