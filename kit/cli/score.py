"""`kit score`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kit.cli.common import DataOption, JsonOption, ThreadsOption, use_threads
from kit.cli.options import (
    DeviceOption,
    ForceOption,
    PrecisionOption,
    ProbesOption,
    QuietOption,
    ReorderOption,
    SeedsOption,
    TaskOption,
    precision_named,
    tasks_named,
)

if TYPE_CHECKING:
    from kit.data.layout import DataFolder
    from kit.probes.registry import Options
    from kit.scoring.results import ScoreReport
    from kit.submission.submission import Submission
    from kit.tasks import Task

SubmissionArgument = Annotated[list[Path], typer.Argument(help="Folder with client_ids.npy and embeddings.npy.")]
AgainstOption = Annotated[Path | None, typer.Option("--against", help="Another submission to show beside this one.")]
ExplainOption = Annotated[
    bool,
    typer.Option(
        "--explain",
        help="What the probe read, by block and column: gbm, or fast with the extra shap; writes explain-PROBE.json.",
    ),
]
ClientsOption = Annotated[
    str | None, typer.Option("--clients", help="Ids, with commas, whose margins --explain takes apart.")
]


def score(
    submissions: SubmissionArgument,
    data: DataOption,
    probe: ProbesOption = None,
    task: TaskOption = None,
    seeds: SeedsOption = 1,
    reorder: ReorderOption = False,
    precision: PrecisionOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    against: AgainstOption = None,
    explain: ExplainOption = False,
    clients: ClientsOption = None,
    calibrate: Annotated[bool, typer.Option("--calibrate", hidden=True)] = False,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train probes on a submission's vectors and score the six tasks; results are kept in SUBMISSION/scores.json.

    Example: kit score submissions/stats --data data/small --probe fast --probe gbm

    Example: kit score submissions/stats --data data/small --seeds 3 --reorder

    Example: kit score submissions/stats --data data/small --probe gbm --explain --clients 1234,5678
    """
    use_threads(threads)
    from kit.cli.score_table import show
    from kit.data.layout import DataFolder
    from kit.probes.registry import Options
    from kit.store import Store
    from kit.submission.submission import Submission

    _require_one(submissions, calibrate=calibrate)
    folder, names = DataFolder(data), list(dict.fromkeys(probe or ["fast"]))
    options = Options(seeds, precision_named(precision, "fp32"), threads, device, not quiet, reorder=reorder)
    with Store().in_use(f"The scoring of {submissions[0]}"):
        submission, rival = Submission.open(submissions[0]), Submission.open(against) if against else None
        call = Call(folder, tasks_named(task), options, force, explain, clients)
        check_call(names, call, precision)
        reports = [(_scored(submission, name, call), _beside(rival, name, call)) for name in names]
    show(reports, folder, as_json=as_json, quiet=quiet)
    if all("undefined" in entry for own, _ in reports for entry in own.tasks.values()):
        raise typer.Exit(1)  # nothing was scored: a program must not go on as if there were a result


@dataclass(frozen=True)
class Call:
    """What one call of `kit score` asks of every probe: how probes are run is in `options`."""

    folder: DataFolder
    tasks: list[Task] | None
    options: Options
    force: bool
    explain: bool
    clients: str | None


def _require_one(submissions: list[Path], *, calibrate: bool) -> None:
    """KitError for what this command does not do, with the one that does."""
    from kit.errors import KitError

    if calibrate:
        shown = " ".join(map(str, submissions))
        raise KitError("`kit score --calibrate` is `kit calibrate` now.", f"Run `kit calibrate {shown} --data DIR`.")
    if len(submissions) != 1:
        raise KitError(
            f"{len(submissions)} submissions were given.", "Score one, with --against for a second beside it."
        )


def _beside(rival: Submission | None, name: str, call: Call) -> ScoreReport | None:
    """The submission to show beside; what is known of it is neither forced nor explained."""
    return None if rival is None else _scored(rival, name, replace(call, force=False, explain=False))


def _scored(submission: Submission, name: str, call: Call) -> ScoreReport:
    """Score a submission with a probe, remember it, explain it where that was asked for."""
    from kit.probes.registry import PROBES
    from kit.scoring.score import score_and_keep
    from kit.studies.attributions import client_rows, explain_report

    explained = call.explain and PROBES.loaded()[name].explaining is not None
    rows = client_rows(submission, call.clients, call.folder.root) if explained else None
    options = replace(call.options, explain=rows)
    report = score_and_keep(submission, call.folder, name, call.tasks, options, force=call.force)
    return explain_report(report, submission, call.folder, options) if explained else report


def check_call(names: list[str], call: Call, precision: str | None) -> None:
    """What would be found out only after something was trained: probes, precision, device.
    Vectors are not read here: that is a pass over all of them, and scoring begins with it."""
    from kit.errors import KitError
    from kit.probes.mlp import pick_device
    from kit.probes.registry import PROBES
    from kit.studies.attributions import check_explainable

    if call.explain or call.clients:
        check_explainable(names, call.clients, explain=call.explain)
    probes = PROBES.loaded()
    for probe in [probes[name] for name in names]:
        if precision and precision not in probe.precisions:
            raise KitError(
                f"The {probe.name} probe knows {' and '.join(probe.precisions)}, not {precision}.",
                "Leave --precision out, or give --probe official.",
            )
    pick_device(call.options.device)
