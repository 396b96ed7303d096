"""The same rows in another order: what a probe that reads them as they come owes to the luck of one permutation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.challenge import PROBE_SEED
from kit.probes.registry import Vectors
from kit.tasks.labels import TaskData


@dataclass(frozen=True)
class Reordered:
    """A view of vectors with their rows permuted; a block is copied when it is asked for, the rest stays in its map.

    Attributes:
        vectors: (n, d).
        order: (n,) row i of the view is row order[i] of the vectors.
    """

    vectors: Vectors
    order: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""
        return self.vectors.shape

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, rows: slice) -> NDArray[np.floating[Any]]:
        return self.vectors[self.order[rows]]


def reorder(vectors: Vectors, tasks: Sequence[TaskData], seed: int) -> tuple[Vectors | Reordered, list[TaskData]]:
    """Vectors and tasks with the clients in the order that `seed` draws; as they are for the official seed.

    Args:
        vectors: (n, d).
        tasks: labels, with `rows` ascending positions in `vectors`.
        seed: of a run.

    Returns:
        the view (n, d), and the tasks with rows ascending in it and their labels moved along.
    """
    if seed == PROBE_SEED:
        return vectors, list(tasks)
    order = np.random.default_rng(seed).permutation(len(vectors)).astype(np.int64)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return Reordered(vectors, order), [_moved(task, place) for task in tasks]


def _moved(task: TaskData, place: NDArray[np.int64]) -> TaskData:
    rows = place[task.rows]
    by_row = np.argsort(rows)
    return replace(task, rows=rows[by_row], train=task.train[by_row], validation=task.validation[by_row])
