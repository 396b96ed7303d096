"""Many different profiles made from a few submissions: what a stand-in for the official probe must rank.

Every block alone and pairs of blocks, fewer columns, other norms, rows in a telling order, noise, reductions, counts. All are
seeded by their names, so a study that is resumed finds the same bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations, zip_longest
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.decomposition import PCA

from kit.challenge import MAX_WIDTH
from kit.errors import KitError
from kit.submission.submission import Submission

Values = NDArray[np.float32]
Made = tuple[NDArray[np.int64], Values]
LIMIT: Final = 60_000.0
"""Values are clipped to ± this: float16 ends at 65,504."""
PAIRS: Final = 6
"""At most this many pairs of blocks per submission."""
ORDERED: Final = ("by-activity", "by-id")
"""Treatments that are an order of the rows."""


@dataclass(frozen=True)
class ProfileSource:
    """A submission that variants are made from.

    Attributes:
        name: first part of the variants' names.
        ids: (n,) clients in row order.
        values: (n, d) float32.
        blocks: block → its columns; empty without a manifest or with a single block.
        activity: (n,) events of each client before the cut; None where the folder holds no events.
    """

    name: str
    ids: NDArray[np.int64]
    values: Values
    blocks: dict[str, slice]
    activity: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class ProfileVariant:
    """One profile of a study.

    Attributes:
        name: source and treatment.
        about: a line on what it is.
        make: gives ids (n,) and vectors (n, d) float16.
        ordered: whether the order of its rows is what makes it.
    """

    name: str
    about: str
    make: Callable[[], tuple[NDArray[np.int64], NDArray[np.float16]]]
    ordered: bool = False


def read_source(
    submission: Submission, activity: Callable[[NDArray[np.int64]], NDArray[np.int64] | None]
) -> ProfileSource:
    """A submission with its blocks' columns from the manifest; `activity` counts events of given clients.

    Raises:
        KitError: the submission is unreadable or not sound.
    """
    blocks = submission.blocks if len(submission.blocks) > 1 else {}
    values = np.asarray(submission.vectors, dtype=np.float32)
    return ProfileSource(submission.folder.name, submission.ids, values, blocks, activity(submission.ids))


def variants(sources: Sequence[ProfileSource]) -> list[ProfileVariant]:
    """All variants of all sources, the most telling first and sources taking turns, so that the first N differ most."""
    if len({source.name for source in sources}) < len(sources):
        raise KitError("Two of the submissions have the same folder name.", "Rename one: names tell profiles apart.")
    rounds = zip_longest(*(_of(source) for source in sources))
    return [variant for turn in rounds for variant in turn if variant is not None]


def _of(source: ProfileSource) -> list[ProfileVariant]:
    """Variants of one source: treatments of the whole and selections of blocks in turns."""
    whole = [(f"{source.name}/{kind}", about, partial(act, source)) for kind, about, act in _treatments(source)]
    parts = [
        (f"{source.name}/only-{'+'.join(names)}", f"columns of {' and '.join(names)}", partial(_columns, source, names))
        for names in _selections(source.blocks)
    ]
    mixed = chain.from_iterable(zip_longest(whole, parts))
    return [
        ProfileVariant(name, about, partial(_finish, name, act), name.removeprefix(f"{source.name}/") in ORDERED)
        for name, about, act in filter(None, mixed)
    ]


def _finish(name: str, act: Callable[[np.random.Generator], Made]) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    ids, values = act(np.random.default_rng(zlib.crc32(name.encode())))
    return ids, np.clip(np.nan_to_num(values), -LIMIT, LIMIT).astype(np.float16)


def _selections(blocks: dict[str, slice]) -> Iterator[tuple[str, ...]]:
    """Every block alone, then pairs."""
    yield from ((name,) for name in blocks)
    yield from list(combinations(blocks, 2))[:PAIRS] if len(blocks) > 2 else ()


def _columns(source: ProfileSource, names: Sequence[str], rng: np.random.Generator) -> Made:
    return source.ids, np.concatenate([source.values[:, source.blocks[name]] for name in names], axis=1)


Treatment = Callable[[ProfileSource, np.random.Generator], Made]


def _treatments(source: ProfileSource) -> list[tuple[str, str, Treatment]]:
    """(kind, description, function) of what can be done to a whole profile, most telling first."""
    found: list[tuple[str, str, Treatment]] = [("whole", "as submitted", lambda s, rng: (s.ids, s.values))]
    if source.activity is not None:
        found.append(("by-activity", "rows sorted by the number of events, most active first", _by_activity))
    found += [
        ("noise-columns", "as many columns of noise beside the profile", _noise_columns),
        ("counts", "each column's ranks as counts up to 1,000: unscaled and heavy-tailed", _counts),
        ("half", "a random half of the columns", partial(_some_columns, share=0.5)),
        ("norm-0.1", "median row norm 0.1: the input layer's bias outweighs it", partial(_norm, norm=0.1)),
        ("noise-values", "as much Gaussian noise as signal on every value", partial(_noise_values, share=1.0)),
        ("pca-16", "16 principal components", partial(_pca, width=16)),
        ("row-l2", "each row divided by its norm", _row_l2),
        ("standard", "columns standardised, clipped to ± 6", _standard),
        ("norm-100", "median row norm 100", partial(_norm, norm=100.0)),
        ("quarter", "a random quarter of the columns", partial(_some_columns, share=0.25)),
        ("by-id", "rows sorted by client id", _by_id),
        ("pca-128", "128 principal components", partial(_pca, width=128)),
        ("noise-values-3", "three times as much noise as signal", partial(_noise_values, share=3.0)),
        ("norm-1", "median row norm 1", partial(_norm, norm=1.0)),
        ("three-levels", "every value rounded to low, middle, high", _three_levels),
        ("spread", f"a random projection to {MAX_WIDTH} columns: nothing gained, width to pay for", _spread),
        ("eighth", "a random eighth of the columns", partial(_some_columns, share=0.125)),
        ("mistaken", "three in ten clients got somebody else's vector", _mistaken),
    ]
    return found


def _by_activity(source: ProfileSource, rng: np.random.Generator) -> Made:
    assert source.activity is not None
    order = np.argsort(-source.activity, kind="stable")
    return source.ids[order], source.values[order]


def _by_id(source: ProfileSource, rng: np.random.Generator) -> Made:
    order = np.argsort(source.ids)
    return source.ids[order], source.values[order]


def _noise_columns(source: ProfileSource, rng: np.random.Generator) -> Made:
    width = min(source.values.shape[1], MAX_WIDTH - source.values.shape[1])
    noise = rng.normal(size=(len(source.ids), width)) * np.sqrt(np.mean(np.square(source.values, dtype=np.float64)))
    return source.ids, np.concatenate([source.values, noise.astype(np.float32)], axis=1)


def _counts(source: ProfileSource, rng: np.random.Generator) -> Made:
    share = (rankdata(source.values, axis=0, method="min") - 1) / len(source.ids)
    return source.ids, np.floor(np.expm1(share * np.log(1001))).astype(np.float32)


def _some_columns(source: ProfileSource, rng: np.random.Generator, share: float) -> Made:
    width = source.values.shape[1]
    chosen = np.sort(rng.permutation(width)[: max(1, int(share * width))])
    return source.ids, source.values[:, chosen]


def _norm(source: ProfileSource, rng: np.random.Generator, norm: float) -> Made:
    median = float(np.median(np.linalg.norm(source.values, axis=1)))
    return source.ids, source.values * np.float32(norm / max(median, 1e-9))


def _noise_values(source: ProfileSource, rng: np.random.Generator, share: float) -> Made:
    noise = rng.normal(size=source.values.shape).astype(np.float32)
    return source.ids, source.values + share * source.values.std(axis=0) * noise


def _pca(source: ProfileSource, rng: np.random.Generator, width: int) -> Made:
    width = min(width, *source.values.shape)
    return source.ids, PCA(width, random_state=0).fit_transform(_standard(source, rng)[1]).astype(np.float32)


def _row_l2(source: ProfileSource, rng: np.random.Generator) -> Made:
    return source.ids, source.values / np.maximum(np.linalg.norm(source.values, axis=1, keepdims=True), 1e-9)


def _standard(source: ProfileSource, rng: np.random.Generator) -> Made:
    centred = source.values - source.values.mean(axis=0)
    return source.ids, np.clip(centred / np.maximum(source.values.std(axis=0), 1e-6), -6, 6)


def _three_levels(source: ProfileSource, rng: np.random.Generator) -> Made:
    return source.ids, np.sign(np.round(_standard(source, rng)[1])).astype(np.float32)


def _spread(source: ProfileSource, rng: np.random.Generator) -> Made:
    width = source.values.shape[1]
    basis = rng.normal(size=(width, MAX_WIDTH)).astype(np.float32) / np.sqrt(np.float32(MAX_WIDTH))
    return source.ids, source.values @ basis


def _mistaken(source: ProfileSource, rng: np.random.Generator) -> Made:
    rows = np.arange(len(source.ids))
    wrong = rng.random(len(rows)) < 0.3
    rows[wrong] = rng.permutation(rows[wrong])
    return source.ids, source.values[rows]
