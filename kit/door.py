"""The Python door: what `import kit` offers, each name imported when it is first used.

    import kit

    data = kit.open_data("data/small")
    submission = kit.submit("pipelines/stats.toml", data)
    print(kit.score(submission, data).sum)

Every function does what the command of its name does, with the same files and the same store: what one has made, the other
finds. Paths may be strings.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kit.data.clients import parse_clients
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.history import History
from kit.limits.size import parse_size
from kit.probes.registry import Options, Precision
from kit.recipe import Recipe, read_recipe
from kit.scoring.compared import compared
from kit.scoring.results import ScoreReport
from kit.scoring.score import score_and_keep
from kit.scoring.statistics import Difference
from kit.submission.embed import embed as embed_clients
from kit.submission.submission import Submission
from kit.submission.write import submit as build
from kit.tasks import find_task

Place = str | PathLike[str]

__all__ = ["History", "compare", "embed", "load_submission", "open_data", "score", "submit"]


def open_data(folder: Place) -> DataFolder:
    """A split data folder; `kit.History.open(folder)` gives the events before its cut.

    Raises:
        KitError: there is no such folder, or it is not split yet.
    """
    found = DataFolder(Path(folder))
    if not found.root.is_dir():
        raise KitError(f"There is no data folder {str(folder)!r}.", "Make one with `kit data synth DIR --preset tiny`.")
    found.require_split()
    return found


def submit(
    recipe: Recipe | Place,
    data: DataFolder | Place,
    out: Place | None = None,
    *,
    cut: str = "input",
    clients: str = "relevant",
    memory_limit: str | None = None,
) -> Submission:
    """Build a submission: blocks → profile → a folder with ids and float16 vectors (n, d). What is fresh is not built again.

    Args:
        recipe: a recipe's file, or a Recipe.
        data: a split data folder.
        out: where it goes; submissions/NAME of the recipe if None.
        cut: `input` (to score it here) or `end` (all events).
        clients: `relevant`, or `all` with the cut `end`.
        memory_limit: such as `12GB`; what is available if None.

    Raises:
        KitError: whatever `kit submit` refuses.
    """
    plan = recipe if isinstance(recipe, Recipe) else read_recipe(Path(recipe))
    folder = Path("submissions") / plan.name if out is None else Path(out)
    limit = None if memory_limit is None else parse_size(memory_limit)
    build(plan, _root(data), folder, cut, memory_limit=limit, clients=parse_clients(clients))
    return Submission.open(folder)


def load_submission(folder: Place) -> Submission:
    """A submission: `.ids` (n,) int64 and `.vectors` (n, d) float16, row by row; `.columns(d)` names them.

    Raises:
        KitError: there is no such folder.
    """
    return Submission.open(Path(folder))


def score(
    submission: Submission | Place,
    data: DataFolder | Place,
    probe: str = "fast",
    tasks: Sequence[str] | None = None,
    *,
    seeds: int = 1,
    reorder: bool = False,
    precision: Precision | None = None,
    threads: int | None = None,
) -> ScoreReport:
    """Train a probe on the vectors and score the tasks; what is known is not scored again, new results go into
    SUBMISSION/scores.json.

    Args:
        submission: what is scored.
        data: a split data folder.
        probe: official, fast, gbm, none, or one of your own.
        tasks: names of tasks; the challenge's six if None.
        seeds: runs per task.
        reorder: whether the runs after the first read the rows in another order.
        precision: fp32 or bf16; the probe's own if None.
        threads: of the probe; all if None.

    Returns:
        a report: `.tasks[name]["score"]`, `.sum`, `.remarks`.

    Raises:
        KitError: whatever `kit score` refuses.
    """
    options = Options(seeds, precision or "fp32", threads, "auto", False, reorder=reorder)
    chosen = None if tasks is None else [find_task(task) for task in tasks]
    own = _submission(submission)
    return score_and_keep(own, DataFolder(_root(data)), probe, chosen, options)


def compare(first: Submission | Place, second: Submission | Place, probe: str = "fast") -> dict[str, Difference]:
    """Task (and `sum`) → the difference first − second, paired over clients: `.difference`, `.interval`, `.verdict`.

    Raises:
        KitError: one of them was not scored by this probe, or they share no task.
    """
    pairs = compared(_submission(first).folder, _submission(second).folder, probe)
    return {name: pair.difference for name, pair in pairs.items()}


def embed(
    submission: Submission | Place,
    data: DataFolder | Place,
    out: Place,
    *,
    cut: str | None = None,
    clients: Place | Sequence[int] | NDArray[np.int64] | None = None,
) -> Submission:
    """Vectors of other clients or at a later cut, from what the submission's blocks learned; nothing is trained.

    Args:
        submission: whose blocks; they are still in the store.
        data: the data folder whose events are read.
        out: a folder of its own.
        cut: `input`, `end`, or an ISO instant; the submission's if None.
        clients: ids, or a file of them; the submission's own if None.

    Raises:
        KitError: whatever `kit embed` refuses.
    """
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(clients) if isinstance(clients, str | PathLike) else None
        if clients is not None and file is None:
            file = Path(scratch) / "clients.npy"
            np.save(file, np.asarray(clients, dtype=np.int64))
        embed_clients(_submission(submission).folder, _root(data), Path(out), cut, file)
    return Submission.open(Path(out))


def _root(data: DataFolder | Place) -> Path:
    return data.root if isinstance(data, DataFolder) else Path(data)


def _submission(submission: Submission | Place) -> Submission:
    return submission if isinstance(submission, Submission) else load_submission(submission)
