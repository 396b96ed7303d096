"""Workers: processes that take trials until the cap, the clock or an error stops them, and the one that minds them."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import optuna
from optuna.trial import TrialState

from kit import tracking
from kit.errors import KitError
from kit.progress import say
from kit.store import Store
from kit.trouble import disk_trouble, sentence, unforeseen
from kit.tune.claims import Worker, claim, counted, give_back, sign_of_life
from kit.tune.space import Space
from kit.tune.storage import StudyPlace, causes, is_full
from kit.tune.study import Grid, best_trials, is_first, join

if TYPE_CHECKING:
    from kit.tune.objective import TrialObjective

IN_A_ROW: Final = 5
"""So many failures one after the other end a worker: something is wrong with all trials."""
RESTARTS: Final = 3
"""A killed worker is replaced this many times per worker asked for."""
GRACE: Final = 30.0
"""Seconds that workers get to give their trials back when the run is stopped."""
MOMENT: Final = 2.0
"""Seconds after an interrupt in which a worker ends if the interrupt reached it as well."""
TRACE: Final = 2_000
"""Characters kept of a failed trial's traceback."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to know.

    Attributes:
        space: the search space.
        place: where the study is.
        data: split data folder.
        root: of the artefact store.
        cap: trials in all.
        stop_at: seconds since 1970 after which no trial is begun; None for never.
        threads: per worker.
    """

    space: Space
    place: StudyPlace
    data: Path
    root: Path
    cap: int
    stop_at: float | None = None
    threads: int | None = None


Make = Callable[[Job], "TrialObjective"]


def make_objective(job: Job) -> TrialObjective:
    """The real objective of a job; torch is loaded here, in the process that needs it."""
    from kit.tune.objective import RecipeObjective

    return RecipeObjective(job.space, job.data, job.root, job.threads)


def work(job: Job, worker: int = 0, make: Make = make_objective) -> int:
    """Take and run trials until there is nothing left to take; the number that were run.

    Raises:
        KitError: the defaults fail, five trials in a row fail, or the disk is full. Running trials are given back.
    """
    about = {"study": job.place.name, "storage": job.place.shown, "worker": worker, "cap": job.cap}
    with tracking.run("tune", about, job.root / "runs"), Store(job.root).in_use(f"The search {job.place.name}"):
        return _work(job, worker, make)


def _work(job: Job, worker: int, make: Make) -> int:
    study, objective, me = join(job.space, job.place, worker), make(job), Worker.here()
    objective.prepare(study, job.place)
    done, failures = 0, 0
    while not _late(job) and not _orphaned():
        if isinstance(study.sampler, Grid) and study.sampler.exhausted:
            say("  every combination of the grid was tried")
            break
        trial = claim(study, job.place, me, job.cap)
        if trial is None:
            break
        reason = run_trial(study, trial, objective, me)
        done += 1
        failures = failures + 1 if reason else 0
        if reason and (is_first(trial) or failures >= IN_A_ROW):
            which = "the recipe's defaults fail" if is_first(trial) else f"{failures} trials in a row failed"
            raise KitError(f"The search cannot work: {which}: {reason}", "Mend the recipe and begin another --study.")
    return done


def run_trial(study: optuna.Study, trial: optuna.Trial, objective: TrialObjective, me: Worker) -> str | None:
    """Run one trial and store what became of it.

    Returns:
        None, or why it failed.

    Raises:
        KitError: the disk is full; the trial stays as it is and is run again by the same command.
        KeyboardInterrupt, SystemExit: stopped; the trial has been given back.
    """
    reason = None
    try:
        with sign_of_life(trial, me):
            values = objective(trial)
        _tell(study, trial, TrialState.COMPLETE, values)
    except optuna.TrialPruned as pruned:
        trial.set_user_attr("reason", str(pruned))
        _tell(study, trial, TrialState.PRUNED)
    except (KeyboardInterrupt, SystemExit):
        with suppress(KitError, OSError):
            give_back(study, study._storage.get_trial(trial._trial_id), "the run was stopped", deadly=False)
        raise
    except Exception as error:
        if is_full(error):
            if isinstance(error, KitError):
                raise
            raise _no_room(error) from error
        if isinstance(error, optuna.exceptions.UpdateFinishedTrialError):
            say(f"  trial {trial.number} was taken over by another worker: this one had been silent for too long")
            return None
        reason = str(error) if isinstance(error, KitError) else f"{type(error).__name__}: {error}"
        trial.set_user_attr("reason", reason)
        if not isinstance(error, KitError):
            trial.set_user_attr("traceback", traceback.format_exc()[-TRACE:])
        _tell(study, trial, TrialState.FAIL)
    _say(study, trial, reason)
    return reason


def run(job: Job, workers: int = 1, make: Make = make_objective) -> None:
    """Run a job with so many processes; one runs here. A worker that was killed is replaced, its trial run again.

    Raises:
        KitError: the first error of any worker, or too many killed workers.
    """
    if workers == 1:
        work(job, 0, make)
        return
    team = Team(job, make, workers)
    try:
        while team.members:
            multiprocessing.connection.wait([process.sentinel for process, _ in team.members.values()], timeout=1)
            team.look()
    except (KeyboardInterrupt, SystemExit) as stop:
        team.dismiss(signalled=isinstance(stop, KeyboardInterrupt))
        raise
    if team.errors:
        raise team.errors[0]
    if team.killed > RESTARTS * workers:
        raise KitError(
            f"Workers were killed {team.killed} times.", "Out of memory? Use fewer --workers; the same command goes on."
        )


class Team:
    """The worker processes of a run.

    Attributes:
        members: index → process and the pipe that its error comes through.
        killed: how many ended without a word.
        errors: what the others said.
    """

    def __init__(self, job: Job, make: Make, workers: int) -> None:
        self.job, self.make, self.workers = job, make, workers
        self.killed = 0
        self.errors: list[KitError] = []
        self.members = {index: self._start(index) for index in range(workers)}

    def look(self) -> None:
        """See who has ended; replace who was killed."""
        for index, (process, pipe) in list(self.members.items()):
            if process.exitcode is None:
                continue
            del self.members[index]
            error = _said(pipe)
            if error is not None:
                self.errors.append(error)
            elif process.exitcode != 0:
                self.killed += 1
                say(f"  worker {index} was killed (exit code {process.exitcode})")
                if self.killed <= RESTARTS * self.workers and not _late(self.job):
                    fresh = (
                        index + self.workers * self.killed
                    )  # another index: it must not repeat its forerunner's draws
                    self.members[fresh] = self._start(fresh)

    def dismiss(self, *, signalled: bool) -> None:
        """Wait while workers give their trials back. Ctrl-C in a terminal reached them too; an interrupt that was sent to this
        process alone, or another signal, did not: who does not end by itself in a moment is told, and at last is killed."""
        processes = [process for process, _ in self.members.values()]
        for process in processes:
            process.join(MOMENT if signalled else 0)
            if process.is_alive():
                process.terminate()
        end = time.monotonic() + GRACE
        for process in processes:
            process.join(max(end - time.monotonic(), 0.1))
            if process.is_alive():
                process.kill()

    def _start(self, index: int) -> tuple[BaseProcess, Connection]:
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(self.job, index, self.make, theirs), name=f"tune-worker-{index}")
        process.start()
        theirs.close()
        return process, mine


def _child(job: Job, index: int, make: Make, pipe: Connection) -> None:
    """A worker's process: errors go home through the pipe, in words."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        work(job, index, make)
    except Exception as error:
        pipe.send(sentence(error) or unforeseen(error, job.root / "errors"))
    except KeyboardInterrupt:
        os._exit(0)  # without a traceback: the parent says that it was stopped


