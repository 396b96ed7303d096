"""From a block's raw numbers to columns fit for an unscaled probe: scaling, imputation, flags, PCA, norms, float16.

The official probe neither scales its inputs nor shuffles its rows, so the scale of a block is its weight. The usual winners'
choice is quantile-uniform for hand-made columns and row L2 for learned ones.

Technique A1.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.preprocessing import QuantileTransformer

from kit.blocks.quantiles import quantiles_of
from kit.errors import KitError
from kit.limits import memory as limits
from kit.limits.need import Need, matrix
from kit.profile.learned import Components, Prepared
from kit.recipe import Assembly, BlockEntry, Scale

COLUMNS_AT_ONCE = 64
"""Columns scaled together at most: bounds the copies that scikit-learn makes. Each column is scaled by itself, so fewer (when
memory is limited) give the same numbers."""
LEAST_COLUMNS = 4
CELL: dict[Scale, int] = {"none": 20, "signed-log": 28, "quantile": 36, "standard": 60}
"""Bytes of temporary copies per value while columns are scaled: the float32 piece, its mask, its imputed copy, and what the
scaling makes of it (float64 for `standard`)."""
ROWS_AT_ONCE = 65_536
"""A multiple of 8: missing values are kept as bits."""
QUANTILES = 1_000
SUBSAMPLE = 100_000
"""Rows that quantiles are estimated from."""
CUT_SHARE = 0.001
"""A clip that cuts more than this share of a block's values is said."""
FLAG_SHARE = 0.005
"""A missing-value pattern gets a flag column if at least this share of rows shows it, and at most one minus it."""


@dataclass(frozen=True)
class PreparedBlock:
    """A block ready to be joined: float32 (n, d) without NaN, its column names, the constant columns left out, and what was
    learned on the way."""

    values: NDArray[np.float32]
    columns: tuple[str, ...]
    dropped: tuple[str, ...]
    learned: Prepared


@dataclass(frozen=True)
class Cut:
    """What the assembly's clip did to the columns of a matrix: how many values it cut, int64 (d,), and each column's largest
    magnitude before, float32 (d,)."""

    values: NDArray[np.int64]
    largest: NDArray[np.float32]


def cut_words(block: str, share: float, largest: float, clip: float) -> tuple[str, str]:
    """What there is to say of a block of which many values were cut, and what to do."""
    return (
        f"{share:.1%} of the values of block {block} lay beyond ±{clip:g}, the largest at {largest:,.6g}, and were cut",
        'Give the block a scale ("quantile", "standard" or "signed-log"), or raise `clip` in [assembly].',
    )


def prepare_block(
    values: NDArray[np.float32],
    columns: tuple[str, ...],
    entry: BlockEntry,
    seed: int,
    known: Prepared | None = None,
) -> PreparedBlock:
    """Scale, impute with the column mean, flag, reduce, normalise and weight one block.

    Beside the block itself, which lies in a file where memory is limited, only a few columns or rows are held at a time.

    Args:
        values: float32 (n, d), NaN = missing; may be memory-mapped, is not changed.
        columns: d names.
        entry: scale, pca, row_l2, unit_rms, weight, flags.
        seed: of the PCA and the quantiles' subsample.
        known: what was learned of the block before, for other clients or a later cut; None learns it from these values.
    """
    fresh = known is None
    known, kept, flags = _choose(values, columns, entry) if known is None else _found(values, columns, known)
    names = [*known.columns, *(f"missing__{name}" for name in known.flags)]
    block: NDArray[np.float32] = limits.empty((len(values), len(names)), np.float32)
    scales, fills = [], []
    step = limits.at_once(len(values) * CELL[entry.scale], COLUMNS_AT_ONCE, LEAST_COLUMNS)
    for first in range(0, len(kept), step):
        at = slice(first, min(first + step, len(kept)))
        chunk = _piece(values, kept[at])
        scale = learn_scale(chunk, entry.scale, seed) if fresh else {k: a[..., at] for k, a in known.scale.items()}
        chunk = apply_scale(chunk, entry.scale, scale)
        fill = np.nanmean(chunk, axis=0) if fresh else known.fill[at]
        # Missing values become the column's mean (2nd place: +.0012 over a constant).
        block[:, at] = np.where(np.isnan(chunk), fill, chunk).astype(np.float32)
        scales.append(scale)
        fills.append(fill)
    for place, packed in enumerate(flags, len(kept)):
        block[:, place] = np.unpackbits(packed, count=len(values))
    if fresh:
        known = replace(known, scale=_joined_scales(scales), fill=np.concatenate([np.empty(0, np.float32), *fills]))
    block, known = _shape(block, entry, seed, known, fresh)
    if known.components is not None:
        names = [f"pca_{i}" for i in range(block.shape[1])]
    with np.errstate(over="ignore", invalid="ignore"):  # `all_finite` tells, with the block's name
        block *= np.float32(entry.weight)
    return PreparedBlock(block, tuple(names), known.dropped, known)


