"""Why the combined network forecasts as it does: one change at a time, beside LightGBM on the same windows and columns.

    python tests/benchmarks/why.py DATA… [--arm ARM]… [--trees 4] [--work data/bench/why] [--threads 2]

Each arm is the default combined block with one setting changed; its forecasts rank the clients who have events, without a probe
in between (see `parts.py`). `--trees N` adds the LightGBM probe's trees, taught by what happened in the first window after the
rewound cuts 14, 21, 28 and 35 days back and by every Nth label of each task, from the very columns that the network reads.
Means over labels; of every folder, then over folders. Forecasts are kept in --work: the same call goes on.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from parts import RANKED, forecasts, per_target, save, targets_of

from kit.blocks.combined import CombinedSettings
from kit.blocks.inputs.features import FeaturesInput
from kit.challenge import EventType
from kit.data.layout import DataFolder
from kit.history import History
from kit.probes.gbm_worker import TaskTrees, bin_vectors, learn_task
from kit.recipe import BlockEntry
from kit.store import Store, write_atomically
from kit.tasks import CHALLENGE, NEW_SKU
from kit.tasks.labels import label_matrix
from kit.tokens import microseconds, tokenise

BEFORE: dict[str, Any] = {
    "network": {"apart": [], "heads": {"intensity": {"tied": False, "partial": False}, "choice": {"evidence": False}}},
    "train": {"lr": 2e-3},
    "cuts": 5,
}
"""Settings as they were until 2026-12-01."""
ARMS: dict[str, dict[str, Any]] = {
    "default": {},
    "before": BEFORE,
    "no evidence": {"network": {"heads": {"choice": {"evidence": False}}}},
    "one trunk": {"network": {"apart": []}},
    "a trunk apart that reads all": {"network": {"apart_reads": ["features", "sequence", "graph"]}},
    "questions apart": {"network": {"heads": {"intensity": {"tied": False}}}},
    "whole windows alone": {"network": {"heads": {"intensity": {"partial": False}}}},
    "5 cuts": {"cuts": 5},
    "12 cuts": {"cuts": 12},
    "12 cuts, a share of .6": {"cuts": 12, "share": 0.6},
    "2 epochs": {"train": {"epochs": 2}},
    "rate 2e-3": {"train": {"lr": 2e-3}},
    "rate 6e-3": {"train": {"lr": 6e-3}},
    "decay .2": {"train": {"weight_decay": 0.2}},
    "batches of 96": {"clients": 96, "budget": 4096},
    "width 256": {"network": {"width": 256, "trunk": {"kind": "deep_cross", "hidden": 384}}},
    "piecewise": {"network": {"parts": {"features": {"encoding": {"kind": "piecewise"}}}}},
    "no block dropout": {"network": {"block_dropout": 0.0}},
    "no contrast": {"network": {"heads": {"contrast": False}}},
    "plain trunk": {"network": {"trunk": {"kind": "mlp"}}},
    "wide & deep": {"network": {"trunk": {"kind": "wide_deep"}}},
    "no sequence, no graph": {"network": {"parts": {"sequence": False, "graph": False}}},
}
CUTS = (14, 21, 28, 35)
"""Days back of the cuts that teach the trees: those whose first window is known."""
Numbers = NDArray[np.float64]


def trees(history: History, folder: DataFolder, every: int, threads: int) -> dict[str, Any]:
    """Column name → forecast of LightGBM: `forecast_far` is the chance of any purchase."""
    tokens = tokenise(history, CombinedSettings().tokens)
    inputs = FeaturesInput(CombinedSettings(), CombinedSettings().network.parts["features"], 0)  # type: ignore[arg-type]
    lists = {task: targets[::every] for task, targets in targets_of(folder).items() if task != NEW_SKU}
    values, labels = [], []
    pasts = [history.rewind(days) for days in CUTS]
    inputs.fit([past for past, _ in pasts], None)
    inputs.columns = ()  # trees take the numbers as they are
    for past, window in pasts:
        here = tokens.lengths(microseconds(past.cut)) > 0
        first = replace(window, stop=window.start + timedelta(days=past.days))
        bought = first.events(EventType.BUY).select(pl.col("client_id").unique()).collect()["client_id"].to_numpy()
        own = [sp.csr_matrix(np.isin(history.clients, bought)[:, None].astype(np.float32))]
        own += [label_matrix(task, first, history.clients, targets) for task, targets in lists.items()]
        values.append(inputs.raw(past)[here])
        labels.append(sp.hstack(own).tocsr()[here])
    now = inputs.raw(history)
    rows = np.arange(sum(map(len, values)))
    binned = bin_vectors(np.concatenate([*values, now]), threads)
    known = sp.vstack(labels).tocsr()
    found, first_column = {}, 0
    for task, targets in {CHALLENGE[0]: ["far"], **lists}.items():
        columns = slice(first_column, first_column + len(targets))
        first_column = columns.stop
        _, learned = learn_task(binned, rows, known[:, columns], 0)
        said = margins(learned, now)
        for place, target in enumerate(targets):
            found[f"forecast_{RANKED[task]}_{target}" if task in RANKED else "forecast_far"] = said[:, place]
    here = tokens.lengths(microseconds(history.cut)) > 0
    return {name: np.where(here, column, np.nan).astype(np.float32) for name, column in found.items()}


def margins(learned: TaskTrees, values: NDArray[np.float32]) -> Numbers:
    """Log-odds of all labels, (n, L)."""
    out = np.tile(learned.base + learned.shifts, (len(values), 1))
    if learned.shared is not None and learned.shared_rounds:
        out += learned.shared.predict(values, raw_score=True, num_iteration=learned.shared_rounds)[:, None]
    for label, booster in enumerate(learned.own):
        if booster is not None and learned.rounds:
            out[:, label] += booster.predict(values, raw_score=True, num_iteration=learned.rounds)
    return out


def measure(folder: DataFolder, arm: str, work: Path, every: int, threads: int) -> dict[str, Numbers]:
    """One arm on one folder: task → AUROC of each target."""
    path = work / f"{folder.root.resolve().name}-{arm.replace(' ', '-')}.npz"
    history = History.open(folder, store=Store(work / "store"))
    if not path.exists():
        if arm == "trees":
            found = trees(history, folder, every, threads)
        else:
            found = forecasts(BlockEntry(kind="combined", **ARMS[arm]), history, targets_of(folder))
        work.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda place: save(place, found))
    with np.load(path) as saved:
        return per_target(folder, history.clients, {name: saved[name] for name in saved.files})


def main() -> None:
    """Print a Markdown table as arms come in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--arm", action="append", choices=ARMS)
    parser.add_argument("--trees", type=int, default=0, metavar="N")
    parser.add_argument("--work", type=Path, default=Path("data/bench/why"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    tasks = [task.name for task in CHALLENGE]
    print(f"| arm | {' | '.join(tasks)} |\n|---|{'---|' * len(tasks)}")
    for arm in [*(["trees"] if given.trees else []), *(given.arm or ARMS)]:
        found = [measure(DataFolder(data), arm, given.work, given.trees, given.threads) for data in given.data]
        cells = [
            " ".join(f"{np.nanmean(one[task]):.4f}" if task in one else "–" for one in found)
            + (f" ({np.mean([np.nanmean(one[task]) for one in found]):.4f})" if len(found) > 1 else "")
            for task in tasks
        ]
        print(f"| {arm} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
