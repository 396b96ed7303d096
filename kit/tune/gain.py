"""What a trial is worth: its scores against a reference, in units of each task's seed noise; or a sum; or Borda points.

A task whose score wobbles by .004 from seed to seed must not outvote one that wobbles by .0005: the mean of
z = (score − reference) / noise weighs a gain by how sure it is. Noise is the standard deviation of the reference's score
over the probe's seeds, and, if asked for, its standard error over clients beside it: a task with few clients may wobble little
from seed to seed and much from one set of clients to the next. Trial and reference are paired by seed, so what the probe's
start does to both cancels, and the defaults come out at exactly 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.stats import norm

from kit.scoring.scorer import Scores
from kit.tasks import Task, find_task

LEAST_NOISE: Final = 2e-4
"""Noise is never taken to be smaller: a few seeds may agree by accident."""


@dataclass(frozen=True)
class Reference:
    """What trials are compared with.

    Attributes:
        scores: task → score at each of the trial's seeds.
        noise: task → standard deviation over `noise_seeds` seeds, with the error over clients added if asked for.
        rivals: scores of the stored submissions to compete with, by name.
    """

    scores: Mapping[Task, Sequence[float]]
    noise: Mapping[Task, float]
    rivals: Mapping[str, Mapping[Task, float]]

    @classmethod
    def of(
        cls,
        scores: Scores,
        seeds: int,
        rivals: Mapping[str, Mapping[Task, float]],
        errors: Mapping[Task, float] | None = None,
    ) -> Reference:
        """From the reference's scores at all seeds, of which a trial uses the first `seeds`, and its errors over clients."""
        tasks = list(dict.fromkeys(task for task, _ in scores))
        count = 1 + max(seed for _, seed in scores)
        table = {task: np.array([scores[task, seed] for seed in range(count)]) for task in tasks}
        wobble = {task: math.hypot(values.std(ddof=1), (errors or {}).get(task, 0.0)) for task, values in table.items()}
        noise = {task: max(value, LEAST_NOISE) for task, value in wobble.items()}
        return cls({task: values[:seeds].tolist() for task, values in table.items()}, noise, rivals)

    def as_json(self) -> dict[str, Any]:
        """For the study's attributes."""
        return {
            "scores": {task.name: list(scores) for task, scores in self.scores.items()},
            "noise": {task.name: noise for task, noise in self.noise.items()},
            "rivals": {name: {task.name: s for task, s in scores.items()} for name, scores in self.rivals.items()},
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Reference:
        """The inverse of `as_json`."""
        rivals = {name: _tasks(scores) for name, scores in raw["rivals"].items()}
        return cls({find_task(name): list(s) for name, s in raw["scores"].items()}, _tasks(raw["noise"]), rivals)

    def mean(self, task: Task) -> float:
        """The reference's score, over the trial's seeds."""
        return float(np.mean(self.scores[task]))


def task_gain(kind: str, task: Task, seed: int, score: float, reference: Reference) -> float:
    """One task's share of a trial's value at one seed; the value is their mean (zscore) or their sum, averaged over seeds.

    Borda: the expected number of rivals beaten, each with probability Φ(difference / (√2 · noise)); a plain count would be a
    staircase, on which no sampler can feel its way.
    """
    if kind == "zscore":
        return (score - reference.scores[task][seed]) / reference.noise[task]
    if kind == "borda":
        wide = math.sqrt(2) * reference.noise[task]
        return float(
            sum(norm.cdf((score - rival[task]) / wide) for rival in reference.rivals.values() if task in rival)
        )
    return score


def total_gain(kind: str, gains: Sequence[float], seeds: int) -> float:
    """A trial's value from its gains at all tasks and seeds."""
    return float(np.mean(gains)) if kind == "zscore" else float(sum(gains)) / seeds


def _tasks(raw: Mapping[str, float]) -> dict[Task, float]:
    return {find_task(name): float(value) for name, value in raw.items()}