def _choose(
    values: NDArray[np.float32], columns: Sequence[str], entry: BlockEntry
) -> tuple[Prepared, list[int], list[NDArray[np.uint8]]]:
    """Which columns are kept and which patterns of missing values have a flag; the columns' places, the flags as bits."""
    chosen = select(columns, entry.columns)
    varies, missing = _survey(values, chosen)
    kept = [column for column, use in zip(chosen, varies, strict=True) if use]
    dropped = tuple(columns[column] for column, use in zip(chosen, varies, strict=True) if not use)
    flags = _flags(missing, [columns[column] for column in chosen], len(values)) if entry.flags else []
    names = tuple(columns[column] for column in kept)
    empty = np.empty(0, dtype=np.float32)
    return Prepared(names, dropped, tuple(name for name, _ in flags), {}, empty), kept, [bits for _, bits in flags]


def _found(
    values: NDArray[np.float32], columns: Sequence[str], known: Prepared
) -> tuple[Prepared, list[int], list[NDArray[np.uint8]]]:
    """As `_choose`, for what is known already. A column that is not there (-1) is missing for everybody."""
    place = {name: i for i, name in enumerate(columns)}
    flags = []
    for name in known.flags:
        gone = ~np.isfinite(values[:, place[name]]) if name in place else np.ones(len(values), dtype=np.bool_)
        flags.append(np.packbits(gone))
    return known, [place.get(name, -1) for name in known.columns], flags


