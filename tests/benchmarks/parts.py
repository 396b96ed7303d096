"""What the combined encoder's parts are worth, by leaving them out, on products with and without buyers before the cut.

    python tests/benchmarks/parts.py DATA… [--recipe pipelines/blend.toml] [--work data/bench/parts] [--threads 2]

Trains the recipe's combined block whole and without its sequence encoder, its copies of what was touched, both of them, its
graph, the name and query codes (in events, products and
graph), the hand-made features, and ranks the clients who have events by the forecasts themselves, without a probe in between:
log of the expected purchases of each target in the second window, AUROC per target. New-sku targets are in nobody's past
purchases, and no forecast of them is trained by name. Differences are paired over targets and folders, with 95 % intervals.
A training costs one to two minutes on two cores. Its forecasts are kept in --work: the same call goes on.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from kit.blocks import combined
from kit.blocks.base import make_block
from kit.blocks.edges import WEIGHTS
from kit.data.layout import DataFolder
from kit.history import History
from kit.models.heads import published
from kit.recipe import BlockEntry, read_recipe
from kit.store import Store, write_atomically
from kit.tasks import CATEGORY, CHALLENGE, NEW_SKU, PRICE, SKU, Task
from kit.tasks.labels import UndefinedTask, load_targets, load_task
from kit.tasks.metrics import auroc_multilabel

Numbers = NDArray[np.float64]
RELATIONS = {name: weight for name, weight in WEIGHTS.items() if name not in ("searched", "has_code")}
"""The graph without searched and has_code."""
ARMS: dict[str, dict[str, Any]] = {
    "whole": {},
    "without sequence": {"network": {"parts": {"sequence": False}}},
    "without copies": {"network": {"heads": {"choice": {"copies": False}}}},
    "without both": {"network": {"parts": {"sequence": False}, "heads": {"choice": {"copies": False}}}},
    "without graph": {"network": {"parts": {"graph": False}}},
    "without codes": {"network": {"events": {"codes": False}}, "graph": {"edges": {"weights": RELATIONS}}},
    "without features": {"network": {"parts": {"features": False}}},
    "with newcomers": {"stats": {"without": []}},
    "features alone": {
        "network": {
            "parts": {"sequence": False, "graph": False},
            "heads": {"choice": {"copies": False}},
            "events": {"codes": False},
        }
    },
}
RANKED = {CATEGORY: "category", SKU: "sku", NEW_SKU: "sku", PRICE: "price"}


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the leaves of `over` in place of its own."""
    inner = {key: merged(base.get(key) or {}, value) for key, value in over.items() if isinstance(value, dict)}
    return base | over | inner


def targets_of(folder: DataFolder) -> dict[Task, NDArray[np.int64]]:
    """Task → its targets in label order."""
    return {task: load_targets(folder.targets(task.name)) for task in RANKED if folder.targets(task.name).exists()}


def forecasts(entry: BlockEntry, history: History, targets: dict[Task, NDArray[np.int64]]) -> dict[str, Any]:
    """Column name → forecast of every client of a block trained on the history; the skus of both lists have columns."""
    unit = make_block("parts", entry, 0).fit(history)
    wanted = np.concatenate([targets[task] for task in (SKU, NEW_SKU) if task in targets])

    def both_lists(_: History, catalogue: Any) -> NDArray[np.int64]:
        rows = catalogue.rows(wanted).astype(np.int64)
        return np.unique(rows[rows > 0])

    # Only once trained: while it learns, the block must not know which products will be asked for.
    with patch.object(combined, "published_rows", both_lists), patch.object(published, "published_rows", both_lists):
        output = unit.transform(history, history.clients)
    kept = [i for i, name in enumerate(output.columns) if name.startswith("forecast_")]
    return {output.columns[i]: output.values[:, i] for i in kept}


def per_target(folder: DataFolder, clients: NDArray[np.int64], found: dict[str, Any]) -> dict[str, Numbers]:
    """Task → AUROC of each target in the second window, (L,); NaN where nobody bought it or nothing is forecast."""
    targets, values = targets_of(folder), {}
    for task in CHALLENGE:
        try:
            data = load_task(task, clients, folder)
        except UndefinedTask:
            continue
        labels = [f"{RANKED[task]}_{target}" for target in targets[task].tolist()] if task in RANKED else ["far"]
        names = [f"forecast_{label}" for label in labels]
        absent = np.full(len(clients), np.nan, dtype=np.float32)
        scores = np.stack([found.get(name, absent) for name in names], axis=1)[data.rows]
        sign = 1.0 if task in RANKED else -1.0  # churn and conversion are labelled 1 where nothing is bought
        # Clients without events have no forecast. They cannot be ranked at the bottom either: many of them are about to arrive.
        seen = ~np.isnan(scores).all(axis=1)
        known = ~np.isnan(scores).all(axis=0)
        value = auroc_multilabel(np.nan_to_num(sign * scores[seen]), data.validation[seen])
        values[task.name] = np.where(known, value, np.nan)
    return values


def measure(folder: DataFolder, recipe: Path, arm: str, work: Path) -> dict[str, Numbers]:
    """One arm on one folder; its forecasts are kept in --work."""
    path = work / f"{folder.root.resolve().name}-{arm.replace(' ', '-')}.npz"
    history = History.open(folder, store=Store(work / "store"))
    if not path.exists():
        (entry, *_) = [entry for entry in read_recipe(recipe).blocks.values() if entry.kind == "combined"]
        changed = BlockEntry(kind="combined", **merged(entry.settings(), ARMS[arm]))
        found = forecasts(changed, history, targets_of(folder))
        work.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda place: save(place, found))
    with np.load(path) as saved:
        return per_target(folder, history.clients, {name: saved[name] for name in saved.files})


def save(path: Path, arrays: dict[str, Numbers]) -> None:
    """As .npz under exactly this name."""
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--recipe", type=Path, default=Path("pipelines/blend.toml"))
    parser.add_argument("--arm", action="append", choices=ARMS)
    parser.add_argument("--work", type=Path, default=Path("data/bench/parts"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    arms = ["whole", *(arm for arm in given.arm or ARMS if arm != "whole")]
    tasks = [task.name for task in CHALLENGE]
    print(f"| arm | {' | '.join(tasks)} |\n|---|{'---|' * len(tasks)}")
    found = {arm: [measure(DataFolder(data), given.recipe, arm, given.work) for data in given.data] for arm in arms}
    whole = {task: np.concatenate([one[task] for one in found["whole"]]) for task in found["whole"][0]}
    for arm in arms:
        cells = []
        for task in tasks:
            if task not in whole:
                cells.append("not defined")
                continue
            own = np.concatenate([one[task] for one in found[arm]])
            if arm == "whole":
                cells.append(f"{np.nanmean(own):.4f}")
                continue
            lost = (own - whole[task])[~np.isnan(own - whole[task])]
            error = lost.std(ddof=1) / np.sqrt(len(lost)) if len(lost) > 1 else np.nan
            cells.append(f"{lost.mean():+.4f} ± {1.96 * error:.4f}")
        print(f"| {arm} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
