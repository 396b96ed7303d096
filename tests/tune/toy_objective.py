"""An objective for worker processes: quick, known answers, and a log of who ran what. Imported by spawned workers."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import optuna

from kit.tune.space import from_trial
from kit.tune.storage import StudyPlace
from kit.tune.study import begin
from kit.tune.workers import Job

TOY = """
name = "toy"
[search]
pruner = "none"
startup = 3
[blocks.a]
kind = "stats"
families = ["presence"]
weight = { low = 0.1, high = 2.0, log = true, default = 1.0 }
[blocks.b]
on = { choices = [true, false], default = true }
kind = "stats"
families = ["recency"]
scale = { choices = ["quantile", "standard"], default = "quantile" }
[assembly]
row_norm = { low = 1.0, high = 20.0, absent = true, default = "absent" }
clip = { low = 2.0, high = 8.0, step = 2.0, default = 6.0 }
"""


IDENTITY = {"search space": "s", "data": "d", "probe's code": "c"}


class Toy:
    """−(weight − 0.5)² − clip / 100, minus 1 without block b; appends `number pid` to a file when it begins a trial."""

    def __init__(self, job: Job) -> None:
        self.space, self.log = job.space, job.data / "begun.txt"

    def prepare(self, study: optuna.Study, place: StudyPlace) -> None:
        pass

    def __call__(self, trial: optuna.Trial) -> Sequence[float]:
        tables = self.space.tables(from_trial(trial))
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(f"{trial.number} {os.getpid()}\n")
        blocks = tables["blocks"]
        return [-((blocks["a"]["weight"] - 0.5) ** 2) - tables["assembly"]["clip"] / 100 - ("b" not in blocks)]


def quick(job: Job) -> Toy:
    return Toy(job)


def together(job: Job) -> Toy:
    """Every trial waits until three processes have begun one."""

    class Meeting(Toy):
        def __call__(self, trial: optuna.Trial) -> Sequence[float]:
            values = super().__call__(trial)
            while len({pid for _, pid in begun(self.log.parent)}) < 3:
                time.sleep(0.02)
            return values

    return Meeting(job)


def endless(job: Job) -> Toy:
    """Every trial waits until a file appears: time enough to be killed in."""

    class Waiting(Toy):
        def __call__(self, trial: optuna.Trial) -> Sequence[float]:
            values = super().__call__(trial)
            while not (self.log.parent / "go").exists():
                time.sleep(0.02)
            return values

    return Waiting(job)


def start(job: Job) -> optuna.Study:
    """The job's study, begun or joined."""
    return begin(job.space, job.place, IDENTITY, job.cap, str(job.data))


def begun(folder: Path) -> list[tuple[int, int]]:
    """(trial, process) in the order in which they were begun."""
    file = folder / "begun.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [(int(number), int(pid)) for number, pid in (line.split() for line in lines)]
