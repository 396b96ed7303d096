"""The board: all submissions on one data folder, ranked by Borda as the challenge ranks them, with how sure each rank is.

Per task rank k of N earns N − k points, ties share their points; the sum over the tasks decides. The probability of a rank is
its share among redraws of all scores, of all tasks together, from their joint distribution over resampled clients (see
`kit.scoring.statistics`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.progress import say
from kit.scoring.results import read_scored, read_scores
from kit.scoring.statistics import Scored, client_covariance, paired, run_covariance
from kit.tasks import CHALLENGE, Task
from kit.tasks.labels import targets_digest

DRAWS: Final = 2_000
PUBLISHED: Final = {
    "rec2 (1st)": (0.7375, 0.8179, 0.8224, 0.7717, 0.8293, 0.8161),
    "ai_lab_recsys (2nd)": (0.7376, 0.8180, 0.8130, 0.7649, 0.8052, 0.8117),
    "SenseLab (3rd)": (0.7374, 0.8180, 0.8081, 0.7637, 0.8081, 0.8116),
    "ambitious (4th)": (0.7389, 0.8151, 0.8041, 0.7699, 0.7948, 0.8147),
    "organisers' baseline": (0.6947, 0.6985, 0.6919, 0.6579, 0.7382, 0.7207),
}
"""Final leaderboard in the order of Task. They were scored on hidden windows and are a reference, not competitors."""
REAL_CLIENTS: Final = 1_000_000
"""Relevant clients of the real data."""


@dataclass(frozen=True)
class Row:
    """One submission on the board.

    Attributes:
        name: its folder's name.
        scores: per task that all submissions on the board define.
        borda: points.
        rank: 1 = best; equal points share the better rank.
        rank_chances: probability of each rank 1 … N.
    """

    name: str
    scores: dict[Task, float]
    borda: float
    rank: int
    rank_chances: tuple[float, ...]


def borda(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (…, N) of N submissions from scores (…, T, N): rank k of N earns N − k per task, ties share."""
    points: NDArray[np.float64] = (rankdata(scores, axis=-1) - 1).sum(axis=-2)
    return points


def submissions_on(
    root: Path, data: Path | None, probe: str, left_out: Callable[[str, str], object] | None = None
) -> dict[Path, str]:
    """Submission folder → data folder, for those under `root` scored with `probe`, on `data` if given.

    Folders with the same target files have one name, that of the first submission's; scores on targets that a folder no longer
    has go by its name with their digest, and so have no part in its board. Submissions whose vectors are others than those that
    were scored are left out, which `left_out` (name, why) is told; by default it is said.
    """
    left_out = left_out or (lambda name, why: say(f"left out: {why}"))
    found: dict[Path, str] = {}
    places: dict[str, str] = {}
    for path in sorted(root.glob("*/scores.json")):
        try:
            report = read_scores(path.parent).get(probe)
            if not report or (data is not None and Path(report["data"]).resolve() != data.resolve()):
                continue
            if not read_scored(path.parent, probe):  # none of its tasks is defined
                continue
        except KitError as error:
            left_out(path.parent.name, str(error))
            continue
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            left_out(path.parent.name, f"{path} is no scores file ({error!r}). Delete it and score again.")
            continue
        place, targets = str(report["data"]), str(report["targets"])
        if targets not in places:
            now = _targets_now(place)
            if now not in ("", targets) or place in places.values():  # the folder was made anew since then
                place += f" (targets {targets[:6]})"
        found[path.parent] = places.setdefault(targets, place)
    return found


def comparable(folders: list[Path], probe: str) -> tuple[list[Path], dict[str, str]]:
    """The largest set of submissions that share a scored task, and name → why it is left out of the others.

    Of sets of one size, that with the most tasks in common; one submission that shares none keeps nobody else off the board.
    """
    tasks = {folder: set(read_scored(folder, probe)) for folder in folders}
    groups = [[folder for folder in folders if task in tasks[folder]] for task in CHALLENGE]
    kept = max(groups, key=lambda group: (len(group), len(_common(group, tasks))), default=[])
    common = " and ".join(_names(_common(kept, tasks)))
    return kept, {
        folder.name: f"it was scored on {', '.join(_names(tasks[folder]))} only, the others on {common}"
        for folder in folders
        if folder not in kept
    }


