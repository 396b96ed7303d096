"""What a study looks like right now: counts, the best, who works, how much was shared, what failed and why."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from kit.tune.best import OFFICIAL
from kit.tune.claims import tally
from kit.tune.storage import StudyPlace
from kit.tune.study import best_trials, is_first

TOP = 5


def status(study: optuna.Study, place: StudyPlace) -> dict[str, Any]:
    """The object of `kit tune status --json`."""
    trials = study.get_trials(deepcopy=False)
    counts, said, ranked = tally(study), study.user_attrs, best_trials(study)
    first = next((trial for trial in ranked if is_first(trial)), None)
    taken = sum(counts[name] for name in ("running", "complete", "pruned", "failed"))
    return {
        "study": study.study_name,
        "storage": place.shown,
        "data": said.get("data"),
        "goals": said.get("search", {}).get("goals", ["score"]),
        "gain": said.get("search", {}).get("gain"),
        "cap": said.get("cap"),
        "taken": taken,
        "trials": counts,
        "best": [_row(trial) for trial in ranked[:TOP]],
        "defaults": _row(first) if first else None,
        "running": [_running(trial) for trial in trials if trial.state is TrialState.RUNNING],
        "hit_rate": hit_rate(trials),
        "seconds_per_trial": _pace(trials),
        "seconds_since_last": _since_last(trials),
        "reasons": _reasons(trials),
        "official": said.get(OFFICIAL, {}),
    }


def hit_rate(trials: list[FrozenTrial]) -> dict[str, Any]:
    """Blocks found in the store, blocks asked for, and their ratio."""
    results = [trial.user_attrs["result"] for trial in trials if "result" in trial.user_attrs]
    fresh, asked = (sum(int(result[key]) for result in results) for key in ("fresh", "asked"))
    return {"fresh": fresh, "asked": asked, "rate": round(fresh / asked, 4) if asked else None}


def _row(trial: FrozenTrial) -> dict[str, Any]:
    result = trial.user_attrs.get("result", {})
    return {
        "trial": trial.number,
        "values": trial.values,
        "scores": result.get("scores"),
        "sum": round(sum(result["scores"].values()), 4) if result.get("scores") else None,
        "width": result.get("width"),
        "seconds": result.get("seconds"),
        "params": trial.params,
    }


def _running(trial: FrozenTrial) -> dict[str, Any]:
    owner = trial.user_attrs.get("worker", {})
    began = trial.datetime_start
    return {
        "trial": trial.number,
        "host": str(owner.get("host", "?")).split("/")[0],
        "pid": owner.get("pid"),
        "seconds": round((datetime.now() - began).total_seconds(), 1) if began else None,
        "last_sign_of_life": round(time.time() - float(owner["beat"]), 1) if "beat" in owner else None,
        "steps": len(trial.intermediate_values),
    }


def _pace(trials: list[FrozenTrial]) -> float | None:
    """Median seconds of a finished trial."""
    took = [float(trial.user_attrs["result"]["seconds"]) for trial in trials if "result" in trial.user_attrs]
    return round(float(np.median(took)), 2) if took else None


def _since_last(trials: list[FrozenTrial]) -> float | None:
    ends = [trial.datetime_complete for trial in trials if trial.datetime_complete]
    return round((datetime.now() - max(ends)).total_seconds(), 1) if ends else None


def _reasons(trials: list[FrozenTrial]) -> list[dict[str, Any]]:
    """Why trials failed, were lost or were pruned."""
    return [
        {
            "trial": trial.number,
            "state": "lost" if trial.user_attrs.get("lost") else trial.state.name.lower(),
            "reason": trial.user_attrs["reason"],
        }
        for trial in trials
        if "reason" in trial.user_attrs and trial.state.is_finished()
    ]
