"""Two scored submissions side by side: per task, and in the sum of the challenge's tasks that both have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kit.errors import KitError
from kit.scoring.results import read_scored
from kit.scoring.statistics import Difference, Scored, compare, together


@dataclass(frozen=True)
class Compared:
    """Two scores and their difference, first − second, paired over clients."""

    first: Scored
    second: Scored

    @property
    def difference(self) -> Difference:
        """With its interval and verdict."""
        return compare(self.first, self.second)


def compared(first: Path, second: Path, probe: str) -> dict[str, Compared]:
    """Task → both scores; `sum` last, where they share two of the challenge's tasks or more.

    Raises:
        KitError: one of them was not scored by this probe, or they share no task.
    """
    one, two = read_scored(first, probe), read_scored(second, probe)
    common = [task for task in one if task in two]
    if not common:
        raise KitError(f"{first} and {second} share no scored task.", "Score both on the same tasks.")
    pairs = {task.name: Compared(one[task], two[task]) for task in common}
    six = [task for task in common if task.in_challenge]
    if len(six) > 1:
        pairs["sum"] = Compared(together([one[task] for task in six]), together([two[task] for task in six]))
    return pairs
