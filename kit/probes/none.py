"""The probe that is none: a submission's own forecasts, ranked as they are. Nothing is trained, no label of window one read.

It says what the forecasts know, whatever the profile's scaling, principal components and the official probe's few steps make of
them. A label is ranked by the block's forecast of it; where there is none, by that of its category, else by the rate at which the
client buys at all, each shared out among the labels that use it. Clients without events stand at the rate of such clients
(`kit.submission.forecasts.silent_ratio`). Forecasts serve as logits, so novelty and diversity are of their own probabilities.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.data.layout import DataFolder, load_ids
from kit.data.scan import scan_products
from kit.errors import KitError
from kit.history import History
from kit.probes.registry import Options, Source, TaskRun, Vectors, probe
from kit.progress import say
from kit.submission.forecasts import RATES, Forecasts, block_keys, read_forecasts, silent_ratio
from kit.submission.manifest import read_manifest
from kit.tasks import NEW_SKU, Task
from kit.tasks.labels import TaskData, load_targets

NO_SOURCE: Final = (
    "The probe `none` ranks by the forecasts of a submission's blocks, and these vectors are no submission's.",
    "Give another --probe here; `kit score SUBMISSION --data DIR --probe none` reads forecasts.",
)


@probe(
    "none",
    "No probe: the forecasts of a submission's own block, ranked as they are.",
    reads=lambda source: block_keys(source.submission),
)
def none(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> list[TaskRun]:
    """Scores of the forecasts; every seed gives the same."""
    source = options.source
    if source is None:
        raise KitError(*NO_SOURCE)
    forecasts, position = _opened(source, len(vectors))
    runs: list[TaskRun] = []
    for data in tasks:
        began = time.perf_counter()
        logits = task_logits(forecasts, data.task, source.data, position[data.rows])
        metrics = data.task.metric.evaluate(logits, data.validation, data.popularity, threads=options.threads)
        kept = logits if options.keep_logits else None
        seconds = time.perf_counter() - began
        runs += [TaskRun(data.task, seed, (metrics,), seconds, kept) for seed in options.seed_numbers()]
        options.tell(runs, [data.task])
    return runs


def _opened(source: Source, rows: int) -> tuple[Forecasts, NDArray[np.int64]]:
    """Forecasts without gaps, and which of their rows belongs to each of the submission's."""
    manifest = read_manifest(source.submission)
    ids = load_ids(source.submission / "client_ids.npy", "Build the submission again.")
    forecasts = read_forecasts(source.submission, source.store)
    if not len(ids) == rows == len(forecasts.values):
        raise KitError(
            f"{source.submission} has {rows} rows and its block {forecasts.entry} {len(forecasts.values)}.",
            "Build it again: the rows are not those that the block was made for.",
        )
    ratio = 1.0
    if forecasts.silent.any():
        about = manifest.get("data", {})
        history = History.open(
            source.data,
            about.get("until", "input"),
            store=source.store,
            duplicates=manifest["recipe"].get("duplicates", "keep"),
            clients=about.get("clients", "relevant"),
        )
        ratio = silent_ratio(history)
    say(
        f"  forecasts of the block {forecasts.entry}; {np.count_nonzero(forecasts.silent):,} clients have none, and stand at "
        f"{ratio:.2f} of the others' mean"
    )
    return forecasts.filled(ratio), np.searchsorted(np.sort(ids), ids)


def task_logits(forecasts: Forecasts, task: Task, folder: DataFolder, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(m, L) what the forecasts say of a task's labels, for these of their rows.

    Raises:
        KitError: they say nothing of it.
    """
    if task.column is None:
        return _single(forecasts, task, rows)
    names = label_forecasts(forecasts, task, folder)
    shared = Counter(names)
    logits: NDArray[np.float32] = np.empty((len(rows), len(names)), dtype=np.float32)
    for label, name in enumerate(names):
        logits[:, label] = forecasts.of(name, rows) - np.float32(np.log(shared[name]))
    return logits


def _single(forecasts: Forecasts, task: Task, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(m, 1) of a task with one label: the forecast of its name, or of no purchase."""
    own = forecasts.first([task.name])
    if own is not None:
        return forecasts.of(own, rows)[:, None]
    rate = forecasts.first(RATES)
    if rate is None or not task.absent:
        raise KitError(
            f"The block {forecasts.entry} has no column forecast_{task.name}, and a rate of purchases does not say it.",
            f"Leave the task out with --task, or let a head forecast it under that name ({task.question})",
        )
    return -forecasts.of(rate, rows)[:, None]


def label_forecasts(forecasts: Forecasts, task: Task, folder: DataFolder) -> list[str]:
    """Which forecast each label of a task is ranked by."""
    targets, column = load_targets(folder.targets(task.name)), task.column
    categories: dict[int, int] = {}
    if column == "sku":
        products = (
            scan_products(folder.products).select("sku", "category").unique("sku", keep="first", maintain_order=True)
        )
        found = products.filter(pl.col("sku").is_in(targets.tolist())).collect()
        categories = dict(zip(found["sku"].to_list(), found["category"].to_list(), strict=True))
    names = []
    for target in targets.tolist():
        wanted = [f"{column}_{target}"]
        if target in categories:
            new = [f"new_{categories[target]}"] if task is NEW_SKU else []
            wanted += [*new, f"category_{categories[target]}"]
        name = forecasts.first([*wanted, *RATES])
        assert name is not None, "whoever forecasts forecasts a rate"
        names.append(name)
    return names
