"""Pruning while a block trains: a validation in the lowest quarter of earlier trials at the same epoch ends the trial.

It rides on the event `epoch` that the training loop logs (`kit.tracking`). Blocks found in the store do not train and are never
stopped here; a block that is stopped leaves no more in the store than a checkpoint to go on from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import optuna

FEW: Final = 5
"""Earlier trials that must have trained as far."""
ATTRIBUTE: Final = "epochs"
"""Trial attribute: `model#occurrence` → validation by epoch."""


class EpochPruner:
    """A watcher of training epochs, for one trial.

    Args:
        trial: the running trial.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial
        self._curves: dict[str, dict[str, float]] = {}
        self._times: dict[str, int] = {}

    def __call__(self, values: Mapping[str, float], step: int | None, about: Mapping[str, Any]) -> None:
        """Remember the epoch's validation (higher is better); without one there is nothing to compare.

        Raises:
            optuna.TrialPruned: it is below the lower quartile of at least FEW earlier trials at this epoch.
        """
        if "validation" not in values or not np.isfinite(values["validation"]):
            return
        model = str(about.get("model", "model"))
        if step == 1:
            self._times[model] = self._times.get(model, 0) + 1
        name = f"{model}#{self._times.setdefault(model, 1)}"
        # By number: a training that goes on from a checkpoint does not begin with its first epoch.
        epoch, value = str(step), float(values["validation"])
        self._curves.setdefault(name, {})[epoch] = value
        self._trial.set_user_attr(ATTRIBUTE, self._curves)
        curves = [
            other.user_attrs.get(ATTRIBUTE, {}).get(name, {})
            for other in self._trial.study.get_trials(deepcopy=False)
            if other.number != self._trial.number
        ]
        others = [curve[epoch] for curve in curves if isinstance(curve, dict) and epoch in curve]
        if len(others) >= FEW and value < (low := float(np.quantile(others, 0.25))):
            raise optuna.TrialPruned(
                f"while {model} trained: epoch {epoch} validated at {value:.4f}, under the lower quartile {low:.4f} "
                f"of {len(others)} trials"
            )
