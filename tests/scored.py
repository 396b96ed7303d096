"""Scoring a folder in one line, as most tests want it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kit.data.layout import DataFolder
from kit.probes.registry import Options
from kit.scoring.results import ScoreReport
from kit.scoring.score import score_submission as score
from kit.submission.submission import Submission
from kit.tasks import Task


def score_submission(
    place: Path,
    folder: DataFolder,
    probe: str = "fast",
    tasks: Sequence[Task] | None = None,
    seeds: int = 1,
    *,
    force: bool = False,
    keep: Callable[[ScoreReport], object] | None = None,
    **options: Any,
) -> ScoreReport:
    """`kit.scoring.score.score_submission` of the submission in a folder, opened for it alone."""
    opened = Submission.open(place)
    return score(opened, folder, probe, tasks, Options(seeds, **options), force=force, keep=keep)
