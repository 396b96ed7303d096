"""The clients most similar to a client, by the cosine of their profiles, and what makes them similar.

A cosine is a sum over columns of products of the two normalised rows, so it falls apart into blocks and columns exactly.

Technique I1.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.errors import KitError
from kit.progress import say
from kit.store import Plan, Store
from kit.submission.manifest import describes
from kit.submission.submission import Submission

ROWS_AT_ONCE = 16_384
"""Rows compared together: 128 MiB at full width."""
LINKS, BREADTH = 32, 200
"""Of the index: links per row, and how many candidates are kept while building and searching."""
CHECKED = 200
"""Clients whose neighbours are also found exactly, to measure what an index misses."""


@dataclass(frozen=True)
class SharedColumn:
    """A column that adds much to a cosine: its part of it, and the values of both clients."""

    name: str
    part: float
    own: float
    other: float


@dataclass(frozen=True)
class Neighbour:
    """A similar client.

    Attributes:
        client: its id.
        cosine: in [-1, 1].
        blocks: block → its part of the cosine; they add up to it.
        features: columns with the largest parts, largest first.
    """

    client: int
    cosine: float
    blocks: dict[str, float]
    features: tuple[SharedColumn, ...]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


@dataclass(frozen=True)
class Profiles:
    """A submission's vectors.

    Attributes:
        clients: int64 (n,).
        matrix: (n, d), usually a memory map of float16.
        norms: float32 (n,), L2 norms of the rows, 1 for rows that are all zero.
        names: d names, `block.column`.
        blocks: block → its columns.
    """

    clients: NDArray[np.int64]
    matrix: NDArray[np.floating[Any]]
    norms: NDArray[np.float32]
    names: tuple[str, ...]
    blocks: dict[str, slice]

    def unit(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """float32 (m, d): rows of length 1 (or 0)."""
        return self.matrix[rows].astype(np.float32) / self.norms[rows][:, None]

    def empty(self, rows: NDArray[np.int64] | slice) -> NDArray[np.bool_]:
        """(m,): which rows are all zero; they are similar to nobody."""
        silent: NDArray[np.bool_] = ~(self.matrix[rows] != 0).any(axis=1)
        return silent

    def rows_of(self, clients: Sequence[int]) -> NDArray[np.int64]:
        """Positions of the clients.

        Raises:
            KitError: a client has no vector here.
        """
        place = {client: row for row, client in enumerate(self.clients.tolist())}
        unknown = [client for client in clients if client not in place]
        if unknown:
            some = ", ".join(map(str, np.sort(self.clients)[:3]))
            raise KitError(
                f"There is no client {unknown[0]} among the {len(place):,} of this submission.", f"Some are {some}."
            )
        return np.array([place[client] for client in clients], dtype=np.int64)


def open_profiles(submission: Submission) -> Profiles:
    """Vectors, names of columns and blocks of a submission; without columns.json it is one block of numbered columns.

    Raises:
        KitError: there are no vectors, or they do not fit the ids.
    """
    try:
        clients = np.load(submission.folder / "client_ids.npy")
        matrix = np.load(submission.folder / "embeddings.npy", mmap_mode="r")
    except (OSError, ValueError) as error:
        raise KitError(f"{submission} has no readable vectors ({error}).", "Build it with `kit submit`.") from error
    if matrix.ndim != 2 or len(matrix) != len(clients):
        raise KitError(f"{submission} has {clients.shape} ids for {matrix.shape} vectors.", "See `kit validate`.")
    named = submission.columns_by_block(matrix.shape[1])
    if named is None and (submission.folder / "columns.json").exists() and not describes(submission.folder):
        say(f"  {submission} has other vectors than columns.json was written for: columns are numbered")
    named = named or {"profile": [f"column_{i}" for i in range(matrix.shape[1])]}
    blocks, start = {}, 0
    for name, columns in named.items():
        blocks[name] = slice(start, start + len(columns))
        start += len(columns)
    names = tuple(f"{name}.{column}" for name, columns in named.items() for column in columns)
    norms = np.concatenate([np.linalg.norm(matrix[rows].astype(np.float32), axis=1) for rows in _slices(len(matrix))])
    return Profiles(clients.astype(np.int64), matrix, np.where(norms > 0, norms, 1).astype(np.float32), names, blocks)


def neighbours(
    profiles: Profiles, clients: Sequence[int], k: int = 10, *, features: int = 5, index: Index | None = None
) -> dict[int, list[Neighbour]]:
    """The k most similar other clients of each client, most similar first; none for a client whose vector is all zero. Such
    vectors are nobody's neighbours either.

    Args:
        profiles: where to look.
        clients: ids.
        k: how many; all others where there are fewer.
        features: how many columns to name as reasons.
        index: approximate search instead of comparing with everybody.

    Raises:
        KitError: an unknown client.
    """
    rows = profiles.rows_of(clients)
    places = index.search(profiles, rows, k) if index is not None else exact(profiles, rows, k)
    found = {}
    silent = profiles.empty(rows)
    for client, row, nearest, alone in zip(clients, rows, places, silent, strict=True):
        near = nearest[:0] if alone else nearest[~profiles.empty(nearest)]
        own, others = profiles.unit(rows[rows == row][:1])[0], profiles.unit(near)
        found[client] = [
            _explained(profiles, int(place), own * other, int(row), features)
            for place, other in zip(near, others, strict=True)
        ]
    return found


def _explained(profiles: Profiles, place: int, parts: NDArray[np.float32], row: int, features: int) -> Neighbour:
    """`parts`: float32 (d,), each column's part of the cosine."""
    largest = np.argsort(-parts, kind="stable")[:features]
    shared = tuple(
        SharedColumn(
            profiles.names[i], float(parts[i]), float(profiles.matrix[row, i]), float(profiles.matrix[place, i])
        )
        for i in largest
        if parts[i] > 0
    )
    blocks = {name: float(parts[columns].sum(dtype=np.float64)) for name, columns in profiles.blocks.items()}
    return Neighbour(int(profiles.clients[place]), float(parts.sum(dtype=np.float64)), blocks, shared)


