"""Embedding health: what in a submission's matrix is dead, double, lopsided or lost in float16, from one pass and a sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kit.submission.submission import Submission
from kit.submission.validate import count_duplicates

SAMPLE: Final = 8_000
"""Rows for norms, spectrum, duplicates and rounding; column statistics take all rows."""
SPECTRUM: Final = 64
"""Components whose share of the variance is reported."""
COARSE: Final = 0.01
"""A column whose rounding noise is above this share of its spread has lost detail to float16."""


@dataclass(frozen=True)
class Health:
    """What the matrix looks like.

    Attributes:
        rows, width: its shape.
        norms: row norms, a sample of at most SAMPLE, float32.
        zero_rows: rows of zeros (in the sample).
        dead: columns that are constant.
        duplicate_columns: columns equal to an earlier one (on the sample), dead ones not counted.
        duplicate_rows: share of rows equal to another one (on the sample).
        effective_rank: exp of the entropy of the variance spectrum: how many directions the variance is spread over.
        spectrum: cumulative share of the variance of the first components.
        components_90: components that hold 90 % of the variance.
        largest: largest absolute value.
        coarse: columns whose rounding noise exceeds 1 % of their spread.
        rounding: median over columns of rounding noise ÷ spread.
        subnormal: share of values that are not 0 but below float16's normal range, where digits are lost.
        energy: block → share of the mean squared norm: how loudly it speaks to a probe that does not scale.
    """

    rows: int
    width: int
    norms: NDArray[np.float32]
    zero_rows: int
    dead: int
    duplicate_columns: int
    duplicate_rows: float
    effective_rank: float
    spectrum: tuple[float, ...]
    components_90: int
    largest: float
    coarse: int
    rounding: float
    subnormal: float
    energy: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """For --json; norms as quantiles."""
        plain = {key: value for key, value in self.__dict__.items() if key != "norms"}
        quantiles = np.quantile(self.norms, (0, 0.01, 0.25, 0.5, 0.75, 0.99, 1)) if len(self.norms) else np.zeros(7)
        return plain | {
            "norm_quantiles": dict(zip(("0", "1", "25", "50", "75", "99", "100"), quantiles.tolist(), strict=True))
        }


def sample_rows(count: int, most: int = SAMPLE, seed: int = 0) -> NDArray[np.int64]:
    """Up to `most` of `count` row numbers, ascending, always the same ones."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def examine(submission: Submission, blocks: list[dict[str, Any]]) -> Health:
    """Health of a submission's vectors.

    Args:
        submission: whose vectors are finite (n, d).
        blocks: the manifest's table: name, start, stop.
    """
    vectors, found = submission.contents.vectors, submission.contents.statistics
    assert vectors is not None and found is not None, "looked at before"
    low, high, power = found.low, found.high, found.power
    sample = np.asarray(vectors[sample_rows(len(vectors))])
    wide = sample.astype(np.float32)
    dead = low == high
    noise, subnormal = _rounding(sample, wide, ~dead)
    spectrum = variance_spectrum(wide)
    cumulative = np.cumsum(spectrum)
    norms = np.linalg.norm(wide, axis=1)
    total = max(float(power.sum()), 1e-30)
    return Health(
        rows=len(vectors),
        width=vectors.shape[1],
        norms=norms,
        zero_rows=int((norms == 0).sum()),
        dead=int(dead.sum()),
        duplicate_columns=count_duplicates(np.ascontiguousarray(sample[:, ~dead].T)) if (~dead).any() else 0,
        duplicate_rows=count_duplicates(sample) / max(len(sample), 1),
        effective_rank=effective_rank(spectrum),
        spectrum=tuple(cumulative[:SPECTRUM].tolist()),
        components_90=int(np.searchsorted(cumulative, 0.9) + 1) if len(cumulative) else 0,
        largest=float(max(-low.min(), high.max())),
        coarse=int((noise > COARSE).sum()),
        rounding=float(np.median(noise)) if len(noise) else 0.0,
        subnormal=subnormal,
        energy={block["name"]: float(power[block["start"] : block["stop"]].sum()) / total for block in blocks},
    )


def variance_spectrum(wide: NDArray[np.float32]) -> NDArray[np.float64]:
    """Shares of the variance along the principal axes, descending, summing to 1; empty without any variance."""
    centred = (wide - wide.mean(axis=0)).astype(np.float64)
    gram = centred.T @ centred if centred.shape[1] <= len(centred) else centred @ centred.T
    values = np.clip(np.linalg.eigvalsh(gram)[::-1], 0, None)
    return values / values.sum() if values.sum() > 0 else np.empty(0)


def effective_rank(spectrum: NDArray[np.float64]) -> float:
    """exp(−Σ p log p) of a spectrum of shares (Roy & Vetterli 2007); 0 for an empty one."""
    shares = spectrum[spectrum > 0]
    return float(np.exp(-np.sum(shares * np.log(shares)))) if len(shares) else 0.0


def _rounding(
    sample: NDArray[Any], wide: NDArray[np.float32], alive: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float]:
    """Per living column: standard error of rounding to float16 (step / √12) ÷ spread; and the share of subnormal values."""
    step = np.spacing(np.abs(sample.astype(np.float16))).astype(np.float64)
    noise = np.sqrt(np.mean(step**2, axis=0) / 12)
    spread = wide.std(axis=0, dtype=np.float64)
    ratio = noise[alive] / np.maximum(spread[alive], 1e-30)
    tiny = float(np.finfo(np.float16).tiny)
    return ratio, float(np.mean((wide != 0) & (np.abs(wide) < tiny)))
