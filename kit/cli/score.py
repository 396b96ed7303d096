"""`kit score`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from kit.cli.common import DataOption, JsonOption, ThreadsOption, use_threads

if TYPE_CHECKING:
    from kit.data.layout import DataFolder
    from kit.probes.registry import Precision
    from kit.scoring.results import ScoreReport
    from kit.tasks import Task


def score(
    submissions: Annotated[
        list[Path], typer.Argument(help="Folder with client_ids.npy and embeddings.npy; several with --calibrate.")
    ],
    data: DataOption,
    probe: Annotated[
        list[str] | None, typer.Option("--probe", help="official, fast or gbm; repeat for several. Default: fast.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            help="One task, such as churn or price, or one of your own; repeat for several. Default: the challenge's six.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Runs per task; the first has the official seed.")] = 1,
    reorder: Annotated[
        bool,
        typer.Option(
            "--reorder",
            help="Of --seeds, every run but the first reads the rows in another random order: adds its noise, larger "
            "than the start's, to the intervals.",
        ),
    ] = False,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            help="Of the official probe: fp32 (default), or bf16 (default of --calibrate), faster where there are units. "
            "The fast probe has bf16 where there are units, else fp32.",
        ),
    ] = None,
    threads: ThreadsOption = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    against: Annotated[
        Path | None, typer.Option("--against", help="Another submission to show beside this one.")
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="What the probe read, by block and column: gbm, or fast with the extra shap; writes explain-PROBE.json.",
        ),
    ] = False,
    clients: Annotated[
        str | None, typer.Option("--clients", help="Ids, with commas, whose margins --explain takes apart.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Which cheap stand-in ranks many profiles as the official probe does?")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the --calibrate study; a rerun goes on from it.")
    ] = None,
    stand_in: Annotated[
        list[str] | None, typer.Option("--stand-in", help="One candidate of --calibrate; repeat for several.")
    ] = None,
    profiles: Annotated[
        int | None, typer.Option("--profiles", help="Only the first so many profiles of --calibrate.")
    ] = None,
    twice: Annotated[
        int | None,
        typer.Option(
            "--twice",
            min=0,
            help="How many profiles of --calibrate the official probe scores again, to learn its own noise; 6 by default, "
            "100 for all: few can mislead.",
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Start nothing in --calibrate after this long.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Score again what is known.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no table and no progress.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train probes on a submission's vectors and score the six tasks; results are kept in SUBMISSION/scores.json.

    Example: kit score submissions/stats --data data/small --probe fast --probe gbm

    Example: kit score submissions/stats --data data/small --seeds 3 --reorder

    Example: kit score submissions/stats --data data/small --probe gbm --explain --clients 1234,5678

    Example: kit score submissions/baseline submissions/stats --data data/small --calibrate --profiles 24
    """
    use_threads(threads)
    from kit.cli.score_table import show
    from kit.data.layout import DataFolder
    from kit.errors import KitError
    from kit.plugins import use_plugins_of
    from kit.store import Store
    from kit.studies.attributions import check_explainable

    for submission in submissions:
        use_plugins_of(submission)
    wanted, folder = tasks_named(task), DataFolder(data)
    exact = precision_named(precision, "bf16" if calibrate else "fp32")
    if not calibrate and len(submissions) != 1:
        raise KitError(
            f"{len(submissions)} submissions were given.", "Score one, with --against for a second beside it."
        )
    if explain or clients:
        check_explainable(probe, clients, explain=explain)
    names = list(dict.fromkeys(probe or ["fast"]))
    asked = {
        "probe": probe, "seeds": seeds != 1, "reorder": reorder, "device": device != "auto", "against": against,
        "explain": explain, "force": force,
    }  # fmt: skip
    study = {"out": out, "stand-in": stand_in, "profiles": profiles, "minutes": minutes, "twice": twice is not None}
    check_options({name: bool(value) for name, value in (asked if calibrate else study).items()}, calibrate=calibrate)
    with Store().in_use(f"The scoring of {', '.join(map(str, submissions))}"):
        if calibrate:
            from kit.cli.calibrate import run_study
            from kit.studies.calibration.calibrate import plan_study

            plan = plan_study(folder, out, wanted, stand_in, profiles, minutes, exact, threads, twice)
            run_study(submissions, folder, plan, as_json=as_json, quiet=quiet)
            return
        call = Call(folder, wanted, seeds, reorder, exact, threads, device, force, not quiet, explain, clients)
        check_call(names, [submissions[0], *([against] if against else [])], call, precision)
        reports = [(_scored(submissions[0], name, call), _rival(against, name, call)) for name in names]
    show(reports, folder, as_json=as_json, quiet=quiet)
    if all("undefined" in entry for own, _ in reports for entry in own.tasks.values()):
        raise typer.Exit(1)  # nothing was scored: a program must not go on as if there were a result


