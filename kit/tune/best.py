"""The winner: the best trials under the official probe, and the best one as a plain recipe that says where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
import tomli_w
from optuna.trial import FrozenTrial, TrialState

from kit.errors import KitError
from kit.probes.registry import Options
from kit.progress import say
from kit.recipe import Recipe, parse
from kit.scoring.scorer import Scorer
from kit.store import write_atomically
from kit.tune.gain import Reference
from kit.tune.objective import BuiltTrial, RecipeObjective
from kit.tune.space import from_params
from kit.tune.storage import StudyPlace, study_lock
from kit.tune.study import best_trials, is_first, space_of

MADE_BY: Final = "made by `kit tune best`"
"""In the head of a recipe that may be written anew."""
OFFICIAL: Final = "official"
"""The study's attribute with official scores: trial number → {scores, sum, sums, precision, runs}."""


def score_officially(
    study: optuna.Study, place: StudyPlace, objective: RecipeObjective, count: int, threads: int | None = None
) -> dict[str, dict[str, Any]]:
    """Score the `count` best trials, and the defaults beside them, with the official probe.

    Args:
        study: finished or not.
        place: for its lock.
        objective: builds the profiles; their blocks are in the store.
        count: how many.
        threads: for the probe; the workers have ended, so all of theirs.

    Returns:
        trial number as text → {"scores": {task: mean score}, "sum": …, "sums": [per run], "precision": …, "runs": …}, those
        in the search's precision and number of runs; also stored in the study, scores also in the artefact store task by task,
        so a killed run goes on where it was.
    """
    space, search = objective.space, objective.space.search
    how = {"precision": search.official_precision, "runs": search.official_seeds}
    scorer = Scorer(
        objective.folder,
        "official",
        search.tasks,
        objective.scorer.store,
        Options(precision=search.official_precision, threads=threads, reorder=True),
    )
    ranked = best_trials(study)
    chosen = ranked[:count] + [trial for trial in ranked[count:] if is_first(trial)]
    for trial in chosen:
        if _alike(study.user_attrs.get(OFFICIAL, {}).get(str(trial.number), {}), how):
            continue
        built = objective.build(space.recipe(from_params(trial.params)))
        where = f"trial {trial.number} ({chosen.index(trial) + 1} of {len(chosen)})"
        runs = _runs(scorer, built, where, search.official_seeds)
        scores = {task: round(float(np.mean([run[task] for run in runs])), 4) for task in runs[0]}
        sums = [round(sum(run.values()), 4) for run in runs]
        with study_lock(place, "official"):
            entry = {"scores": scores, "sum": round(sum(scores.values()), 4), "sums": sums, **how}
            before = study.user_attrs.get(OFFICIAL, {}).items()
            others = {number: other for number, other in before if _alike(other, how)}
            study.set_user_attr(OFFICIAL, {**others, str(trial.number): entry})
    return dict(study.user_attrs.get(OFFICIAL, {}))


def _runs(scorer: Scorer, built: BuiltTrial, where: str, count: int) -> list[dict[str, float]]:
    """Per run task → score; each task by itself: it is kept at once, and six networks would take 5 GB."""
    runs: list[dict[str, float]] = []
    for seed in range(count):
        order = f", row order {seed + 1} of {count}" if count > 1 else ""
        runs.append({})
        for task in scorer.defined(built.clients):
            say(f"  official probe: {where}{order}, {task.name} …")
            found = scorer.score(built.vectors, built.clients, built.key, [task], [seed])
            runs[-1][task.name] = found[task, seed]
    return runs


def _alike(entry: dict[str, Any], how: dict[str, Any]) -> bool:
    """Whether official scores were made in this precision by so many runs: others do not compete."""
    return all(entry.get(key) == value for key, value in how.items())


def winner(study: optuna.Study, number: int | None = None) -> FrozenTrial:
    """The trial with the highest official sum where the official probe was asked, else the highest value.

    Args:
        study: with at least one complete trial.
        number: this trial instead.

    Raises:
        KitError: no complete trial, or no such one.
    """
    if number is not None:
        trials = study.get_trials(deepcopy=False)
        if not 0 <= number < len(trials):
            raise KitError(f"There is no trial {number}.", f"The study has trials 0 to {len(trials) - 1}.")
        return trials[number]
    ranked = best_trials(study)
    if not ranked:
        raise KitError("No trial is complete yet.", "`kit tune status` shows what is running; or mend what failed.")
    official = study.user_attrs.get(OFFICIAL, {})
    scored = [trial for trial in ranked if str(trial.number) in official]
    return max(scored, key=lambda trial: float(official[str(trial.number)]["sum"])) if scored else ranked[0]


