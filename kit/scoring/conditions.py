"""When the organisers' evaluator would score a valid submission otherwise than it could be scored.

It neither shuffles rows nor scales values, it reads float16, and it takes the client lists as it finds them. Each note says
what was seen, what follows for the official score, and what to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from kit.challenge import EventType
from kit.contract import client_errors, require_none
from kit.data.layout import DataFolder, load_ids
from kit.errors import KitError
from kit.scoring.cohorts import EventCounts
from kit.submission.submission import Submission
from kit.tasks import CONVERSION
from kit.tasks.labels import label_matrix
from kit.tasks.metrics import EVALUATOR_BATCH, auroc
from kit.tasks.window import TargetWindow

SAMPLE: Final = 20_000
NORMS: Final = (1.0, 30.0)
"""Median row norms between these are what the unscaled probe handles well."""
LARGE: Final = 1000.0
NEAR_LIMIT: Final = 50_000.0
SUBNORMAL: Final = float(np.finfo(np.float16).tiny)
"""Below 6.1e-5 a float16 has fewer than its 11 bits."""
UNEVEN: Final = 100.0
"""Largest over median column scale, from which a few columns drown the others."""
ALIKE: Final = 0.9
"""Mean cosine of what the input layer sees of two clients from which their difference loses digits in bfloat16: at .99 scores
departed by .02, at .5 by .002 (tests/benchmarks/precision.py)."""
ORDERED: Final = 0.05
"""AUROC of the row number for buying may differ from 0.5 by this much; more, and five standard errors, is no accident."""
OWN: Final = 0.5
"""Of the ids, or of the relevant clients if these are fewer, this share must be both: else it is another folder's submission."""
SIGMAS: Final = 6.0
"""Standard deviations by which batches may differ more than chance lets them."""


def conditions(submission: Submission, folder: DataFolder, counts: EventCounts | None = None) -> list[str]:
    """Why the organisers' evaluator would score a valid submission otherwise than we do; empty when it would not.

    Args:
        submission: opened; its ids and vectors are read.
        folder: a split data folder.
        counts: each client's events before the cut, in the submission's order; without them less can be seen.
    """
    notes = _active_notes(folder, counts) if counts is not None else []
    notes += _order_notes(submission.ids, folder, counts)
    return notes + _scale_notes(submission) + precision_notes(submission)


def precision_notes(submission: Submission) -> list[str]:
    """Why scores in bf16 may depart from fp32, the organisers' precision, on these vectors; empty if they should not."""
    reasons = []
    if submission.largest > LARGE:
        reasons.append(f"values reach {submission.largest:,.0f}, as raw counts do")
    ratio = uneven(submission.scales)
    if ratio > UNEVEN:
        reasons.append(f"one column's scale is {ratio:,.0f} × the median's")
    cosine = _mean_cosine(submission)
    if cosine > ALIKE:
        reasons.append(
            f"to the input layer two clients look alike (mean cosine {cosine:.4f}: short rows, or rows that point the same way)"
        )
    if not reasons:
        return []
    return [f"bf16 may depart from fp32 here by .01 and more: {'; '.join(reasons)}. Use --precision fp32, or scale."]


def uneven(scales: NDArray[np.float64]) -> float:
    """Largest over median root mean square of the columns that are not all zero; 1 without any."""
    some = scales[scales > 0]
    return float(some.max() / np.median(some)) if len(some) else 1.0


def _rows(submission: Submission) -> NDArray[np.float32]:
    rows = np.linspace(0, len(submission.vectors) - 1, min(len(submission.vectors), SAMPLE)).astype(np.int64)
    return np.asarray(submission.vectors[rows], dtype=np.float32)


def _mean_cosine(submission: Submission) -> float:
    """Mean cosine between what the input layer makes of two rows, from a sample: the squared length of the mean direction.

    PyTorch draws weights and bias from the same range, so at the start the layer sees a row with a 1 at its end: short rows are
    as alike as rows that point the same way.
    """
    sample = _rows(submission)
    if len(sample) < 2:
        return 0.0
    sample = np.column_stack([sample, np.ones(len(sample), dtype=np.float32)])
    sample /= np.linalg.norm(sample, axis=1, keepdims=True)
    return float(np.square(sample.mean(axis=0, dtype=np.float64)).sum())