class Call(NamedTuple):
    """What one call of `kit score` asks of every probe."""

    folder: DataFolder
    tasks: list[Task] | None
    seeds: int
    reorder: bool
    precision: Precision
    threads: int | None
    device: str
    force: bool
    progress: bool
    explain: bool
    clients: str | None


def _scored(path: Path, name: str, call: Call) -> ScoreReport:
    """Score a submission with a probe, remember it, explain it where that was asked for."""
    from kit.probes.registry import Options
    from kit.scoring.results import write_scores
    from kit.scoring.score import score_submission
    from kit.studies.attributions import EXPLAINED, client_rows, explain_report

    explained = client_rows(path, call.clients, call.folder.root) if call.explain and name in EXPLAINED else None
    report = score_submission(
        path,
        call.folder,
        name,
        call.tasks,
        call.seeds,
        call.precision,
        call.threads,
        call.progress,
        call.force,
        call.device,
        explained if name == "gbm" else None,
        reorder=call.reorder,
        keep=None if call.explain else lambda part: write_scores(path, [part]),
    )
    write_scores(path, [report])
    if explained is not None:
        options = Options(threads=call.threads, device=call.device, progress=call.progress)
        report, _ = explain_report(report, call.folder, explained, options)
    return report


def _rival(path: Path | None, name: str, call: Call) -> ScoreReport | None:
    """The submission to show beside; what is known of it is neither forced nor explained."""
    return None if path is None else _scored(path, name, call._replace(force=False, explain=False))


def check_options(given: dict[str, bool], *, calibrate: bool) -> None:
    """KitError for an option that the other way of calling knows: it would be ignored."""
    from kit.errors import KitError

    wrong = next((name for name, is_given in given.items() if is_given), None)
    if wrong is not None and calibrate:
        raise KitError(f"--{wrong} means nothing to --calibrate.", "Leave one of the two out.")
    if wrong is not None:
        raise KitError(f"--{wrong} belongs to --calibrate.", "Add --calibrate, or leave it out.")


def check_call(names: list[str], submissions: list[Path], call: Call, precision: str | None) -> None:
    """What would be found out only after something was trained: probes, precision, device, folders, places to write.
    Vectors are not read here: that is a pass over all of them, and scoring begins with it."""
    from kit.errors import KitError
    from kit.probes.mlp import pick_device
    from kit.probes.registry import load_probes
    from kit.scoring.results import require_writable
    from kit.submission.vectors import require_submission

    probes = load_probes()
    for probe in [probes[name] for name in names]:
        if precision and precision not in probe.precisions:
            raise KitError(
                f"The {probe.name} probe knows {' and '.join(probe.precisions)}, not {precision}.",
                "Leave --precision out, or give --probe official.",
            )
    pick_device(call.device)
    for submission in submissions:
        require_submission(submission)
        require_writable(submission)


def tasks_named(names: list[str] | None) -> list[Task] | None:
    """The tasks named, as they or as our tables call them («price»), each once; None for the challenge's six."""
    from kit.errors import KitError, nearest
    from kit.tasks import load_tasks

    tasks = [task for _, task in load_tasks().items()]
    known = {task.short: task for task in tasks} | {task.name: task for task in tasks}
    for name in names or ():
        if name not in known:
            raise KitError(f"There is no task {name!r};", nearest(name, (task.name for task in tasks)))
    return list(dict.fromkeys(known[name] for name in names or ())) or None


def precision_named(name: str | None, default: Precision) -> Precision:
    """The precision named, or the default; KitError if there is no such."""
    from kit.errors import KitError

    if name not in (None, "fp32", "bf16"):
        raise KitError(f"There is no precision {name!r}.", "Choose fp32 or bf16.")
    return default if name is None else "bf16" if name == "bf16" else "fp32"