def _said(pipe: Connection) -> KitError | None:
    """The error that a worker sent before it ended."""
    try:
        return pipe.recv() if pipe.poll() else None
    except EOFError:
        return None
    finally:
        pipe.close()


def _orphaned() -> bool:
    """Whether the process that minds this worker is gone: then nobody wants its trials now."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


def _late(job: Job) -> bool:
    return job.stop_at is not None and time.time() >= job.stop_at


def _tell(study: optuna.Study, trial: optuna.Trial, state: TrialState, values: Any = None) -> None:  # noqa: ANN401
    """Optuna's tell; a trial that was given away meanwhile is left to its new worker."""
    study.tell(trial, values, state=state, skip_if_finished=True)


def _no_room(error: BaseException) -> Exception:
    """The KitError for what is behind an error of which `is_full` holds."""
    found = (disk_trouble(cause, Path()) for cause in causes(error))
    return next(trouble for cause, trouble in zip(causes(error), found, strict=True) if trouble is not cause)


def _say(study: optuna.Study, trial: optuna.Trial, reason: str | None) -> None:
    """One line per trial, and the run's log."""
    frozen = study._storage.get_trial(trial._trial_id)
    numbers = {f"value{i or ''}": value for i, value in enumerate(frozen.values or [])}
    tracking.log("trial", numbers, step=trial.number, about={"state": frozen.state.name.lower()})
    ranked = best_trials(study)
    result = frozen.user_attrs.get("result", {})
    if reason:
        state = f"failed: {reason}"
    elif frozen.state is TrialState.PRUNED:
        state = f"pruned {frozen.user_attrs.get('reason', '')}"
    else:
        state = ", ".join(f"{value:.4g}" for value in frozen.values or [])
    best = f"; best {ranked[0].values[0]:.4g} (trial {ranked[0].number})" if ranked else ""
    blocks = f"; {result['fresh']} of {result['asked']} blocks fresh, {result['seconds']:.1f} s" if result else ""
    say(f"  trial {trial.number} ({counted(study)} taken): {state}{best}{blocks}")
