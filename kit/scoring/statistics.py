"""How sure a score is: what each client adds to it, and from that standard errors and paired differences.

A score is a function of the weights of the clients (all 1). Its derivative with respect to client i's weight, the influence
g_i, gives the bootstrap over clients to first order: a resample with weights w scores about score + Σ (w_i − 1) g_i, so the
standard error is √Σ g_i², and that of a difference between two submissions on the same clients √Σ (g_i − g'_i)². For AUROC
these are DeLong's structural components (DeLong, DeLong & Clarke-Pearson 1988). A test compares with real resampling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Floats = NDArray[np.float64]
TWO_SIDED: Final = 1.959964
"""Standard errors on either side of a 95 % interval."""
Verdict = Literal["better", "worse", "cannot tell"]
CLIENTS_AT_ONCE: Final = 100_000
"""Clients whose influences are held at a time."""
_SIGNS: Final = np.array([1.0, -1.0])


@dataclass(frozen=True)
class Scored:
    """One submission's score on one task, and what each client adds to it.

    Attributes:
        score: the official seed's, or the mean over runs if there are several.
        runs: seed → score; None where there is one run.
        clients: sorted ids (n,).
        influence: (n,), for the official seed.
    """

    score: float
    runs: Mapping[int, float] | None
    clients: NDArray[np.int64]
    influence: NDArray[np.float32]

    @property
    def single(self) -> Scored:
        """The official seed's run alone: the first one."""
        return self if not self.runs else Scored(self.runs[min(self.runs)], None, self.clients, self.influence)

    @property
    def run_error(self) -> float:
        """Standard error over runs; 0 where there is one, whose noise nobody knows."""
        values = list((self.runs or {}).values())
        return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0

    @property
    def error(self) -> float:
        """Standard error over clients, and over runs where there are several."""
        return float(np.hypot(np.linalg.norm(self.influence.astype(np.float64)), self.run_error))

    @property
    def half_width(self) -> float:
        """Half of the score's 95 % interval."""
        over_clients = float(np.linalg.norm(self.influence.astype(np.float64))) ** 2
        return _half_width(over_clients, self.run_error**2, len(self.runs or (0,)))


def together(parts: Sequence[Scored]) -> Scored:
    """The sum of one submission's scores on several tasks. Influences of a client add up before anything is squared: errors of
    tasks that share their clients do not cancel as independent ones would; nor do those of runs that share a seed."""
    clients = np.unique(np.concatenate([part.clients for part in parts]))
    each = np.zeros(len(clients), dtype=np.float32)
    for part in parts:
        each[np.searchsorted(clients, part.clients)] += part.influence
    shared = sorted(set.intersection(*(set(part.runs or ()) for part in parts)))
    if not shared:  # tasks of one run, or of runs that do not belong together
        return Scored(sum(part.single.score for part in parts), None, clients, each)
    runs = {seed: sum((part.runs or {})[seed] for part in parts) for seed in shared}
    return Scored(float(np.mean(list(runs.values()))), runs, clients, each)


@dataclass(frozen=True)
class Difference:
    """A minus B on one task.

    Attributes:
        difference: of the scores.
        error: standard error: paired over clients, and over runs where there are several.
        detectable: the smallest difference that could be told from noise: half the width of the 95 % interval.
        verdict: of A, at 95 %.
    """

    difference: float
    error: float
    detectable: float
    verdict: Verdict

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference."""
        return self.difference - self.detectable, self.difference + self.detectable


def compare(a: Scored, b: Scored) -> Difference:
    """The paired difference of two submissions; a client that only one of them holds is paired with nobody."""
    over_clients = float(_SIGNS @ client_covariance([a, b]) @ _SIGNS)
    over_runs = max(float(_SIGNS @ run_covariance([a, b]) @ _SIGNS), 0.0)  # equal runs may sum to less than nothing
    error = float(np.sqrt(over_clients + over_runs))
    difference, detectable = a.score - b.score, _half_width(over_clients, over_runs, _count(a, b))
    verdict: Verdict = "cannot tell"
    if abs(difference) > detectable:
        verdict = "better" if difference > 0 else "worse"
    return Difference(difference, error, detectable, verdict)


def client_covariance(scored: Sequence[Scored]) -> Floats:
    """Covariance of scores over resampled clients, (S, S): of one submission or several, of one task or several. Clients are
    paired by id; one that a score does not rest on adds nothing to it."""
    clients = np.unique(np.concatenate([item.clients for item in scored]))
    found = np.zeros((len(scored), len(scored)))
    for first in range(0, len(clients), CLIENTS_AT_ONCE):
        part = clients[first : first + CLIENTS_AT_ONCE]
        rows = np.zeros((len(scored), len(part)))
        for row, item in zip(rows, scored, strict=True):
            low, high = np.searchsorted(item.clients, [part[0], part[-1]], side="left")
            own = slice(low, high + int(high < len(item.clients) and item.clients[high] == part[-1]))
            row[np.searchsorted(part, item.clients[own])] = item.influence[own]
        found += rows @ rows.T
    return found


def run_covariance(scored: Sequence[Scored]) -> Floats:
    """Covariance of mean scores over runs, (S, S); 0 for submissions of one run.

    Where all have runs of the same seeds these are paired: a seed draws the same initial weights for equal widths, and the
    same permutation of rows, whose luck is largely common to profiles in one order. Otherwise they count as independent, and a
    single run beside several is as uncertain as one of theirs: that nobody measured its noise does not make it exact.
    """
    if paired(scored):
        values = [list((item.runs or {}).values()) for item in scored]
        return np.atleast_2d(np.cov(values)) / len(values[0])
    of_one = [len(item.runs) * item.run_error**2 for item in scored if item.runs and len(item.runs) > 1]
    lent = float(np.mean(of_one)) if of_one else 0.0
    return np.diag([item.run_error**2 if item.runs and len(item.runs) > 1 else lent for item in scored])


def paired(scored: Sequence[Scored]) -> bool:
    """Whether all have several runs, of the same seeds."""
    seeds = [tuple(item.runs or ()) for item in scored]
    return len(seeds[0]) > 1 and all(own == seeds[0] for own in seeds)


def _count(a: Scored, b: Scored) -> int:
    """Runs that the noise over runs was learned from."""
    counts = [len(item.runs) for item in (a, b) if item.runs and len(item.runs) > 1]
    return min(counts, default=1)


def _half_width(over_clients: float, over_runs: float, count: int) -> float:
    """Half a 95 % interval of a difference with these variances, the second one learned from `count` runs: a few runs know
    their own noise badly, so Student's t takes the place of the normal (degrees of freedom by Welch and Satterthwaite)."""
    total = over_clients + over_runs
    if over_runs <= 0:
        return TWO_SIDED * float(np.sqrt(total))
    freedom = (count - 1) * (total / over_runs) ** 2
    return float(student.ppf(0.975, freedom) * np.sqrt(total))