def _scale_notes(submission: Submission) -> list[str]:
    notes = []
    norm = float(np.median(np.linalg.norm(_rows(submission), axis=1))) if len(submission.vectors) else 0.0
    if not NORMS[0] <= norm <= NORMS[1]:
        notes.append(
            f"The vectors look unscaled: the median norm is {norm:.3g}, and the probe, which does not scale, "
            f"works best between {NORMS[0]:g} and {NORMS[1]:g}."
        )
    if submission.largest > NEAR_LIMIT:
        notes.append(
            f"Values reach {submission.largest:,.0f}: float16 ends at 65,504 and what is above becomes infinite."
        )
    faint = int(np.count_nonzero((submission.scales > 0) & (submission.scales < SUBNORMAL)))
    if faint:
        notes.append(
            f"{faint} columns are so small (below 6e-5) that float16 keeps few of their digits: scale them up."
        )
    return notes


def require_clients(submission: Path, ids: NDArray[np.int64], folder: DataFolder) -> None:
    """Refuse ids that are not exactly the folder's relevant clients, in the words of `kit validate`.

    Raises:
        KitError: they are not; where most are no relevant clients, this is another data folder's submission.
    """
    relevant = folder.clients()
    known = int(np.isin(ids, relevant).sum())
    if known < OWN * min(len(ids), len(relevant)) or not known:
        raise KitError(
            f"{known or 'None'} of the {len(ids)} ids {'are relevant clients' if known else 'is a relevant client'} of "
            f"{folder.root}, which has {len(relevant)}.",
            "Score a submission on the data folder that it was built from.",
        )
    require_none(client_errors(ids, relevant), submission)


def _active_notes(folder: DataFolder, counts: EventCounts) -> list[str]:
    """The official split leaves the published list of active clients alone: it may look into the target windows."""
    if not folder.active_clients.exists():
        return []
    active = np.isin(counts.clients, load_ids(folder.active_clients, f"Run `kit data split {folder.root}`."))
    late = int((active & (counts.of(EventType.BUY) == 0)).sum())
    if not late:
        return []
    return [
        f"{late} of {int(active.sum())} active clients bought nothing before the cut: their list was not made for this "
        "split, and churn reads too high. `kit data split` makes it anew."
    ]


def _order_notes(ids: NDArray[np.int64], folder: DataFolder, counts: EventCounts | None) -> list[str]:
    if len(ids) > 2 and (np.all(np.diff(ids) > 0) or np.all(np.diff(ids) < 0)):
        return ["Rows are sorted by id: the evaluator does not shuffle, so batches follow the ids; permute rows once."]
    absent = label_matrix(CONVERSION, TargetWindow(folder, "train"), ids).toarray()[:, 0]
    lean, allowed = _lean(absent)
    if lean > allowed:
        first = "buyers first" if auroc(np.arange(len(ids)), absent) > 0.5 else "buyers last"
        return [
            f"Rows are ordered by purchases ({first}): the evaluator does not shuffle and its batches would be lopsided; "
            "permute."
        ]
    if counts is not None and _follows(counts.total):
        return [
            "Rows are sorted by activity: the evaluator does not shuffle, so batches are unlike each other; permute."
        ]
    if _clustered(absent):
        return [
            "Buyers stand together in the rows: the evaluator does not shuffle and its batches would be lopsided; permute."
        ]
    return []


def _lean(absent: NDArray[np.float32]) -> tuple[float, float]:
    """How far the row number tells buyers from others, |AUROC − ½|, and how far it may by accident."""
    n, buyers = len(absent), int((absent == 0).sum())
    if min(buyers, n - buyers) == 0:
        return 0.0, ORDERED
    noise = np.sqrt((n + 1) / (12 * buyers * (n - buyers)))
    return abs(auroc(np.arange(n), absent) - 0.5), max(ORDERED, 5 * noise)


def _follows(total: NDArray[np.int64]) -> bool:
    """Whether activity rises or falls along the rows: rank correlation above 0.1 and five standard errors."""
    if len(total) < 3 or total.min() == total.max():
        return False
    correlation = float(spearmanr(np.arange(len(total)), total).statistic)
    return bool(abs(correlation) > max(2 * ORDERED, 5 / np.sqrt(len(total))))


def _clustered(absent: NDArray[np.float32]) -> bool:
    """Whether the evaluator's batches differ in their share of buyers by more than chance (χ² for equal shares)."""
    batches = len(absent) // EVALUATOR_BATCH
    share = float(absent.mean()) if len(absent) else 0.0
    if batches < 4 or share in (0.0, 1.0):
        return False
    shares = absent[: batches * EVALUATOR_BATCH].reshape(batches, -1).mean(axis=1, dtype=np.float64)
    chi2 = EVALUATOR_BATCH * np.sum((shares - share) ** 2) / (share * (1 - share))
    return bool(chi2 - (batches - 1) > SIGMAS * np.sqrt(2 * (batches - 1)))
