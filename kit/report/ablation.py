"""What `ablation.json` in a submission says: each task's score with one block left out, beside the score with all of them.

    {"probe": "fast", "seeds": 1, "full": {TASK: score},
     "rows": [{"block": NAME, "without": {TASK: {"score", "difference", "low", "high"}}}]}

`difference` = full − without: what the block adds; [low, high] is its 95 % interval, paired over clients.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from kit.errors import KitError
from kit.store import write_json

FILE: Final = "ablation.json"


class Without(BaseModel):
    """One task with one block left out."""

    score: float
    difference: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """«helps» or «hurts» if the interval excludes 0, else «cannot tell»."""
        if self.low > 0:
            return "helps"
        return "hurts" if self.high < 0 else "cannot tell"


class LeftOut(BaseModel):
    """All tasks with one block left out."""

    block: str
    without: dict[str, Without]

    @property
    def total(self) -> float:
        """What the block adds to the sum over the tasks."""
        return sum(entry.difference for entry in self.without.values())


class Ablation(BaseModel):
    """A leave-one-block-out study of a submission.

    Attributes:
        probe: which probe scored.
        seeds: runs per task.
        full: task → score with all blocks.
        rows: one per block.
        fingerprint: of the submission's vectors when it was made; empty if the writer did not say.
    """

    probe: str
    seeds: int = 1
    full: dict[str, float]
    rows: list[LeftOut]
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


def write_ablation(submission: Path, ablation: Ablation) -> None:
    """Write ablation.json atomically."""
    write_json(submission / FILE, ablation.model_dump(mode="json"))