def exact(profiles: Profiles, rows: NDArray[np.int64], k: int) -> list[NDArray[np.int64]]:
    """Row numbers of the k nearest others of each row, by comparing with everybody, a chunk at a time; ties by row number."""
    query = profiles.unit(rows)
    best = np.full((len(rows), 0), -np.inf, dtype=np.float32)
    place = np.zeros((len(rows), 0), dtype=np.int64)
    for chunk in _slices(len(profiles.clients)):
        cosine = query @ profiles.unit(chunk).T
        here = np.arange(chunk.start, chunk.start + cosine.shape[1])
        cosine[rows[:, None] == here] = -np.inf  # oneself
        cosine[:, profiles.empty(chunk)] = -np.inf
        best = np.concatenate([best, cosine], axis=1)
        place = np.concatenate([place, np.broadcast_to(here, cosine.shape)], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :k]
        best, place = np.take_along_axis(best, order, axis=1), np.take_along_axis(place, order, axis=1)
    return [near[np.isfinite(cosines)] for near, cosines in zip(place, best, strict=True)]


class Index:
    """A graph index (HNSW, rows kept as float16) of faiss: an optional extra; kept in the store, made once per submission.

    Raises:
        KitError: faiss is not installed.
    """

    def __init__(self, profiles: Profiles, submission: Path, store: Store | None = None) -> None:
        try:
            faiss: Any = importlib.import_module("faiss")
        except ImportError as error:
            raise KitError(
                "--index needs the package faiss-cpu.", "pip install 'kit[index]', or search exactly."
            ) from error
        store = store or Store()
        settings = {"links": LINKS, "breadth": BREADTH, "faiss": faiss.__version__}
        inputs = {"vectors": store.files_digest([submission / "embeddings.npy"]), **settings}

        def build(folder: Path) -> None:
            index = faiss.IndexHNSWSQ(
                len(profiles.names), faiss.ScalarQuantizer.QT_fp16, LINKS, faiss.METRIC_INNER_PRODUCT
            )
            index.hnsw.efConstruction = BREADTH
            index.train(profiles.unit(slice(0, ROWS_AT_ONCE)))
            for chunk in _slices(len(profiles.clients)):
                index.add(profiles.unit(chunk))
            faiss.write_index(index, str(folder / "index.faiss"))

        plan = Plan("neighbours", inputs, notes={"submission": str(submission)})
        self._index = faiss.read_index(str(store.make(plan, build).folder / "index.faiss"))
        self._index.hnsw.efSearch = BREADTH

    def search(self, profiles: Profiles, rows: NDArray[np.int64], k: int) -> list[NDArray[np.int64]]:
        """Row numbers of about the k nearest others of each row."""
        _, found = self._index.search(profiles.unit(rows), min(k + 1, len(profiles.clients)))
        return [near[(near != row) & (near >= 0)][:k] for row, near in zip(rows, found, strict=True)]


def recall(profiles: Profiles, index: Index, k: int, seed: int = 0) -> float:
    """Share of the true k nearest that the index finds, over up to 200 random clients.

    A neighbour as similar as the k-th true one counts as found: rows may be equal.
    """
    n = len(profiles.clients)
    rows = np.sort(np.random.default_rng(seed).choice(n, size=min(CHECKED, n), replace=False))
    hits = wanted = 0
    for row, true, found in zip(rows, exact(profiles, rows, k), index.search(profiles, rows, k), strict=True):
        own = profiles.unit(np.array([row]))[0]
        worst = float((profiles.unit(true) @ own).min(initial=np.inf)) - 1e-4
        hits += min(int((profiles.unit(found) @ own >= worst).sum()), len(true))
        wanted += len(true)
    return hits / max(wanted, 1)


def _slices(n: int) -> list[slice]:
    return [slice(first, min(first + ROWS_AT_ONCE, n)) for first in range(0, n, ROWS_AT_ONCE)]
