"""How a task is scored: a weighted sum of AUROC, novelty and diversity, and what each client adds to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kit.challenge import AUROC_WEIGHT, DIVERSITY_WEIGHT, NOVELTY_WEIGHT
from kit.tasks.influence import area_influence, spread_influences
from kit.tasks.metrics import EVALUATOR_BATCH, Matrix, auroc_multilabel, diversity, novelty


@dataclass(frozen=True)
class TaskMetrics:
    """What one epoch of one task is worth. Fields that do not apply to the task are None.

    Attributes:
        score: the challenge's score: AUROC, or 0.8 AUROC + 0.1 novelty + 0.1 diversity.
        auroc: mean over all labels, in which a label without positives or negatives counts 0, as in the challenge.
        novelty: see `novelty`.
        diversity: see `diversity`.
        auroc_defined: mean over the labels that have positives and negatives; None if there is no such label.
        labels_without_positives: number of labels nobody bought.
    """

    score: float
    auroc: float
    novelty: float | None
    diversity: float | None
    auroc_defined: float | None
    labels_without_positives: int


@dataclass(frozen=True)
class Metric:
    """Weights of the terms of a score. A metric of another kind overrides both methods: what they return is all that is used.

    Attributes:
        auroc, novelty, diversity: weights; the last two need the popularity of targets, and both are left out at 0.
    """

    auroc: float = 1.0
    novelty: float = 0.0
    diversity: float = 0.0

    @property
    def spreads(self) -> bool:
        """Whether novelty and diversity count."""
        return bool(self.novelty or self.diversity)

    def evaluate(
        self,
        logits: NDArray[Any],
        labels: Matrix,
        popularity: NDArray[Any] | None = None,
        batch: int | None = EVALUATOR_BATCH,
        threads: int | None = None,
    ) -> TaskMetrics:
        """The metrics of a task as the evaluator computes them.

        Args:
            logits: (n, L) float32.
            labels: (n, L) sparse or dense.
            popularity: (L,), where novelty or diversity count.
            batch: see `auroc_multilabel`; the default is what the evaluator does.
            threads: see `auroc_multilabel`.

        Raises:
            KitError: the logits hold NaN.
        """
        per_label = auroc_multilabel(logits, labels, batch, threads)
        defined = per_label[~np.isnan(per_label)]
        mean = float(np.nan_to_num(per_label, nan=0.0).mean())
        empty = int(np.count_nonzero(np.asarray((labels != 0).sum(axis=0)).ravel() == 0))
        mean_defined = float(defined.mean()) if len(defined) else None
        if not self.spreads:
            return TaskMetrics(self.auroc * mean, mean, None, None, mean_defined, empty)
        if popularity is None:
            raise ValueError("novelty needs the popularity of the targets")
        new, wide = novelty(logits, popularity), diversity(logits)
        score = self.auroc * mean + self.novelty * new + self.diversity * wide
        return TaskMetrics(score, mean, new, wide, mean_defined, empty)

    def influence(
        self, logits: NDArray[Any], labels: Matrix, popularity: NDArray[Any] | None = None
    ) -> NDArray[np.float32]:
        """Derivative of the score by each client's weight, float32 (n,), at the logits of the epoch that counts.

        Args:
            logits, labels, popularity: as for `evaluate`.
        """
        area = area_influence(logits, labels)
        if not self.spreads or popularity is None:
            return (self.auroc * area).astype(np.float32)
        new, wide = spread_influences(logits, popularity)
        total = self.auroc * area + self.novelty * new
        return np.asarray(total + self.diversity * wide / len(area), dtype=np.float32)


AUROC: Final = Metric()
PROPENSITY: Final = Metric(AUROC_WEIGHT, NOVELTY_WEIGHT, DIVERSITY_WEIGHT)
"""The challenge's, for tasks with targets."""
