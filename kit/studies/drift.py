"""Drift between two cuts: how far the same clients' numbers move in the length of a target window, per column and as a whole.

Blocks are fitted at the earlier cut and transform both: two fits would span two spaces, and every column would seem to move.
PSI per column, and the AUROC of a classifier that tells the cuts apart (0.5 = it cannot), cross-validated over clients.

Technique I4.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kit.blocks.base import Block, make_block
from kit.data.layout import DataFolder
from kit.data.origin import require_origin
from kit.errors import KitError
from kit.history import History
from kit.profile import run_block
from kit.profile.uses import Built, Carried
from kit.progress import stage
from kit.recipe import Recipe, build_order, parse
from kit.store import Artefact, Store, write_json
from kit.studies.health import sample_rows
from kit.submission.submission import Submission

FILE: Final = "drift.json"
BINS: Final = 10
CLIENTS: Final = 4_000
"""Clients looked at."""
COLUMNS: Final = 400
"""Columns that the classifier sees: those with the largest PSI."""
FOLDS: Final = 3
SLIGHT, LARGE = 0.1, 0.25
"""The usual reading of PSI: below .1 stable, above .25 moved."""


def psi(before: NDArray[Any], after: NDArray[Any]) -> float:
    """Population stability index Σ (q − p) ln(q / p) over the deciles of `before`; NaN is a bin of its own.

    Empty bins count half a client.
    """
    known = before[~np.isnan(before)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1])) if len(known) else np.empty(0)
    shares = []
    for values in (before, after):
        missing = np.isnan(values)
        counts = np.bincount(np.searchsorted(edges, values[~missing], side="left"), minlength=len(edges) + 1)
        full = np.append(counts, missing.sum()).astype(np.float64)
        shares.append(np.maximum(full, 0.5) / max(len(values), 1))
    return float(np.sum((shares[1] - shares[0]) * np.log(shares[1] / shares[0])))


def domain_auroc(before: NDArray[np.float32], after: NDArray[np.float32], seed: int = 0) -> float:
    """AUROC of boosted trees that tell the rows of two matrices (n, d) apart; both rows of a client are in one fold."""
    import lightgbm as lgb
    from sklearn.metrics import roc_auc_score

    count = len(before)
    fold = np.random.default_rng(seed).permutation(count) % FOLDS
    rows, labels = np.concatenate([before, after]), np.repeat([0, 1], count)
    folds, chance = np.concatenate([fold, fold]), np.zeros(2 * count)
    for k in range(FOLDS):
        trees = lgb.LGBMClassifier(
            n_estimators=60, num_leaves=15, learning_rate=0.1, min_child_samples=20, colsample_bytree=0.5,
            random_state=seed, verbose=-1, deterministic=True, force_row_wise=True, n_jobs=1,
        )  # fmt: skip
        trees.fit(rows[folds != k], labels[folds != k])
        chance[folds == k] = trees.booster_.predict(rows[folds == k])
    return float(roc_auc_score(labels, chance))


def measure_drift(recipe: Recipe, folder: DataFolder, cut: str, store: Store | None = None) -> dict[str, Any]:
    """Fit the recipe's blocks a target window before the cut and compare their numbers at the two cuts.

    Returns:
        earlier, later (the cuts), clients, blocks: [{block, columns, auroc, median, moved, slight, top: [[column, psi]]}],
        auroc (all blocks together).
    """
    store = store or Store()
    history = History.open(folder, "end" if cut == "end" else "input", store=store, duplicates=recipe.duplicates)
    earlier, _ = history.rewind()
    clients = history.clients[sample_rows(len(history.clients), CLIENTS)]
    rows = []
    kept: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    done: dict[str, str] = {}
    fitted: dict[str, Block] = {}
    others = Carried(fitted, earlier.cut, Built(partial(_built, recipe, store)))
    for name in build_order(recipe.blocks):
        entry = recipe.blocks[name]
        key = json.dumps([entry.kind, entry.settings(), entry.uses], sort_keys=True, default=str)
        if key in done:
            fitted[name] = fitted[done[key]]
            continue
        done[key] = name
        with stage(f"drift of {name}"):
            unit = make_block(name, entry, recipe.seed)
            unit.others = others
            fitted[name] = unit.fit(earlier)
            before, after = unit.transform(earlier, clients), unit.transform(history, clients)
        after_at = {column: k for k, column in enumerate(after.columns)}
        common = [
            k for k, column in enumerate(before.columns) if column in after_at
        ]  # columns may name what a cut knows
        names = tuple(before.columns[k] for k in common)
        pair = before.values[:, common], after.values[:, [after_at[column] for column in names]]
        row, strongest = _row(name, names, *pair)
        rows.append(row)
        kept.append((pair[0][:, strongest], pair[1][:, strongest]))
    joined = [np.concatenate([pair[side] for pair in kept], axis=1) for side in (0, 1)]
    return {
        "earlier": earlier.cut.isoformat(),
        "later": history.cut.isoformat(),
        "clients": len(clients),
        "blocks": rows,
        "auroc": round(domain_auroc(joined[0], joined[1]), 4),
    }


def _built(recipe: Recipe, store: Store, name: str, history: History) -> Artefact:
    """An entry at a rewound cut, for one that learns from it."""
    return run_block(name, recipe.blocks[name], recipe.seed, history, store, recipe.blocks)


def _row(
    name: str, columns: tuple[str, ...], before: NDArray[np.float32], after: NDArray[np.float32]
) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """One block's entry, and the positions of its COLUMNS most moved columns."""
    clean = [np.where(np.isfinite(values), values, np.nan) for values in (before, after)]
    index = np.array([psi(clean[0][:, k], clean[1][:, k]) for k in range(len(columns))])
    order = np.argsort(-index, kind="stable")
    row = {
        "block": name,
        "columns": len(columns),
        "auroc": round(domain_auroc(clean[0][:, order[:COLUMNS]], clean[1][:, order[:COLUMNS]]), 4),
        "median": round(float(np.median(index)), 4),
        "slight": int(((index >= SLIGHT) & (index < LARGE)).sum()),
        "moved": int((index >= LARGE).sum()),
        "top": [[columns[k], round(float(index[k]), 4)] for k in order[:8]],
    }
    return row, order[:COLUMNS]


def write_drift(submission: Submission, folder: DataFolder, store: Store | None = None) -> dict[str, Any]:
    """Measure the drift of a submission's recipe, unless drift.json knows it for these very vectors; keep it there.

    Raises:
        KitError: the data are others than the submission was made from.
    """
    manifest = submission.manifest
    known = read_drift(submission)
    if known is not None:
        return known
    require_origin(submission.folder, manifest["data"], folder, store)
    recipe = parse(Recipe, manifest["recipe"], "manifest.json")
    found = measure_drift(recipe, folder, manifest["data"].get("until", "input"), store) | {
        "fingerprint": manifest["fingerprint"]
    }
    write_json(submission.folder / FILE, found)
    return found


def read_drift(submission: Submission) -> dict[str, Any] | None:
    """drift.json if it belongs to the submission as it is now.

    Raises:
        KitError: it is not JSON.
    """
    path = submission.folder / FILE
    if not path.exists():
        return None
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise KitError(f"{path} is not JSON ({error}).", "Delete it and run `kit report --drift` again.") from error
    return found if found.get("fingerprint") == submission.manifest["fingerprint"] and submission.is_as_built else None