def _names(tasks: set[Task]) -> list[str]:
    """The challenge's in its order, then others."""
    own = sorted(task.name for task in tasks if not task.in_challenge)
    return [*(task.name for task in CHALLENGE if task in tasks), *own]


def _common(group: list[Path], tasks: dict[Path, set[Task]]) -> set[Task]:
    return set.intersection(*(tasks[folder] for folder in group)) if group else set()


def _targets_now(place: str) -> str:
    """Digest of a data folder's target files as they are; empty where they cannot be read."""
    folder = DataFolder(Path(place))
    try:
        folder.require_split()
        return targets_digest(folder)
    except (KitError, OSError):
        return ""


def rank(folders: list[Path], probe: str, seed: int = 0) -> list[Row]:
    """Board rows, best first.

    Args:
        folders: submissions scored on the same data with the same probe.
        probe: which.
        seed: of the redraws.

    Raises:
        KitError: fewer than one submission, or no task that all of them define.
    """
    if not folders:
        raise KitError(
            f"No submission was scored with the {probe} probe.", "Run `kit score SUBMISSION --data DIR` first."
        )
    scored = [read_scored(folder, probe) for folder in folders]
    tasks = [task for task in CHALLENGE if all(task in item for item in scored)]
    if not tasks:
        held = "; ".join(
            f"{folder.name}: {', '.join(task.name for task in item)}"
            for folder, item in zip(folders, scored, strict=True)
        )
        raise KitError(f"The submissions share no scored task ({held}).", "Score all of them on the same tasks.")
    scores = np.array([[item[task].score for item in scored] for task in tasks])  # (T, N)
    points = borda(scores)
    chances = _rank_chances(scores, [[item[task] for item in scored] for task in tasks], seed)
    ranks = rankdata(-points, method="min").astype(int)
    rows = [
        Row(
            folder.name,
            {task: float(scores[t, i]) for t, task in enumerate(tasks)},
            float(points[i]),
            int(ranks[i]),
            tuple(np.round(chances[i], 4).tolist()),
        )
        for i, folder in enumerate(folders)
    ]
    return sorted(rows, key=lambda row: (row.rank, row.name))


def _rank_chances(scores: NDArray[np.float64], scored: list[list[Scored]], seed: int) -> NDArray[np.float64]:
    """(N, N): chance of submission i to come in at rank r + 1, ties broken by name order among equals at random."""
    rng = np.random.default_rng(seed)
    count = scores.shape[1]
    # All tasks in one draw: a client who is predicted well in one is in others, and such luck does not cancel.
    joint = client_covariance([item for items in scored for item in items])
    if paired(everything := [item for items in scored for item in items]):
        joint += run_covariance(everything)  # a seed's luck is common to tasks, as in the sum that `together` makes
    else:
        for t, items in enumerate(scored):
            own = slice(t * count, (t + 1) * count)
            joint[own, own] += run_covariance(items)
    draws = rng.multivariate_normal(scores.ravel(), joint, size=DRAWS, check_valid="ignore").reshape(DRAWS, -1, count)
    points = borda(draws) + rng.random((DRAWS, count)) * 1e-6
    places = count - rankdata(points, axis=-1).astype(int)  # 0 = best
    return np.stack([(places == r).mean(axis=0) for r in range(count)], axis=1)


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    """For --json."""
    return [
        {
            "name": row.name,
            "rank": row.rank,
            "borda": row.borda,
            "scores": {task.name: score for task, score in row.scores.items()},
            "sum": round(sum(row.scores.values()), 4),
            "rank_chances": list(row.rank_chances),
        }
        for row in rows
    ]


def as_markdown(rows: list[Row]) -> str:
    """A table for a pull request."""
    tasks = list(rows[0].scores)
    head = ["rank", "submission", *(task.name for task in tasks), "sum", "Borda", "P(1st)"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        numbers = [f"{row.scores[task]:.4f}" for task in tasks]
        cells = [
            str(row.rank),
            row.name,
            *numbers,
            f"{sum(row.scores.values()):.4f}",
            f"{row.borda:g}",
            f"{row.rank_chances[0]:.0%}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