def recipe_of(study: optuna.Study, trial: FrozenTrial) -> Recipe:
    """A trial's plain recipe, checked.

    Raises:
        KitError: the trial stopped before all its parameters were drawn.
    """
    return parse(Recipe, tables_of(study, trial), f"trial {trial.number}")


def tables_of(study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
    """A trial's plain recipe as TOML tables."""
    try:
        return space_of(study).tables(from_params(trial.params))
    except KeyError as error:
        raise KitError(
            f"Trial {trial.number} never drew {error}: it has no recipe.", "Name a complete trial."
        ) from error


def recipe_text(study: optuna.Study, trial: FrozenTrial, place: StudyPlace, name: str | None = None) -> str:
    """The recipe as a TOML file: comments with its provenance, then tables without a leaf of the search in them."""
    tables = tables_of(study, trial)
    if name:
        tables["name"] = name
    parse(Recipe, tables, f"trial {trial.number}")
    lines = [f"# {line}" if line else "#" for line in provenance(study, trial, place)]
    return "\n".join(lines) + "\n" + tomli_w.dumps(tables)


def provenance(study: optuna.Study, trial: FrozenTrial, place: StudyPlace) -> list[str]:
    """Where the values come from: study, trial, data, gain, scores, versions."""
    said, trials = study.user_attrs, study.get_trials(deepcopy=False)
    done = sum(other.state in (TrialState.COMPLETE, TrialState.PRUNED) for other in trials)
    search = said["search"]
    lines = [
        f"Trial {trial.number} of {done} in the study {study.study_name!r} ({place.shown}), {MADE_BY}.",
        f"Search space {said['where']}, data {said['data']} ({said['identity']['data']}), kit {said['kit']}.",
        f"{search['sampler']} sampler, {search['probe']} probe, {search['seeds']} seed(s) a trial; "
        f"{search['gain']} = {_values(trial)}.",
    ]
    if trial.datetime_complete:
        lines[0] += f" Finished {trial.datetime_complete:%Y-%m-%d %H:%M}."
    scores = trial.user_attrs.get("result", {}).get("scores", {})
    if scores and "reference" in said:
        reference = Reference.from_json(said["reference"])
        before = {task.name: reference.mean(task) for task in reference.scores}
        lines += _table(search["probe"], scores, before, f"reference ({search['reference']})")
    official = said.get(OFFICIAL, {})
    entry = official.get(str(trial.number))
    # Where the official probe steered, its scores are there already.
    if entry and not ("reference" in said and entry["scores"] == scores):
        first = next((str(t.number) for t in trials if is_first(t) and str(t.number) in official), None)
        lines += _table(_how(entry), entry["scores"], official[first]["scores"] if first else {}, "defaults")
    return lines


def write_recipe(path: Path, text: str) -> None:
    """Write the recipe whole or not at all.

    Raises:
        KitError: the disk is full, or somebody's own recipe is there.
    """
    if path.exists() and MADE_BY not in path.read_text(encoding="utf-8", errors="replace"):
        raise KitError(f"{path} exists and was not made by `kit tune best`.", "Choose another --out, or remove it.")
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _how(entry: dict[str, Any]) -> str:
    """`official, bf16, mean of 3 row orders`."""
    orders = f", mean of {entry['runs']} row orders" if entry["runs"] > 1 else ""
    return f"official, {entry['precision']}{orders}"


def _values(trial: FrozenTrial) -> str:
    return ", ".join(f"{value:.4g}" for value in trial.values or []) or trial.state.name.lower()


def _table(probe: str, scores: Mapping[str, float], before: Mapping[str, float], other: str) -> list[str]:
    rows = []
    for task, score in scores.items():
        beside = f"  {other} {before[task]:.4f}  {_change(score - before[task])}" if task in before else ""
        rows.append(f"  {task:<20} {score:.4f}{beside}")
    both = [task for task in scores if task in before]
    change = float(np.sum([scores[task] - before[task] for task in both]))
    tail = f"  {other} {sum(before[t] for t in both):.4f}  {_change(change)}" if both else ""
    return ["", f"{probe} probe:", *rows, f"  {'sum':<20} {sum(scores.values()):.4f}{tail}"]


def _change(value: float) -> str:
    return f"{round(value, 4) + 0.0:+.4f}"  # without a minus before a zero
