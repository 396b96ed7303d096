"""Leaving out one block at a time: what each is worth, and what it reaches alone.

Scores are kept per (matrix, task, seed), so that a killed study goes on where it was, and one with more seeds or another part
pays only for what is new.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kit import tracking
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.probes.registry import PROBES, Options, Vectors
from kit.progress import track
from kit.scoring.results import read_scored
from kit.scoring.score import score_and_keep
from kit.scoring.scorer import Measured, Scorer
from kit.scoring.statistics import Scored, compare
from kit.store import Store, digest
from kit.studies.ablation.parts import AblatedPart, Study, Variant, silence
from kit.studies.ablation.result import Ablation, LeftOut, Without, made_from, read_ablation, write_ablation
from kit.submission import submit
from kit.submission.plan import is_fresh
from kit.submission.submission import Submission
from kit.tasks import Task


def leave_one_out(study: Study, scorer: Scorer, seeds: int = 1, *, alone: bool = True) -> Ablation:
    """Score the recipe, the recipe without each part and, if wanted, each block alone.

    Args:
        study: the recipe taken apart.
        scorer: probe, precision and the tasks that count.
        seeds: runs per task; with several, scores are means and intervals hold the noise between seeds.
        alone: whether blocks are scored alone too.

    Raises:
        KitError: no task is defined, a pattern matches nothing, or a profile is too wide.
    """
    tasks = list(scorer.defined(study.clients))

    def measure(variant: Variant) -> Measured:
        return scorer.measure(variant.make, study.clients, variant.key, tasks, seeds)

    told = {"recipe": study.recipe.model_dump(mode="json"), "data": str(study.folder.root), "probe": scorer.name}
    with tracking.run("ablate", told | {"seeds": seeds, "how": study.how}, study.store.root / "runs"):
        full = measure(study.full)
        rows: dict[bool, list[LeftOut]] = {False: [], True: []}
        jobs = list(_jobs(study, alone=alone))
        for part, single in track(jobs, "blocks", len(jobs)):
            variant = study.alone(part) if single else study.without(part)
            row = _row(part.label, full, measure(variant), tasks)
            rows[single].append(row)
            tracking.log("ablation", {"sum": row.total}, about={"part": part.label, "alone": single})
    return Ablation(
        probe=scorer.name,
        precision=scorer.evidence["precision"],
        seeds=seeds,
        how=study.how,
        full={task.name: round(full.scored([task]).score, 6) for task in tasks},
        rows=rows[False],
        alone=rows[True],
        fingerprint=made_from(study.full.key, study.folder, scorer.name, scorer.evidence["precision"]),
    )


def _jobs(study: Study, *, alone: bool) -> Iterator[tuple[AblatedPart, bool]]:
    """(part, whether it is scored alone); a recipe's only block can neither be left out nor differ from the whole."""
    whole = [part for part in study.parts if not part.pattern and len(study.recipe.blocks) > 1]
    yield from ((part, False) for part in study.parts if part.pattern or part in whole)
    yield from ((part, True) for part in whole if alone)


def _row(label: str, full: Measured, part: Measured, tasks: Sequence[Task]) -> LeftOut:
    def entry(some: Sequence[Task]) -> Without:
        return _entry(full.scored(some), part.scored(some))

    return LeftOut(block=label, without={task.name: entry([task]) for task in tasks}, sum=entry(tasks))


def _entry(full: Scored, part: Scored) -> Without:
    found = compare(full, part)
    low, high = found.interval
    return Without(score=part.score, difference=found.difference, low=low, high=high)


def measure_ablation(
    submission: Submission, folder: DataFolder, probe: str = "fast", options: Options | None = None
) -> Ablation:
    """Score the submission once per block with that block's columns set to 0, and keep the result in ablation.json.

    Zeros rather than a narrower matrix: the probe then starts from the same weights in every run, and the difference is the
    block's, not that of another start. Where the recipe gives rows a norm, they get it again without the block. Known results
    are not made again for the same vectors, targets and probe.

    Raises:
        KitError: there is only one block, as after a joint PCA.
    """
    manifest, blocks = submission.manifest, submission.blocks
    if len(blocks) < 2:
        raise KitError(
            f"{submission} has the one block {next(iter(blocks), '')!r}: nothing would be left.",
            "Leaving blocks out needs several of them, and no [assembly] pca.",
        )
    known, precision = read_ablation(submission.folder), PROBES.loaded()[probe].usual
    decided = made_from(manifest["fingerprint"], folder, probe, precision)
    if not submission.is_as_built:
        raise KitError(
            f"{submission} holds other vectors than its manifest.json was written for: their blocks are not known.",
            "Build the submission again.",
        )
    if known is not None and (known.probe, known.precision, known.fingerprint) == (probe, precision, decided):
        return known
    options = replace(options or Options(), seeds=1, precision=precision)
    whole = score_and_keep(submission, folder, probe, options=options)
    stored = read_scored(submission.folder, probe)
    full = {
        task: item.single for task, item in stored.items() if task.name in whole.tasks
    }  # the parts have one run each
    scorer = Scorer(folder, probe, list(full), Store(), options)
    rows = []
    for name, columns in track(blocks.items(), "leaving blocks out", len(blocks)):
        variant = _silenced(submission, columns, manifest["recipe"]["assembly"]["row_norm"])
        part = scorer.measure(variant.make, submission.ids, variant.key, list(full), 1)
        without = {task: replace(part.scored([task]), score=round(part.scores[task, 0], 4)) for task in full}
        rows.append(LeftOut(block=name, without={task.name: _entry(full[task], without[task]) for task in full}))
    scores = {task.name: item.score for task, item in full.items()}
    found = Ablation(probe=probe, precision=precision, full=scores, rows=rows, fingerprint=decided)
    write_ablation(submission.folder, found)
    return found


def _silenced(submission: Submission, columns: slice, row_norm: float | None) -> Variant:
    """The submission with some columns set to 0; its key names all that decides it."""

    def make() -> Vectors:
        out = np.empty(submission.vectors.shape, dtype=np.float16)
        silence(submission.vectors, out, columns, row_norm)
        return out

    return Variant(digest([submission.digest, "silenced", columns.start, columns.stop, row_norm]), make)


def submission_of(study: Study, folder: Path) -> bool:
    """Whether `folder` holds just this recipe's submission on this data, built if there is none at all.

    An older or other submission of that name is left alone.
    """
    if not folder.exists():
        submit(study.recipe, study.folder.root, folder, store=study.store)
    return is_fresh(folder, study.recipe, study.history.fingerprint)
