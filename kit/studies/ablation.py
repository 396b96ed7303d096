"""What `ablation.json` in a submission says: each task's score with one block left out, beside the score with all of them.

    {"probe": "fast", "precision": "bf16", "seeds": 1, "how": "silenced", "full": {TASK: score},
     "rows": [{"block": NAME, "without": {TASK: {"score", "difference", "low", "high"}}, "sum": {…}}],
     "alone": [the same with one block alone]}

`difference` = full − without: what the block adds; [low, high] is its 95 % interval, paired over clients (and with the noise
between seeds where there are several). `how` says whether the profile was assembled anew without the block's columns («left
out», `kit ablate`) or whether they were set to 0 («silenced»).
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.probes.registry import Precision, load_probes
from kit.progress import track
from kit.scoring.results import read_scored, write_scores
from kit.scoring.score import evidence, score_submission
from kit.scoring.statistics import Scored, compare
from kit.store import digest, write_json
from kit.submission import read_manifest
from kit.submission.card import as_built

FILE: Final = "ablation.json"
ROWS_AT_ONCE: Final = 65_536


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
    """All tasks with one block left out, or with nothing but one.

    Attributes:
        block: its name; «a+b» for entries of one run together, «block:pattern» for some of a block's columns.
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


def read_current(submission: Path, folder: DataFolder | None) -> Ablation | None:
    """`read_ablation`, but None where vectors, targets or probe are others now, or there is no such probe any more; without a
    data folder that cannot be known."""
    found = read_ablation(submission)
    if found is None or not found.fingerprint:
        return found
    if folder is None:
        return found if as_built(submission, read_manifest(submission)) else None
    if found.probe not in load_probes():
        return None
    manifest = read_manifest(submission)
    now = made_from(manifest["fingerprint"], folder, found.probe, found.precision)
    return found if now == found.fingerprint and as_built(submission, manifest) else None


def made_from(vectors: str, folder: DataFolder, probe: str, precision: Precision) -> str:
    """Digest of what decides an ablation: the profile's fingerprint, the target files and the probe's code."""
    return digest([vectors, evidence(folder, load_probes()[probe], precision)])


def write_ablation(submission: Path, ablation: Ablation) -> None:
    """Write ablation.json atomically."""
    write_json(submission / FILE, ablation.model_dump(mode="json"))


def measure_ablation(submission: Path, folder: DataFolder, probe: str = "fast", threads: int | None = None) -> Ablation:
    """Score the submission once per block with that block's columns set to 0, and keep the result in ablation.json.

    Zeros rather than a narrower matrix: the probe then starts from the same weights in every run, and the difference is the
    block's, not that of another start. Where the recipe gives rows a norm, they get it again without the block. Known results
    are not made again for the same vectors, targets and probe.

    Raises:
        KitError: there is only one block, as after a joint PCA.
    """
    manifest = read_manifest(submission)
    blocks = manifest["blocks"]
    if len(blocks) < 2:
        raise KitError(
            f"{submission} has the one block {blocks[0]['name']!r}: nothing would be left.",
            "Leaving blocks out needs several of them, and no [assembly] pca.",
        )
    known, precision = read_ablation(submission), load_probes()[probe].usual
    decided = made_from(manifest["fingerprint"], folder, probe, precision)
    if not as_built(submission, manifest):
        raise KitError(
            f"{submission} holds other vectors than its manifest.json was written for: their blocks are not known.",
            "Build the submission again.",
        )
    if known is not None and (known.probe, known.precision, known.fingerprint) == (probe, precision, decided):
        return known
    write_scores(submission, [score_submission(submission, folder, probe, threads=threads)])
    full = {task: item.single for task, item in read_scored(submission, probe).items()}  # the parts have one run each
    rows = []
    for block in track(blocks, "leaving blocks out", len(blocks)):
        with TemporaryDirectory(prefix="kit-ablation-") as place:
            _without(
                submission,
                Path(place),
                slice(block["start"], block["stop"]),
                manifest["recipe"]["assembly"]["row_norm"],
            )
            write_scores(Path(place), [score_submission(Path(place), folder, probe, list(full), threads=threads)])
            part = read_scored(Path(place), probe)
        rows.append(LeftOut(block=block["name"], without={task.name: _entry(full[task], part[task]) for task in full}))
    scores = {task.name: item.score for task, item in full.items()}
    found = Ablation(probe=probe, precision=precision, full=scores, rows=rows, fingerprint=decided)
    write_ablation(submission, found)
    return found


def _entry(full: Scored, part: Scored) -> Without:
    found = compare(full, part)
    low, high = found.interval
    return Without(score=part.score, difference=found.difference, low=low, high=high)


def _without(submission: Path, place: Path, columns: slice, row_norm: float | None) -> None:
    """A copy of the submission with `columns` set to 0, rows scaled to `row_norm` again if there is one."""
    vectors = np.load(submission / "embeddings.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(place / "embeddings.npy", mode="w+", dtype=np.float16, shape=vectors.shape)
    silence(vectors, out, columns, row_norm)
    out.flush()
    np.save(place / "client_ids.npy", np.load(submission / "client_ids.npy"))


def silence(
    vectors: NDArray[np.float16], out: NDArray[np.float16], columns: slice | NDArray[Any], row_norm: float | None
) -> None:
    """Copy `vectors` (n, d) to `out` with `columns` set to 0, rows scaled to `row_norm` again if there is one."""
    for first in range(0, len(vectors), ROWS_AT_ONCE):
        chunk = vectors[first : first + ROWS_AT_ONCE].astype(np.float32)
        chunk[:, columns] = 0
        if row_norm is not None:
            chunk *= row_norm / np.maximum(np.linalg.norm(chunk, axis=1, keepdims=True), 1e-12)
        out[first : first + ROWS_AT_ONCE] = chunk