def _joined_scales(scales: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Of all columns, from those of some of them at a time."""
    return {key: np.concatenate([scale[key] for scale in scales], axis=-1) for key in (scales[0] if scales else ())}


def _shape(
    block: NDArray[np.float32], entry: BlockEntry, seed: int, known: Prepared, fresh: bool
) -> tuple[NDArray[np.float32], Prepared]:
    """PCA, row L2 and unit RMS, learned if `fresh`."""
    if fresh and entry.pca is not None and entry.pca < min(block.shape):
        block, components = reduce(block, entry.pca, seed)
        known = replace(known, components=components)
    elif known.components is not None:
        block = known.components.apply(block)
    if entry.row_l2:
        for rows in _rows(len(block)):
            block[rows] /= np.maximum(np.linalg.norm(block[rows], axis=1, keepdims=True), 1e-12)
    if fresh and entry.unit_rms and block.size:
        squares = sum(float(np.square(block[rows]).sum(dtype=np.float64)) for rows in _rows(len(block)))
        known = replace(known, rms=float(max(np.sqrt(squares / block.size), 1e-12)))
    if known.rms is not None:
        block /= np.float32(known.rms)
    return block, known


def select(columns: Sequence[str], patterns: Sequence[str]) -> list[int]:
    """Positions of the columns that match one of the patterns; all of them without patterns.

    Raises:
        KitError: a pattern matches nothing.
    """
    for pattern in patterns:
        if not fnmatch.filter(columns, pattern):
            groups = sorted({name.split("_")[0] + "_*" for name in columns})
            raise KitError(
                f"No column matches {pattern!r}.", f"The block's columns look like {', '.join(groups[:20])}."
            )
    wanted = patterns or ["*"]
    return [i for i, name in enumerate(columns) if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)]


def missing_rows(values: NDArray[np.float32]) -> int:
    """How many rows hold nothing but NaN."""
    return sum(int(np.isnan(values[rows]).all(axis=1).sum()) for rows in _rows(len(values)))


def all_finite(block: NDArray[np.float32]) -> bool:
    """Whether no value of (n, d) is NaN or infinite."""
    return all(
        bool(np.isfinite([block[rows].min(initial=0), block[rows].max(initial=0)]).all()) for rows in _rows(len(block))
    )


def _rows(count: int) -> Iterator[slice]:
    """Slices of ROWS_AT_ONCE rows."""
    return (slice(first, min(first + ROWS_AT_ONCE, count)) for first in range(0, count, ROWS_AT_ONCE))


def _piece(values: NDArray[np.float32], columns: Sequence[int]) -> NDArray[np.float32]:
    """Some columns as a float32 copy, columns one after the other in memory; infinities are missing values too, and so is a
    whole column that is not there (-1)."""
    chunk = np.empty((len(values), len(columns)), dtype=np.float32, order="F")
    for rows in _rows(len(values)):
        chunk[rows] = values[rows][:, columns]
    chunk[:, np.asarray(columns) < 0] = np.nan
    chunk[~np.isfinite(chunk)] = np.nan
    return chunk


def _survey(values: NDArray[np.float32], columns: Sequence[int]) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """One pass over the rows: which columns hold at least two different values, missing ones not counted, and where values are
    missing, as bits (n / 8, columns)."""
    low, high = np.full(len(columns), np.inf, np.float32), np.full(len(columns), -np.inf, np.float32)
    missing = np.empty((-(-len(values) // 8), len(columns)), dtype=np.uint8)
    for rows in _rows(len(values)):
        chunk = values[rows][:, columns]
        gone = ~np.isfinite(chunk)
        np.minimum(low, np.where(gone, np.inf, chunk).min(axis=0), out=low)
        np.maximum(high, np.where(gone, -np.inf, chunk).max(axis=0), out=high)
        missing[rows.start // 8 : -(-rows.stop // 8)] = np.packbits(gone, axis=0)
    return low < high, missing


def _flags(missing: NDArray[np.uint8], names: Sequence[str], count: int) -> list[tuple[str, NDArray[np.uint8]]]:
    """(first column that shows it, bits) of every pattern of missing values that is neither rare nor nearly everywhere."""
    patterns: dict[bytes, tuple[str, NDArray[np.uint8]]] = {}
    for column, name in enumerate(names):
        bits = np.ascontiguousarray(missing[:, column])
        patterns.setdefault(bits.tobytes(), (name, bits))
    shares = {key: int(np.bitwise_count(bits).sum()) / max(count, 1) for key, (_, bits) in patterns.items()}
    return [found for key, found in patterns.items() if FLAG_SHARE < shares[key] < 1 - FLAG_SHARE]


def scale_columns(chunk: NDArray[np.float32], scale: Scale, seed: int) -> NDArray[np.float32]:
    """Column-wise scaling of float32 (n, c); NaN stays NaN. Statistics come from the clients at hand, all before the cut."""
    return apply_scale(chunk, scale, learn_scale(chunk, scale, seed))


def learn_scale(chunk: NDArray[np.float32], scale: Scale, seed: int) -> dict[str, NDArray[Any]]:
    """What `apply_scale` needs of these columns: "quantiles" (q, c), or "centre" and "spread" (c,), or nothing."""
    if scale == "standard":
        wide = chunk.astype(np.float64)  # squares of float32 overflow above 1e19 and vanish below 1e-23
        return {"centre": np.nanmean(wide, axis=0), "spread": np.nanstd(wide, axis=0)}
    if scale == "quantile":
        count = min(QUANTILES, len(chunk))
        fitted = QuantileTransformer(n_quantiles=count, subsample=SUBSAMPLE, random_state=seed).fit(chunk)
        return {"quantiles": fitted.quantiles_}
    return {}


def apply_scale(chunk: NDArray[np.float32], scale: Scale, learned: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """`scale_columns` by what was learned, of these clients or others; each value is scaled by itself."""
    if scale == "none":
        return chunk
    if scale == "signed-log":
        return np.sign(chunk) * np.log1p(np.abs(chunk))
    if scale == "standard":
        scaled: NDArray[np.float32] = ((chunk.astype(np.float64) - learned["centre"]) / learned["spread"]).astype(
            np.float32
        )
        return scaled
    uniform: NDArray[np.float32] = quantiles_of(learned["quantiles"]).transform(chunk).astype(np.float32)
    return 2 * uniform - 1


def reduce(block: NDArray[np.float32], width: int, seed: int) -> tuple[NDArray[np.float32], Components]:
    """The first `width` principal components, float32 (n, width), and what turns others into them; signs fixed by
    scikit-learn, randomised solver seeded. It is the projection that is returned, as others get it, not a factor of the SVD."""
    solver = "covariance_eigh" if block.shape[1] <= 4_096 else "randomized"
    pca = PCA(width, svd_solver=solver, random_state=seed).fit(block)
    components = Components(pca.mean_, pca.components_)
    return components.apply(block), components


def joint_pca(
    parts: Sequence[NDArray[np.float32]], assembly: Assembly, seed: int
) -> tuple[list[NDArray[np.float32]], Components | None]:
    """The parts reduced together where the recipe asks for it, and by what (None: they are as they were)."""
    width, count = sum(part.shape[1] for part in parts), len(parts[0])
    if assembly.pca is None or (target := min(assembly.pca, count)) >= width:
        return list(parts), None  # there are no more components than rows
    reduced, components = reduce(joined(parts), target, seed)
    return [reduced], components


def finish(
    parts: Sequence[NDArray[np.float32]], position: NDArray[np.int64], assembly: Assembly
) -> tuple[NDArray[np.float16], Cut]:
    """Join the parts in spine order as float16 (n, d).

    Args:
        parts: float32 (n, d_i), rows sorted by client.
        position: int64 (n,), row of `parts` for each row of the result.
        assembly: row norm, clip.

    Returns:
        the matrix, and what the clip cut.
    """
    width = sum(part.shape[1] for part in parts)
    matrix: NDArray[np.float16] = limits.empty((len(position), width), np.float16)
    cut = Cut(np.zeros(width, dtype=np.int64), np.zeros(width, dtype=np.float32))
    for rows in _rows(len(position)):
        chunk = np.concatenate([part[position[rows]] for part in parts], axis=1)
        if assembly.row_norm is not None:
            chunk *= assembly.row_norm / np.maximum(np.linalg.norm(chunk, axis=1, keepdims=True), 1e-12)
        low, high = chunk.min(axis=0, initial=0), chunk.max(axis=0, initial=0)
        np.maximum(cut.largest, np.maximum(-low, high), out=cut.largest)
        for bound in np.flatnonzero(np.maximum(-low, high) > assembly.clip):
            cut.values[bound] += np.count_nonzero(np.abs(chunk[:, bound]) > assembly.clip)
        matrix[rows] = np.clip(chunk, -assembly.clip, assembly.clip)
    return matrix, cut


def joined(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The parts side by side."""
    whole: NDArray[np.float32] = limits.empty((len(parts[0]), sum(part.shape[1] for part in parts)), np.float32)
    first = 0
    for part in parts:
        whole[:, first : first + part.shape[1]] = part
        first += part.shape[1]
    return whole


def profile_need(clients: int, blocks: Sequence[tuple[BlockEntry, int]], assembly: Assembly) -> Need:
    """What the assembly takes.

    A block in the making lies beside the finished ones, with its missing values as bits and the temporary copies of a few
    columns, or the components it is reduced to (twice: before and after their centring). The floor has blocks and matrix in
    files; components stay in memory.

    Args:
        clients: n.
        blocks: entry and number of columns that it takes of its block's output.
        assembly: joint PCA.
    """
    done = reduced = width = 0
    peaks, floors = [0], [0]
    for entry, columns in blocks:
        made = matrix(clients, columns)
        kept = min(entry.pca or columns, columns)
        bits = clients // 8 * columns
        turned = 2 * matrix(clients, kept) if kept < columns else 0
        cells = clients * CELL[entry.scale]
        peaks.append(done + made + bits + max(cells * min(COLUMNS_AT_ONCE, columns), turned))
        floors.append(reduced + bits + max(cells * min(LEAST_COLUMNS, columns), turned))
        done += matrix(clients, kept)
        reduced += matrix(clients, kept) if kept < columns else 0
        width += kept
    joint = min(assembly.pca or width, width)
    if joint < width:
        peaks.append(2 * done + 2 * matrix(clients, joint))
        floors.append(reduced + 2 * matrix(clients, joint))
        done, reduced = matrix(clients, joint), matrix(clients, joint)
    rows = matrix(min(ROWS_AT_ONCE, clients), joint, 16)
    peaks.append(done + matrix(clients, joint, 2) + rows)
    floors.append(reduced + rows)
    helps = "a smaller `pca`, fewer families or narrower blocks"
    return Need(max(peaks), max(floors), 0, joint, helps)
