"""Scoring, validating and reporting on a folder in one line, as most tests want it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kit.data.layout import DataFolder
from kit.errors import Finding
from kit.neighbours import Profiles
from kit.neighbours import open_profiles as profiles_of
from kit.probes.registry import Options
from kit.report import Report, data_folder_of
from kit.report import collect as collect_report
from kit.scoring.results import ScoreReport
from kit.scoring.results import write_scores as merge_scores
from kit.scoring.score import score_submission as score
from kit.submission import validate as findings_of
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


def write_scores(place: Path, reports: Sequence[ScoreReport]) -> Path:
    """`kit.scoring.results.write_scores` into the submission in a folder."""
    return merge_scores(Submission(place), reports)


def validate(place: Path, folder: DataFolder) -> list[Finding]:
    """`kit.submission.validate` of the submission in a folder."""
    return findings_of(Submission(place), folder)


def open_profiles(place: Path) -> Profiles:
    """`kit.neighbours.open_profiles` of the submission in a folder."""
    return profiles_of(Submission(place))


def collect(place: Path, data: Path | None = None, **options: Any) -> Report:
    """`kit.report.collect` of the submission in a folder, with its data folder as `kit report` finds it."""
    opened = Submission.open(place)
    return collect_report(opened, data_folder_of(opened, data), **options)
