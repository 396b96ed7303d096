"""From a block's raw numbers to columns fit for an unscaled probe: scaling, imputation, flags, PCA, norms, float16.

The official probe neither scales its inputs nor shuffles its rows, so the scale of a block is its weight. The usual winners'
choice is quantile-uniform for hand-made columns and row L2 for learned ones.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.preprocessing import QuantileTransformer

from kit.errors import KitError
from kit.recipe import Assembly, BlockEntry, Scale

COLUMNS_AT_ONCE = 64
"""Columns scaled together: bounds the float64 copies that scikit-learn makes."""
ROWS_AT_ONCE = 65_536
QUANTILES = 1_000
SUBSAMPLE = 100_000
"""Rows that quantiles are estimated from."""
FLAG_SHARE = 0.005
"""A missing-value pattern gets a flag column if at least this share of rows shows it, and at most one minus it."""


@dataclass(frozen=True)
class Part:
    """A block ready to be joined: float32 (n, d) without NaN, its column names, and the constant columns left out."""

    values: NDArray[np.float32]
    columns: tuple[str, ...]
    dropped: tuple[str, ...]


def prepare_block(values: NDArray[np.float32], columns: tuple[str, ...], entry: BlockEntry, seed: int) -> Part:
    """Scale, impute with the column mean, flag, reduce, normalise and weight one block.

    Args:
        values: float32 (n, d), NaN = missing; may be memory-mapped, is not changed.
        columns: d names.
        entry: scale, pca, row_l2, unit_rms, weight, flags.
        seed: of the PCA and the quantiles' subsample.
    """
    values, columns = select(values, columns, entry.columns)
    kept: list[NDArray[np.float32]] = []
    names: list[str] = []
    dropped: list[str] = []
    patterns: dict[bytes, tuple[NDArray[np.bool_], str]] = {}
    for first in range(0, values.shape[1], COLUMNS_AT_ONCE):
        chunk = np.array(values[:, first : first + COLUMNS_AT_ONCE], dtype=np.float32)
        labels = np.array(columns[first : first + COLUMNS_AT_ONCE])
        chunk[~np.isfinite(chunk)] = np.nan
        missing = np.isnan(chunk)
        for column in np.flatnonzero(missing.any(axis=0)) if entry.flags else ():
            patterns.setdefault(np.packbits(missing[:, column]).tobytes(), (missing[:, column], str(labels[column])))
        varies = _varies(chunk, missing)
        dropped += labels[~varies].tolist()
        if not varies.any():
            continue
        kept.append(_impute(scale_columns(chunk[:, varies], entry.scale, seed)))
        names += labels[varies].tolist()
    flags = [
        (mask, f"missing__{name}") for mask, name in patterns.values() if FLAG_SHARE < mask.mean() < 1 - FLAG_SHARE
    ]
    kept += [mask[:, None].astype(np.float32) for mask, _ in flags]
    names += [name for _, name in flags]
    block = np.concatenate(kept, axis=1) if kept else np.zeros((values.shape[0], 0), dtype=np.float32)
    if entry.pca is not None and entry.pca < min(block.shape):
        block = reduce(block, entry.pca, seed)
        names = [f"pca_{i}" for i in range(entry.pca)]
    if entry.row_l2:
        block /= np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
    if entry.unit_rms:
        block /= np.float32(max(np.sqrt(np.mean(np.square(block), dtype=np.float64)), 1e-12))
    block *= np.float32(entry.weight)
    return Part(block, tuple(names), tuple(dropped))


def select(
    values: NDArray[np.float32], columns: tuple[str, ...], patterns: Sequence[str]
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Columns that match one of the patterns; all of them without patterns.

    Raises:
        KitError: a pattern matches nothing.
    """
    if not patterns:
        return values, columns
    for pattern in patterns:
        if not fnmatch.filter(columns, pattern):
            groups = sorted({name.split("_")[0] + "_*" for name in columns})
            raise KitError(
                f"No column matches {pattern!r}.", f"The block's columns look like {', '.join(groups[:20])}."
            )
    keep = [i for i, name in enumerate(columns) if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    return values[:, keep], tuple(columns[i] for i in keep)


def _varies(chunk: NDArray[np.float32], missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which columns hold at least two different values, missing ones not counted."""
    low = np.where(missing, np.inf, chunk).min(axis=0)
    high = np.where(missing, -np.inf, chunk).max(axis=0)
    varies: NDArray[np.bool_] = low < high
    return varies


def scale_columns(chunk: NDArray[np.float32], scale: Scale, seed: int) -> NDArray[np.float32]:
    """Column-wise scaling of float32 (n, c); NaN stays NaN. Statistics come from the clients at hand, all before the cut."""
    if scale == "none":
        return chunk
    if scale == "signed-log":
        return np.sign(chunk) * np.log1p(np.abs(chunk))
    if scale == "standard":
        wide = chunk.astype(np.float64)  # squares of float32 overflow above 1e19 and vanish below 1e-23
        scaled: NDArray[np.float32] = ((wide - np.nanmean(wide, axis=0)) / np.nanstd(wide, axis=0)).astype(np.float32)
        return scaled
    quantiles = QuantileTransformer(
        n_quantiles=min(QUANTILES, len(chunk)), subsample=SUBSAMPLE, random_state=seed, output_distribution="uniform"
    )
    uniform: NDArray[np.float32] = quantiles.fit_transform(chunk).astype(np.float32)
    return 2 * uniform - 1


def _impute(chunk: NDArray[np.float32]) -> NDArray[np.float32]:
    """Missing values become the column's mean (2nd place: +.0012 over a constant)."""
    return np.where(np.isnan(chunk), np.nanmean(chunk, axis=0), chunk).astype(np.float32)


def reduce(block: NDArray[np.float32], width: int, seed: int) -> NDArray[np.float32]:
    """The first `width` principal components, float32 (n, width); signs fixed by scikit-learn, randomised solver seeded."""
    solver = "covariance_eigh" if block.shape[1] <= 4_096 else "randomized"
    pca = PCA(width, svd_solver=solver, random_state=seed)
    reduced: NDArray[np.float32] = pca.fit_transform(block).astype(np.float32)
    return reduced


def finish(
    parts: Sequence[NDArray[np.float32]], position: NDArray[np.int64], assembly: Assembly, seed: int
) -> tuple[NDArray[np.float16], int | None]:
    """Join the parts in spine order as float16 (n, d).

    Args:
        parts: float32 (n, d_i), rows sorted by client.
        position: int64 (n,), row of `parts` for each row of the result.
        assembly: joint PCA, row norm, clip.
        seed: of the PCA.

    Returns:
        the matrix, and the joint PCA's width (None without one).
    """
    joint: int | None = None
    width = sum(part.shape[1] for part in parts)
    if assembly.pca is not None and assembly.pca < width:
        parts = [reduce(np.concatenate(parts, axis=1), assembly.pca, seed)]
        joint = width = assembly.pca
    matrix = np.empty((len(position), width), dtype=np.float16)
    for first in range(0, len(position), ROWS_AT_ONCE):
        rows = position[first : first + ROWS_AT_ONCE]
        chunk = np.concatenate([part[rows] for part in parts], axis=1)
        if assembly.row_norm is not None:
            chunk *= assembly.row_norm / np.maximum(np.linalg.norm(chunk, axis=1, keepdims=True), 1e-12)
        matrix[first : first + ROWS_AT_ONCE] = np.clip(chunk, -assembly.clip, assembly.clip)
    return matrix, joint
