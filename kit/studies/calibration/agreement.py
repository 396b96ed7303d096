"""How well a cheap score ranks what an expensive one ranks: Kendall's τ, its error, and the most that noise allows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

Floats = NDArray[np.float64]
DRAWS: Final = 400
TOLD_APART: Final = 1.959964
WORST: Final = 3
"""Disagreements that are named."""


@dataclass(frozen=True)
class Agreement:
    """Of one stand-in with the official probe on one task.

    Attributes:
        profiles: how many both have scored.
        tau: Kendall's τ-b; None with fewer than 3 profiles or only ties.
        tau_error: its standard error over profiles (jackknife).
        decided: of the pairs of profiles that the official probe tells apart beyond its noise, the share that
            the stand-in orders alike; None if there is no such pair or the noise is unknown.
        decided_pairs: how many such pairs there are.
        worst: profiles whose ranks differ most: name, official rank, own rank (1 = best).
    """

    profiles: int
    tau: float | None
    tau_error: float | None
    decided: float | None
    decided_pairs: int
    worst: list[tuple[str, int, int]]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def tau(first: Floats, second: Floats) -> float | None:
    """Kendall's τ-b of two scorings, None where it is not defined."""
    if len(first) < 3:
        return None
    value = float(kendalltau(first, second).statistic)
    return None if np.isnan(value) else value


def agree(official: dict[str, float], other: dict[str, float], noise: float | None) -> Agreement:
    """Agreement over the profiles that both scored.

    Args:
        official: profile → score.
        other: profile → the stand-in's score.
        noise: standard deviation of an official score over seeds, if known.
    """
    names = [name for name in official if name in other]
    a, b = np.array([official[name] for name in names]), np.array([other[name] for name in names])
    decided, pairs = _decided(a, b, noise)
    ranks = [np.argsort(np.argsort(-scores, kind="stable"), kind="stable") + 1 for scores in (a, b)]
    apart = np.argsort(-np.abs(ranks[0] - ranks[1]), kind="stable")[:WORST]
    worst = [(names[i], int(ranks[0][i]), int(ranks[1][i])) for i in apart if ranks[0][i] != ranks[1][i]]
    return Agreement(len(names), tau(a, b), _jackknife(a, b), decided, pairs, worst)


def _decided(a: Floats, b: Floats, noise: float | None) -> tuple[float | None, int]:
    if noise is None or len(a) < 2:
        return None, 0
    left, right = np.triu_indices(len(a), 1)
    gaps = a[left] - a[right]
    clear = np.abs(gaps) > TOLD_APART * np.sqrt(2) * noise
    alike = np.sign(gaps[clear]) == np.sign(b[left][clear] - b[right][clear])
    return (float(alike.mean()), int(clear.sum())) if clear.any() else (None, 0)


def _jackknife(a: Floats, b: Floats) -> float | None:
    """Standard error of τ over profiles; None if leaving one out leaves it undefined."""
    n = len(a)
    values = [tau(np.delete(a, i), np.delete(b, i)) for i in range(n)] if n > 3 else []
    known = np.array([value for value in values if value is not None])
    if n <= 3 or len(known) < n:
        return None
    return float(np.sqrt((n - 1) / n * np.sum((known - known.mean()) ** 2)))


def seed_noise(pairs: list[tuple[float, float]]) -> float | None:
    """Standard deviation of a profile's score over runs, beside what moves all profiles alike.

    Another start and row order, the same for all profiles, lift or lower them together: that changes no rank and is left out.

    Args:
        pairs: the scores of two or more profiles in the first run and in the second.

    Returns:
        None with fewer than two profiles, which cannot tell the one from the other.
    """
    if len(pairs) < 2:
        return None
    first, second = np.array(pairs).T
    return float(np.std(first - second, ddof=1) / np.sqrt(2))


def limit(official: Floats, noise: float, seed: int = 0) -> float | None:
    """The τ of one run of the official probe with another, over all profiles, as its noise lets expect.

    The scores hold the noise of one run already: what they would be without it is guessed by drawing them towards their mean, so
    that their variance is what is left, and two runs are drawn around that. A stand-in that knew the mean over runs would do a
    little better, and so would one that shared the luck of the run: it reads the same rows in the same order.
    """
    rng, spread = np.random.default_rng(seed), float(np.var(official, ddof=1))
    real = np.sqrt(max(0.0, 1 - noise**2 / spread)) if spread > 0 else 0.0
    true = official.mean() + real * (official - official.mean())
    drawn = [tau(*(true + rng.normal(0, noise, (2, len(true))))) for _ in range(DRAWS)]
    known = [value for value in drawn if value is not None]
    return float(np.mean(known)) if known else None
