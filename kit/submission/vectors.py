"""Reading a submission's vectors for scoring: shapes, types, ids and values are proven before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.contract import examine, require_none
from kit.errors import KitError


@dataclass(frozen=True)
class Scorable:
    """A submission as a probe needs it.

    Attributes:
        client_ids: (n,) int64, distinct.
        vectors: (n, d), memory-mapped, proven finite.
        largest: the largest magnitude.
        scales: (d,) root mean square of each column.
    """

    client_ids: NDArray[np.int64]
    vectors: NDArray[np.floating[Any]]
    largest: float
    scales: NDArray[np.float64]


def require_submission(submission: Path) -> None:
    """KitError if there is no such folder; the one of that name under submissions/ is suggested."""
    if not submission.is_dir():
        beside = Path("submissions") / submission
        hint = f"Did you mean {beside}?" if beside.is_dir() else "Build one with `kit submit RECIPE --data DIR`."
        raise KitError(f"There is no submission {str(submission)!r}.", hint)


def load_vectors(submission: Path) -> Scorable:
    """Client ids and memory-mapped vectors of a submission folder.

    Raises:
        KitError: there is no such folder, or `kit validate` calls something about the two files an error: the same words.
    """
    require_submission(submission)
    found = examine(submission)
    require_none(found.errors, submission)
    assert found.ids is not None and found.vectors is not None and found.statistics is not None, "without errors"
    return Scorable(found.ids, found.vectors, found.statistics.largest, np.sqrt(found.statistics.power))
