"""Who works on which trial: claims under a cap that holds for all workers, signs of life, and trials of dead workers.

A claim happens under the study's lock: trials of dead workers are given back, finished and running ones are counted, and only
below the cap a trial is taken. A worker is dead if its process is gone (same machine) or its last sign of life is older than
SILENCE (other machines). Its trial is marked as lost with the reason, does not count towards the cap, and is queued again with
the same parameters, up to TRIES times: a trial that kills every worker must not do so for ever.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState

from kit.progress import say
from kit.tune.storage import StudyPlace, study_lock

BEAT: Final = 30.0
"""Seconds between signs of life."""
SILENCE: Final = 180.0
"""A worker on another machine that was silent for so many seconds is dead."""
TRIES: Final = 3
"""A trial is given to at most this many workers."""


@dataclass(frozen=True)
class Worker:
    """A process that runs trials.

    Attributes:
        host: machine and process namespace.
        pid: process id there.
        started: when that process was created, seconds since 1970: a pid may be used again.
        token: differs between two runs in one process.
    """

    host: str
    pid: int
    started: float
    token: str

    @classmethod
    def here(cls) -> Worker:
        """This process."""
        return cls(_host(), os.getpid(), psutil.Process().create_time(), uuid.uuid4().hex[:8])


def claim(study: optuna.Study, place: StudyPlace, me: Worker, cap: int) -> optuna.Trial | None:
    """Take the next trial, or None when the study has `cap` of them.

    Counted are running, finished, pruned and failed trials; lost ones are not, since they are run again.
    """
    with study_lock(place, "claim"):
        reclaim(study, me)
        if counted(study) >= cap:
            return None
        trial = study.ask()
        trial.set_user_attr("worker", asdict(me) | {"beat": time.time()})
        return trial


def counted(study: optuna.Study) -> int:
    """Trials that count towards the cap."""
    return sum(
        trial.state != TrialState.WAITING and not trial.user_attrs.get("lost")
        for trial in study.get_trials(deepcopy=False)
    )


def reclaim(study: optuna.Study, me: Worker) -> list[int]:
    """Give back the running trials whose workers are dead; their numbers. Call it under the lock of `claim`."""
    numbers = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        why = why_dead(trial.user_attrs.get("worker"), me)
        if why and give_back(study, trial, why):
            say(f"  trial {trial.number} is run again: {why}")
            numbers.append(trial.number)
    return numbers


def why_dead(owner: dict[str, Any] | None, me: Worker) -> str | None:
    """Why a running trial will not be finished by its owner; None if it may be."""
    if owner is None:  # claims are signed before the lock is released, so the claimer died in between
        return "its worker was killed while taking it"
    if owner["host"] != me.host:
        silent = time.time() - float(owner["beat"])
        return f"its worker on {owner['host']} has been silent for {silent:.0f} s" if silent > SILENCE else None
    if owner["pid"] == me.pid and abs(owner["started"] - me.started) < 1:
        return "the run was stopped"  # a worker claims only when it has nothing running
    try:
        process = psutil.Process(owner["pid"])
        alive = abs(process.create_time() - owner["started"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        alive = False
    return None if alive else f"its worker (process {owner['pid']}) is gone"


def give_back(study: optuna.Study, trial: FrozenTrial, why: str, *, deadly: bool = True) -> bool:
    """Mark a running trial as lost and queue its parameters again; False if somebody else finished it meanwhile.

    A trial that took its workers with it is tried no more than TRIES times; one that was stopped on purpose is not `deadly`.
    """
    tries = int(trial.user_attrs.get("tries", 1)) - (not deadly)
    again = tries < TRIES
    note = why if again else f"{why}, as {tries - 1} workers before it: not tried again"
    try:
        annotate(study, trial, "reason", note)
        if again:  # queued before it is marked: a kill in between may double a trial, but never lose one
            annotate(study, trial, "lost", True)
            kept = {key: trial.user_attrs[key] for key in ("default",) if key in trial.user_attrs}
            study.enqueue_trial(
                {**trial.system_attrs.get("fixed_params", {}), **trial.params},
                user_attrs={**kept, "tries": tries + 1, "retry_of": trial.user_attrs.get("retry_of", trial.number)},
            )
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        return False
    return True


def annotate(study: optuna.Study, trial: FrozenTrial, key: str, value: object) -> None:
    """Set a user attribute of another worker's trial; Optuna's storages offer this to dashboards and the like."""
    study._storage.set_trial_user_attr(trial._trial_id, key, value)


@contextmanager
def sign_of_life(trial: optuna.Trial, me: Worker, every: float = BEAT) -> Iterator[None]:
    """Renew the claim's time stamp while the trial runs."""
    stop = Event()

    def beat() -> None:
        while not stop.wait(every):
            with suppress(Exception):  # whatever is wrong with the storage, the trial's own writes will say it
                trial.set_user_attr("worker", asdict(me) | {"beat": time.time()})

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def tally(study: optuna.Study) -> dict[str, int]:
    """Trials by what became of them: waiting, running, complete, pruned, failed, lost."""
    names = {TrialState.FAIL: "failed"}
    count: Counter[str] = Counter(
        "lost" if trial.user_attrs.get("lost") else names.get(trial.state, trial.state.name.lower())
        for trial in study.get_trials(deepcopy=False)
    )
    return {name: count[name] for name in ("waiting", "running", "complete", "pruned", "failed", "lost")}


def _host() -> str:
    """Machine and process namespace: two containers may share the name and still not see each other's processes."""
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}/{namespace.readlink()}" if namespace.is_symlink() else socket.gethostname()
