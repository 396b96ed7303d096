"""What `ablation.json` in a submission says: each task's score with one block left out, beside the score with all of them.

    {"probe": "fast", "precision": "bf16", "seeds": 1, "how": "silenced", "full": {TASK: score},
     "rows": [{"block": NAME, "without": {TASK: {"score", "difference", "low", "high"}}, "sum": {…}}],
     "alone": [the same with one block alone]}

`difference` = full − without: what the block adds; [low, high] is its 95 % interval, paired over clients (and with the noise
between seeds where there are several). `how` says whether the profile was assembled anew without the block's columns (`left
out`, `kit ablate`) or whether they were set to 0 (`silenced`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ValidationError

from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.probes.registry import PROBES, Precision
from kit.scoring.evidence import evidence
from kit.store import digest, write_json
from kit.submission.submission import Submission

FILE: Final = "ablation.json"


class Without(BaseModel):
    """One task with one block left out."""

    score: float
    difference: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`helps` or `hurts` if the interval excludes 0, else `cannot tell`."""
        if self.low > 0:
            return "helps"
        return "hurts" if self.high < 0 else "cannot tell"


class LeftOut(BaseModel):
    """All tasks with one block left out, or with nothing but one.

    Attributes:
        block: its name; `a+b` for entries of one run together, `block:pattern` for some of a block's columns.
        without: task → score and difference to all blocks.
        sum: the same for the sum over the tasks, with an interval of its own; None if the writer did not say.
    """

    block: str
    without: dict[str, Without]
    sum: Without | None = None

    @property
    def total(self) -> float:
        """What the block adds to the sum over the tasks."""
        return self.sum.difference if self.sum is not None else sum(entry.difference for entry in self.without.values())


class Ablation(BaseModel):
    """A leave-one-block-out study of a submission.

    Attributes:
        probe: which probe scored.
        seeds: runs per task.
        full: task → score with all blocks.
        rows: one per block.
        precision: of the probe's matrix products.
        how: whether blocks were left out of the profile or silenced in it.
        alone: one per block, with nothing but it.
        fingerprint: of the vectors, targets and code when it was made; empty if the writer did not say.
    """

    probe: str
    seeds: int = 1
    full: dict[str, float]
    rows: list[LeftOut]
    precision: Precision = "fp32"
    how: Literal["left out", "silenced"] = "silenced"
    alone: list[LeftOut] = []
    fingerprint: str = ""


def read_ablation(submission: Path) -> Ablation | None:
    """ablation.json of a submission; None if there is none.

    Raises:
        KitError: it does not follow the schema.
    """
    path = submission / FILE
    if not path.exists():
        return None
    try:
        return Ablation.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        raise KitError(
            f"{path} is no ablation ({str(error).splitlines()[0]}).", "Delete it and make it again."
        ) from error


def read_current(submission: Submission, folder: DataFolder | None) -> Ablation | None:
    """`read_ablation`, but None where vectors, targets or probe are others now, or there is no such probe any more; without a
    data folder that cannot be known."""
    found = read_ablation(submission.folder)
    if found is None or not found.fingerprint:
        return found
    if folder is None:
        return found if submission.is_as_built else None
    if found.probe not in PROBES.loaded():
        return None
    now = made_from(submission.manifest["fingerprint"], folder, found.probe, found.precision)
    return found if now == found.fingerprint and submission.is_as_built else None


def made_from(vectors: str, folder: DataFolder, probe: str, precision: Precision) -> str:
    """Digest of what decides an ablation: the profile's fingerprint, the target files and the probe's code."""
    return digest([vectors, evidence(folder, PROBES.loaded()[probe], precision)])


def write_ablation(submission: Path, ablation: Ablation) -> None:
    """Write ablation.json atomically."""
    write_json(submission / FILE, ablation.model_dump(mode="json"))
