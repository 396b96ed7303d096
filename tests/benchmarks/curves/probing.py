"""The stages of scoring. Where the whole would outlast the cap, a part is run and the rest is reckoned from it, and said so."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from curves.child import Job

if TYPE_CHECKING:
    from kit.tasks.labels import TaskData

MARGIN: Final = 1.25
"""The whole is run if it is foretold to take the remaining time divided by this, or less."""
FIRST_ROWS: Final = 4_096
FAST_SHARE: Final = 0.25
"""Share of the remaining time that a slice of the fast probe may take."""
FEW_LABELS, MORE_LABELS = 4, 12
WARM: Final = 3
"""Training steps before the clock starts."""


def labels(job: Job) -> None:
    """Label matrices of the six tasks."""
    with job.clock():
        _, tasks = loaded(job)
    job.details |= {
        "positives": {data.task.name: int(data.train.nnz) for data in tasks},
        "clients": {data.task.name: len(data.rows) for data in tasks},
    }


def loaded(job: Job) -> tuple[Any, list[TaskData]]:
    """Mapped vectors and the tasks that are defined here; the others are named in the details."""
    import numpy as np

    from curves.stages import submission_of
    from kit.data.layout import DataFolder
    from kit.tasks import CHALLENGE
    from kit.tasks.labels import UndefinedTask, load_task

    folder = submission_of(job)
    ids = np.load(folder / "client_ids.npy")
    found = []
    for task in CHALLENGE:
        try:
            found.append(load_task(task, ids, DataFolder(job.order.data)))
        except UndefinedTask as reason:
            job.details.setdefault("undefined", {})[task.name] = reason.reason
    return np.load(folder / "embeddings.npy", mmap_mode="r"), found


def first_rows(data: TaskData, rows: int) -> TaskData:
    """A task on the first rows of the vectors alone."""
    kept = int((data.rows < rows).sum())
    return replace(data, rows=data.rows[:kept], train=data.train[:kept], validation=data.validation[:kept])


def first_labels(data: TaskData, count: int) -> TaskData:
    """A task with its first labels alone."""
    popularity = None if data.popularity is None else data.popularity[:count]
    narrow = {name: getattr(data, name)[:, :count].tocsr() for name in ("train", "validation")}
    return replace(data, **narrow, popularity=popularity)


def fast(job: Job) -> None:
    """All six tasks if there is time; else on two numbers of rows, and a line through both."""
    from curves.results import Line
    from kit.probes.registry import PROBES, Options

    vectors, tasks = loaded(job)
    probe = PROBES.loaded()["fast"]
    options = Options(threads=job.order.threads, precision=probe.usual)

    def seconds(rows: int) -> float:
        began = perf_counter()
        probe.run(vectors[:rows], [first_rows(data, rows) for data in tasks], options)
        return perf_counter() - began

    guess = 0.0
    if len(vectors) > 2 * FIRST_ROWS:  # below, looking ahead costs as much as doing it
        first = seconds(FIRST_ROWS)
        guess = first / FIRST_ROWS * len(vectors)
        if guess * MARGIN > job.left:
            more = int(min(len(vectors), max(2 * FIRST_ROWS, FIRST_ROWS * FAST_SHARE * job.left / first)))
            with job.clock():
                second = seconds(more)
            whole = Line.through([(FIRST_ROWS, first), (more, second)]).at(len(vectors))
            job.foretold = (
                whole,
                f"all tasks on the first {FIRST_ROWS:,} and {more:,} rows; the line through both times",
            )
            return
    with job.clock():
        seconds(len(vectors))
    if guess:
        job.details["foretold ÷ measured"] = guess / (job.seconds or 1.0)


def gbm(job: Job) -> None:
    """All six tasks if there is time; else all clients, but few labels, and the others reckoned from these."""
    from kit.probes.registry import PROBES, Options

    vectors, tasks = loaded(job)
    options = Options(threads=job.order.threads)
    narrow = [data for data in tasks if data.width == 1]
    wide = [data for data in tasks if data.width > 1]
    if not narrow or not wide:
        with job.clock():
            PROBES.loaded()["gbm"].run(vectors, tasks, options)
        return
    few, more = min(FEW_LABELS, wide[-1].width // 2), min(MORE_LABELS, wide[-1].width)
    part = [max(narrow, key=lambda data: len(data.rows)), *(first_labels(wide[-1], count) for count in (few, more))]
    with job.clock():
        runs = PROBES.loaded()["gbm"].run(vectors, part, options)
    of_one, of_few, of_more = (run.seconds for run in runs)
    shared = max((job.seconds or 0.0) - of_one - of_few - of_more, 0.0)
    label = max(of_more - of_few, 0.0) / (more - few)
    singles = of_one * sum(len(data.rows) for data in narrow) / len(part[0].rows)
    whole = shared + singles + sum(of_few + label * (data.width - few) for data in wide)
    job.details["parts"] = {
        "binning, starting, metrics": shared,
        f"{part[0].task.name}, 1 label": of_one,
        f"{part[1].task.name}, {few} labels": of_few,
        f"{part[2].task.name}, {more} labels": of_more,
        "each further label": label,
    }
    how = (
        f"all clients; {part[0].task.name}, and {few} and {more} labels of {part[1].task.name}; each further label as the "
        f"{more - few} between them, {len(narrow)} and {len(wide)} such tasks"
    )
    if whole * MARGIN > job.left:
        job.foretold = (whole, how)
        return
    with job.clock():
        PROBES.loaded()["gbm"].run(vectors, tasks, options)
    job.details["foretold ÷ measured"] = whole / (job.seconds or 1.0)


def official(job: Job) -> None:
    """Steps and scoring passes of one network for a tenth of the cap each, metrics once; never the whole."""
    import numpy as np
    import torch

    from kit.challenge import PROBE_SEED
    from kit.doctor import look
    from kit.probes.mlp import BATCH, EPOCHS, EVALUATION_BATCH, Learner
    from kit.probes.network import OFFICIAL, products
    from kit.probes.registry import Options, Precision
    from kit.tasks import SKU

    vectors, tasks = loaded(job)
    torch.set_num_threads(job.order.threads)
    precision: Precision = "bf16" if look(job.order.place).bf16 == "fast" else "fp32"
    data = next((one for one in tasks if one.task is SKU), tasks[-1])
    learner = Learner(data, PROBE_SEED, vectors.shape[1], OFFICIAL, Options(precision=precision))
    budget = job.order.cap / 10

    def repeated(act: Any, batch: int, warm: int) -> tuple[float, int]:
        """Seconds per batch, and batches, until the budget is spent; batch after batch as a whole run has them."""
        began, done = perf_counter(), -warm
        learner.rewind(batch)
        for first in range(0, len(vectors) - batch, batch):  # not the last: it would close the epoch
            act(first, torch.from_numpy(np.array(vectors[first : first + batch])).float())
            done += 1
            if done == 0:
                began = perf_counter()
            if done > 0 and perf_counter() - began > budget:
                break
        if done < 1:  # fewer rows than a batch and its warming: what there is
            return (perf_counter() - began) / max(done + warm, 1), max(done + warm, 1)
        return (perf_counter() - began) / done, done

    with job.clock(), products(precision):
        step, steps = repeated(learner.learn, BATCH, min(WARM, len(vectors) // BATCH - 1))
        pass_rows = min(EVALUATION_BATCH, len(data.rows) // 2)
        scoring, scored = repeated(learner.score, pass_rows, 0)
        metrics = {}
        rng = np.random.default_rng(0)
        for width in sorted({one.width for one in tasks}):
            like = next(one for one in tasks if one.width == width)
            logits = rng.standard_normal(like.validation.shape, dtype=np.float32)
            began = perf_counter()
            like.task.metric.evaluate(logits, like.validation, like.popularity, threads=job.order.threads)
            metrics[width] = perf_counter() - began
    batches = sum(-(-len(one.rows) // BATCH) for one in tasks)
    passes = sum(-(-len(one.rows) // pass_rows) for one in tasks)
    whole = EPOCHS * (batches * step + passes * scoring + sum(metrics[one.width] for one in tasks))
    job.details["parts"] = {
        f"one step ({BATCH} clients)": step,
        f"one scoring pass ({pass_rows} clients)": scoring,
        **{f"metrics of {width} labels": seconds for width, seconds in metrics.items()},
    }
    needed = f"{EPOCHS * batches:,} and {EPOCHS * passes:,} needed"
    job.foretold = (whole, f"{precision}; {steps} steps and {scored} scoring passes of one task timed, {needed}")
