"""The objective: a trial's recipe → profile (blocks from the store where fresh) → probe scores → what they are worth."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
from numpy.typing import NDArray

from kit.contract import vectors_digest
from kit.data.layout import DataFolder
from kit.history import History
from kit.probes.registry import Options, Vectors
from kit.profile import build_profile
from kit.progress import say
from kit.recipe import Recipe, read_recipe
from kit.scoring.scorer import Scorer
from kit.store import Store, digest
from kit.submission.submission import Submission
from kit.tasks import Task
from kit.tracking import watching
from kit.tune.epochs import EpochPruner
from kit.tune.gain import Reference, task_gain, total_gain
from kit.tune.hits import CountingStore
from kit.tune.space import Space, defaults, from_trial
from kit.tune.storage import StudyPlace, study_lock


class TrialObjective(Protocol):
    """What a worker runs; tests bring toys."""

    def prepare(self, study: optuna.Study, place: StudyPlace) -> None:
        """Once per worker, before its first trial."""

    def __call__(self, trial: optuna.Trial) -> Sequence[float]:
        """The trial's value per goal.

        Raises:
            optuna.TrialPruned: it was not worth finishing.
        """


@dataclass(frozen=True)
class BuiltTrial:
    """Vectors at hand.

    Attributes:
        clients: (n,) ids.
        vectors: (n, d).
        key: fingerprint of both.
        fresh, asked: blocks found in the store, and blocks needed.
        seconds: what making all its blocks takes, whether they were found or not.
    """

    clients: NDArray[np.int64]
    vectors: Vectors
    key: str
    fresh: int = 0
    asked: int = 0
    seconds: float = 0.0


class RecipeObjective:
    """Scores recipes of a search space on one data folder.

    Args:
        space: the search space.
        data: split data folder.
        root: of the artefact store that trials share.
        threads: for the probe; None for one per core.
    """

    def __init__(self, space: Space, data: Path, root: Path, threads: int | None = None) -> None:
        self.space, self.search, self.root = space, space.search, root
        self.folder = DataFolder(data)
        options = Options(precision=self.search.precision, threads=threads)
        self.scorer = Scorer(self.folder, self.search.probe, self.search.tasks, Store(root), options)
        self.reference: Reference | None = None
        self._histories: dict[str, History] = {}

    def identity(self) -> dict[str, str]:
        """What a study must not change between two runs, by what to call it."""
        evidence = self.scorer.evidence
        return {
            "search space": self.space.fingerprint,
            "data": digest([self._history("keep").fingerprint, evidence["targets"]])[:16],
            "probe's code": evidence["code"],
            "probe's precision": evidence["precision"],
            **{what: key for what in (self.search.reference, *self.search.against) if (key := self._content(what))},
        }

    def _content(self, what: str) -> str:
        """Digest of a recipe's file or a submission's vectors, so that their scores are not kept beyond them; "" for defaults."""
        if what == "defaults" or not Path(what).exists():
            return ""
        return Store(self.root).file_digest(Path(what)) if what.endswith(".toml") else vectors_digest(Path(what))

    def prepare(self, study: optuna.Study, place: StudyPlace) -> None:
        """Score the reference, or find it in the study; whoever comes first does it and all others wait."""
        with study_lock(place, "reference"):
            known = study.user_attrs.get("reference")
            if known is None:
                say(f"  scoring the reference ({self.search.reference}) with {self.search.noise_seeds} seeds …")
                known = self._reference().as_json()
                study.set_user_attr("reference", known)
        self.reference = Reference.from_json(known)

    def _reference(self) -> Reference:
        count = max(self.search.noise_seeds, self.search.seeds)
        built = self._named(self.search.reference)
        tasks = list(self.scorer.defined(built.clients))
        errors: dict[Task, float] = {}
        if self.search.noise == "clients":  # first: the runs that tell errors also serve as the official seed's scores
            errors = self.scorer.client_errors(built.vectors, built.clients, built.key, tasks)
        scores = self.scorer.score(built.vectors, built.clients, built.key, tasks, range(count))
        rivals = {}
        for path in self.search.against:
            rival = self._named(path)
            found = self.scorer.score(rival.vectors, rival.clients, rival.key, tasks, range(self.search.seeds))
            rivals[path] = {task: float(np.mean([found[task, s] for s in range(self.search.seeds)])) for task in tasks}
        return Reference.of(scores, self.search.seeds, rivals, errors)

    def _named(self, what: str) -> BuiltTrial:
        """`defaults`, a recipe file or a submission folder."""
        if what == "defaults":
            return self.build(self.space.recipe(defaults))
        if what.endswith(".toml"):
            return self.build(read_recipe(Path(what)))
        found = Submission.open(Path(what))
        return BuiltTrial(found.ids, found.vectors, found.digest)

    def build(self, recipe: Recipe) -> BuiltTrial:
        """The profile of a recipe; blocks come from the store where they are fresh."""
        store = CountingStore(self.root)
        profile = build_profile(recipe, self._history(recipe.duplicates), store)
        return BuiltTrial(profile.clients, profile.matrix, profile.fingerprint, *store.blocks())

    def _history(self, duplicates: Any) -> History:  # noqa: ANN401 - a word of the recipe's schema
        if duplicates not in self._histories:
            self._histories[duplicates] = History.open(
                self.folder, "input", store=Store(self.root), duplicates=duplicates
            )
        return self._histories[duplicates]

    def __call__(self, trial: optuna.Trial) -> Sequence[float]:
        """Build, score step by step, report each step to the pruner."""
        assert self.reference is not None, "prepare() comes first"
        began = time.perf_counter()
        with watching("epoch", EpochPruner(trial)) if self._prunes and self.search.prune_epochs else nullcontext():
            built = self.build(self.space.recipe(from_trial(trial)))
        width = int(built.vectors.shape[1])
        cost = {"fresh": built.fresh, "asked": built.asked, "block_seconds": built.seconds, "width": width}
        scores: dict[tuple[Task, int], float] = {}
        gains: list[float] = []
        try:
            for step, (tasks, seed) in enumerate(self._steps(built)):
                found = self.scorer.score(built.vectors, built.clients, built.key, tasks, [seed])
                scores |= found
                gains += [task_gain(self.search.gain, task, seed, found[task, seed], self.reference) for task in tasks]
                self._report(trial, step, tasks[0], seed, gains)
        finally:
            took = round(time.perf_counter() - began, 2)
            trial.set_user_attr("result", {**cost, "scores": _means(scores), "seconds": took, "steps": len(gains)})
        value = total_gain(self.search.gain, gains, self.search.seeds)
        every: Mapping[str, float] = {"score": value, "seconds": built.seconds, "width": float(width)}
        return [every[goal] for goal in self.search.goals]

    def _steps(self, built: BuiltTrial) -> Iterator[tuple[list[Task], int]]:
        """What is scored at once: with a pruner a task and a seed, else all tasks of a seed, which share work."""
        tasks = list(self.scorer.defined(built.clients))
        for seed in range(self.search.seeds):
            yield from ([([task], seed) for task in tasks] if self._prunes else [(tasks, seed)])

    @property
    def _prunes(self) -> bool:
        return self.search.pruner != "none" and len(self.search.goals) == 1  # several goals have no order to prune by

    def _report(self, trial: optuna.Trial, step: int, task: Task, seed: int, gains: Sequence[float]) -> None:
        """Tell the pruner about a step: the gain itself for paired tests, the running mean for medians."""
        if not self._prunes:
            return
        trial.report(gains[-1] if self.search.pruner == "wilcoxon" else float(np.mean(gains)), step)
        if trial.should_prune():
            after = f"after {task.name}, seed {seed + 1} of {self.search.seeds}"
            raise optuna.TrialPruned(f"{after}: mean gain so far {float(np.mean(gains)):+.2f} ({self.search.pruner})")


def _means(scores: Mapping[tuple[Task, int], float]) -> dict[str, float]:
    """task → mean over the seeds scored so far, rounded for reading."""
    tasks = dict.fromkeys(task for task, _ in scores)
    return {task.name: round(float(np.mean([v for (t, _), v in scores.items() if t is task])), 6) for task in tasks}
