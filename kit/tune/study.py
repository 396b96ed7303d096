"""Studies: made once with the search space in them, joined by every later run, sampler and pruner by the search table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, BruteForceSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from kit import __version__
from kit.errors import KitError
from kit.store import digest
from kit.tune.space import Search, Space, default_params, leaves, parse_space
from kit.tune.storage import StudyPlace, study_lock

DIRECTIONS: Final[dict[str, Literal["maximize", "minimize"]]] = {
    "score": "maximize",
    "seconds": "minimize",
    "width": "minimize",
}
FEW: Final = 5
"""The median pruner waits for as many finished trials."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Grid(BruteForceSampler):
    """Every combination once, conditional keys included; in random order.

    Attributes:
        exhausted: nothing is left to try.
    """

    exhausted = False

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Optuna's sampler ends the study by `study.stop()`, which outside of `optimize` is a RuntimeError."""
        try:
            super().after_trial(study, trial, state, values)
        except RuntimeError:
            self.exhausted = True


class MedianPruner(BasePruner):
    """Stops a trial whose value is below the median of earlier trials at the same step.

    Optuna's own compares the best value that the trial ever reported; a running mean that fell would never be stopped.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether to stop."""
        step = trial.last_step
        others = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        values = [other.intermediate_values[step] for other in others if step in other.intermediate_values]
        if step is None or len(values) < FEW:
            return False
        return bool(trial.intermediate_values[step] < np.median(values))


def make_sampler(space: Space, stream: Sequence[int]) -> BaseSampler:
    """The sampler that the search table names.

    Args:
        space: search table, and the leaves that a grid or CMA-ES must suit.
        stream: numbers that make this worker's draws its own (worker, runs that joined before); equal numbers give equal draws.

    Raises:
        KitError: the space does not suit the sampler.
    """
    search = space.search
    seed = int(digest([search.seed, *stream])[:8], 16)
    if search.sampler == "random":
        return RandomSampler(seed=seed)
    if search.sampler == "grid":
        for name, distribution in space.parameters().items():
            if isinstance(distribution, FloatDistribution) and distribution.step is None:
                raise KitError(
                    f"{name} has no step, so a grid over it has no end.", "Give it `step`, or another sampler."
                )
        with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
            return Grid(seed=seed)
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        tpe = TPESampler(n_startup_trials=search.startup, seed=seed, multivariate=True, group=True, constant_liar=True)
    if search.sampler == "tpe":
        return tpe
    switched = {path[:-1] for path, _ in leaves(space.raw) if path[-1] == "on"}
    steady = [
        name
        for path, leaf in leaves(space.raw)
        if not leaf.absent and path[:2] not in switched
        for name in [".".join(path)]
        if not isinstance(space.parameters().get(name, CategoricalDistribution([0])), CategoricalDistribution)
    ]
    if len(steady) < 2 or len(search.goals) > 1:
        raise KitError(
            f"CMA-ES suits two or more ranges that are always there, and one goal; {space.where} has {len(steady)} such "
            f"and {len(search.goals)}.",
            'Use sampler = "tpe".',
        )
    return CmaEsSampler(
        n_startup_trials=search.startup, seed=seed, independent_sampler=tpe, warn_independent_sampling=False
    )


def make_pruner(search: Search) -> BasePruner:
    """The pruner that the search table names; none with several goals, where there is no order to prune by."""
    if search.pruner == "none" or len(search.goals) > 1:
        return NopPruner()
    if search.pruner == "median":
        return MedianPruner()
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        return WilcoxonPruner(p_threshold=0.1, n_startup_steps=3)


def begin(space: Space, place: StudyPlace, identity: Mapping[str, str], cap: int, data: str) -> optuna.Study:
    """Make the study with the defaults as its first trial, or join it if it is there.

    Args:
        space: goes into the study as text.
        place: journal or URL, with the study's name.
        identity: what must be the same in all runs of a study.
        cap: trials in all; a later run may raise it.
        data: folder, for the record.

    Raises:
        KitError: the study was begun with another search space, other data or another version of the probe.
    """
    with study_lock(place, "begin"):
        study = optuna.create_study(
            storage=place.storage(),
            study_name=place.name,
            directions=[DIRECTIONS[goal] for goal in space.search.goals],
            load_if_exists=True,
        )
        before = study.user_attrs.get("identity")
        if before is None:
            with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
                study.set_metric_names(list(space.search.goals))
            first = {
                "space": space.text,
                "where": space.where,
                "search": space.search.model_dump(mode="json"),
                "data": data,
                "kit": __version__,
            }
            for key, value in first.items():
                study.set_user_attr(key, value)
            if not study.get_trials(deepcopy=False):
                study.enqueue_trial(default_params(space), user_attrs={"default": True})
            study.set_user_attr("identity", dict(identity))  # last: a study with it is whole
        elif changed := [name for name, value in identity.items() if before.get(name, value) != value]:
            raise KitError(
                f"The study {place.shown} was begun with another {' and another '.join(changed)}: scores would not compare.",
                "Begin another one with --study FILE, or go back to what it was.",
            )
        if study.user_attrs.get("cap") != cap:
            study.set_user_attr("cap", cap)
    return study


def join(space: Space, place: StudyPlace, worker: int) -> optuna.Study:
    """The study with this worker's own sampler."""
    plain = optuna.load_study(study_name=place.name, storage=place.storage())
    with study_lock(place, "join"):
        before = int(plain.user_attrs.get("joins", 0))
        plain.set_user_attr("joins", before + 1)
    plain.sampler = make_sampler(space, (worker, before))
    plain.pruner = make_pruner(space.search)
    return plain


def space_of(study: optuna.Study) -> Space:
    """The search space that a study carries.

    Raises:
        KitError: it carries none: not a study of `kit tune`.
    """
    attributes: dict[str, Any] = study.user_attrs
    if "identity" not in attributes:
        raise KitError(f"The study {study.study_name!r} is not one of `kit tune`.", "Name another one.")
    overrides = attributes["search"]
    return parse_space(attributes["space"], attributes["where"], overrides)


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Complete trials, best first by score; of equal ones the earlier."""
    goals = study.user_attrs.get("search", {}).get("goals", ["score"])
    at = goals.index("score")
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(done, key=lambda trial: (-trial.values[at], trial.number))


def is_first(trial: FrozenTrial | optuna.Trial) -> bool:
    """Whether a trial has the recipe's defaults by order, not by accident."""
    return bool(trial.user_attrs.get("default"))
