"""How far bf16 departs from fp32 in the official probe, and whether `kit score` warns where it does.

    python tests/benchmarks/precision.py DATA SUBMISSION… [--task churn …] [--threads 2]

Every submission is scored as it is and in treatments that make precision matter: as counts, tiny, huge, one column a thousand
times the others, all rows pointing one way. Prints per profile the largest difference over the tasks beside the three numbers
that `kit.scoring.conditions.precision_notes` looks at.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kit.contract import column_statistics
from kit.data.layout import DataFolder
from kit.probes.registry import PROBES, Options, Precision
from kit.scoring.conditions import _mean_cosine, precision_notes, uneven
from kit.studies.calibration.variants import read_source, variants
from kit.submission.submission import Submission
from kit.tasks import CHALLENGE, find_task
from kit.tasks.labels import UndefinedTask, load_task

KINDS = ("whole", "counts", "norm-0.1", "norm-100", "row-l2")
Values = NDArray[np.float32]


def one_large(values: Values) -> Values:
    """The first column that varies, a thousand times as large."""
    changed = values.copy()
    changed[:, int(np.argmax(values.std(axis=0) > 0))] *= 1000
    return changed


def one_way(values: Values) -> Values:
    """Ten standard deviations added to every value: rows differ by little of their length."""
    return values + 10 * values.std()


TREATMENTS: dict[str, Callable[[Values], Values]] = {"one-large": one_large, "one-way": one_way}


class Profile(Submission):
    """Vectors in memory that are asked for their notes as a submission is."""

    def __init__(self, ids: NDArray[np.int64], values: Values) -> None:
        super().__init__(Path("in memory"))
        vectors = np.clip(values, -60_000, 60_000).astype(np.float16)
        self.__dict__["_sound"] = (ids, vectors, column_statistics(vectors))


def profiles(submission: Path) -> dict[str, Profile]:
    """Name → profile."""
    source = read_source(Submission.open(submission), lambda ids: None)
    made = {v.name: v.make() for v in variants([source]) if v.name.split("/")[1] in KINDS}
    found = {name: Profile(ids, vectors.astype(np.float32)) for name, (ids, vectors) in made.items()}
    return found | {
        f"{source.name}/{name}": Profile(source.ids, change(source.values)) for name, change in TREATMENTS.items()
    }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("submission", type=Path, nargs="+")
    parser.add_argument("--task", action="append", choices=[task.name for task in CHALLENGE])
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    folder, run = DataFolder(given.data), PROBES.loaded()["official"].run
    print(f"{'profile':34s} {'largest':>9s} {'uneven':>8s} {'cosine':>8s}  warned  max |bf16 - fp32|  (task)")
    missed, quiet = 0, 0
    for submission in given.submission:
        for name, profile in profiles(submission).items():
            gaps: dict[str, float] = {}
            for task in [find_task(value) for value in given.task or [task.name for task in CHALLENGE]]:
                try:
                    data = load_task(task, profile.ids, folder)
                except UndefinedTask:
                    continue
                scores = {}
                precisions: tuple[Precision, ...] = ("fp32", "bf16")
                for precision in precisions:
                    (found,) = run(profile.vectors, [data], Options(precision=precision, threads=given.threads))
                    scores[precision] = found.best.score
                gaps[task.name] = scores["bf16"] - scores["fp32"]
            worst = max(gaps, key=lambda task: abs(gaps[task]))
            warned = bool(precision_notes(profile))
            missed += abs(gaps[worst]) > 0.002 and not warned
            quiet += abs(gaps[worst]) <= 0.002 and warned
            print(
                f"{name:34s} {profile.largest:9.1f} {uneven(profile.scales):8.1f} {_mean_cosine(profile):8.4f}  "
                f"{'yes' if warned else 'no':6s}  {abs(gaps[worst]):.4f}  ({worst})",
                flush=True,
            )
    print(f"{missed} profiles depart by more than .002 without a warning, {quiet} with one do not.")


if __name__ == "__main__":
    main()
