"""The LightGBM side of the boosted-tree probe: `python -m kit.probes.gbm_worker JOB`, started by kit.probes.gbm.

Vectors are binned once for all tasks and labels. Every label of a task starts from what the labels share: a booster of `any
label of this task`, shifted to the label's base rate. Its own few trees then learn the difference, on its positives and a
weighted sample of its negatives, so margins stay log-odds and probabilities honest. How many trees help is decided per task,
by the log loss on a fifth of the clients that no tree has seen, summed over labels: a rare label alone could not tell.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

SHARED_ROUNDS: Final = 200
OWN_ROUNDS: Final = 30
PATIENCE: Final = 15
HELD_OUT: Final = 0.2
NEGATIVES: Final = 2000
"""Negatives of a label that are kept at least; beyond, NEGATIVES_PER_POSITIVE for each positive."""
NEGATIVES_PER_POSITIVE: Final = 20
COLUMNS_PER_TREE: Final = 96
MANY_CELLS: Final = 2**27
"""Rows × columns from which one booster keeps several threads busy; below, waiting for each other costs them more."""
PREDICT_ROWS: Final = 16_384
BIN_ROWS: Final = 50_000
"""Rows drawn to find the bins' edges, each of them held as float64 for a moment."""
FEW: Final = 3
"""A label with fewer positives to learn from keeps the shared margin."""

Margins = NDArray[np.float64]


@dataclass(frozen=True)
class Binned:
    """All vectors as LightGBM sees them, binned once.

    Attributes:
        full: a constructed Dataset of all rows.
        source: the mapped vectors, (n, d).
        params: of every booster; `threads` of them may run at a time on one thread each.
    """

    full: Any
    source: NDArray[np.floating[Any]]
    params: dict[str, Any]
    threads: int

    def subset(self, rows: NDArray[np.int64], labels: Margins, start: Margins, weights: Margins | None = None) -> Any:  # noqa: ANN401
        """A Dataset of `rows` (ascending) that shares the bins, with labels, weights and margins to start from."""
        part = self.full.subset(rows.astype(np.int32).tolist(), params=self.params)
        part.construct()
        part.set_label(labels)
        part.set_init_score(start)
        if weights is not None:
            part.set_weight(weights)
        return part

    def parts(self, rows: NDArray[np.int64]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Vectors of `rows`, PREDICT_ROWS at a time: places among the rows, and float32 (r, d)."""
        for first in range(0, len(rows), PREDICT_ROWS):
            place = slice(first, min(first + PREDICT_ROWS, len(rows)))
            yield place, np.asarray(self.source[rows[place]], dtype=np.float32)

    def predict(self, booster: Any, rows: NDArray[np.int64], rounds: int) -> Margins:  # noqa: ANN401
        """Raw margins (len(rows),) of the first `rounds` trees."""
        margins = np.zeros(len(rows))
        for place, values in self.parts(rows) if rounds else ():
            margins[place] = booster.predict(values, raw_score=True, num_iteration=rounds)
        return margins


def bin_vectors(vectors: NDArray[np.floating[Any]], threads: int) -> Binned:
    """Bin all columns once, streaming from the map."""
    import lightgbm as lgb

    class Rows(lgb.Sequence):
        batch_size = 4096

        def __getitem__(self, index: Any) -> NDArray[np.float64]:  # noqa: ANN401
            return np.asarray(vectors[index], dtype=np.float64)

        def __len__(self) -> int:
            return len(vectors)

    params = {
        "objective": "binary",
        "metric": "binary_logloss",
        "boost_from_average": False,  # margins to start from are given
        "num_leaves": 15,
        "min_data_in_leaf": 20,
        "lambda_l2": 5.0,
        "learning_rate": 0.1,
        "max_bin": 63,
        "min_data_in_bin": 3,
        "bin_construct_sample_cnt": BIN_ROWS,
        "feature_fraction": min(1.0, COLUMNS_PER_TREE / vectors.shape[1]),
        "feature_pre_filter": False,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    binning = params | {"num_threads": threads}
    full = lgb.Dataset(Rows(), label=np.zeros(len(vectors)), params=binning, free_raw_data=False)
    return Binned(full.construct(), vectors, params, threads)


@dataclass(frozen=True)
class TaskTrees:
    """The boosters of one task; a label's margin is base + shared trees + its shift + its own trees.

    Attributes:
        base: log-odds of `any label`, given to everybody.
        shared: booster of `any label` and how many of its trees count; None if there was nothing to learn.
        shared_rounds: trees of `shared` that count.
        shifts: (L,) constants that move the shared margin to each label's base rate.
        own: a booster per label; None where it has too few positives.
        rounds: trees of each of `own` that count.
    """

    base: float
    shared: Any
    shared_rounds: int
    shifts: Margins
    own: tuple[Any, ...]
    rounds: int

    def gains(self, width: int) -> Margins:
        """Reduction of the loss by each column's splits, (width,), over the shared trees and all labels' own."""
        total = np.zeros(width)
        for booster, rounds in self._boosters():
            total += booster.feature_importance("gain", iteration=rounds)
        return total

    def contributions(self, vectors: NDArray[np.floating[Any]], rows: NDArray[np.int64]) -> Margins:
        """Exact contributions (TreeSHAP) of the columns to every label's margin, (c, L, d + 1), constants last."""
        values = np.asarray(vectors[rows], dtype=np.float32)
        out = np.zeros((len(rows), len(self.shifts), vectors.shape[1] + 1))
        out[:, :, -1] = self.base + self.shifts
        if not len(rows):
            return out
        for label, booster in enumerate(self.own):
            if booster is not None and self.rounds:
                out[:, label] += booster.predict(values, pred_contrib=True, num_iteration=self.rounds)
        if self.shared is not None and self.shared_rounds:
            out += self.shared.predict(values, pred_contrib=True, num_iteration=self.shared_rounds)[:, None]
        return out

    def _boosters(self) -> list[tuple[Any, int]]:
        all_of_them = [(self.shared, self.shared_rounds), *((booster, self.rounds) for booster in self.own)]
        return [(booster, rounds) for booster, rounds in all_of_them if booster is not None and rounds]


def learn_task(
    binned: Binned, rows: NDArray[np.int64], labels: sp.csr_matrix, seed: int
) -> tuple[NDArray[np.float32], TaskTrees]:
    """Margins (m, L) of all labels for the clients in `rows`, learnt from `labels` (m, L), and the trees they are made of.

    Args:
        binned: all vectors.
        rows: (m,) ascending positions of the task's clients.
        labels: labels of the training window.
        seed: of the client split, the sampled negatives and the sampled columns. The number of threads changes nothing.
    """
    width = labels.shape[1]
    columns = labels.tocsc()
    held = np.zeros(len(rows), dtype=np.bool_)
    held[np.random.default_rng(seed).permutation(len(rows))[: max(1, int(HELD_OUT * len(rows)))]] = True
    any_label = (np.asarray(labels.sum(axis=1)).ravel() > 0).astype(np.float64)
    base = _log_odds(any_label)
    common, common_rounds = _shared_trees(binned, rows, any_label, held, seed)
    shared = base + (0.0 if common is None else binned.predict(common, rows, common_rounds))
    shared = np.broadcast_to(shared, len(rows))
    if width == 1:
        return shared[:, None].astype(np.float32), TaskTrees(base, common, common_rounds, np.zeros(1), (None,), 0)
    margins, shifts = np.empty(labels.shape, dtype=np.float32), np.zeros(width)

    def learn(label: int) -> tuple[Any, Margins]:
        y = columns[:, [label]].toarray().ravel().astype(np.float64)
        shifts[label] = _shift(shared, y)
        start = shared + shifts[label]
        margins[:, label] = start
        return _own_trees(binned, rows, y, start, held, (seed, label))

    with ThreadPoolExecutor(binned.threads) as pool:  # LightGBM works outside the interpreter lock
        boosters, losses = zip(*pool.map(learn, range(width)), strict=True)
        rounds = int(np.argmin(np.sum(losses, axis=0)))
        for place, values in binned.parts(rows) if rounds else ():  # read once for all labels

            def add(label: int, place: slice = place, values: NDArray[np.float32] = values) -> None:
                if boosters[label] is not None:
                    margins[place, label] += boosters[label].predict(values, raw_score=True, num_iteration=rounds)

            list(pool.map(add, range(width)))
    return margins, TaskTrees(base, common, common_rounds, shifts, tuple(boosters), rounds)


def _shared_trees(
    binned: Binned, rows: NDArray[np.int64], y: Margins, held: NDArray[np.bool_], seed: int
) -> tuple[Any, int]:
    """A booster of `y` and how many of its trees count, stopped early on the held-out clients; (None, 0) for one class."""
    import lightgbm as lgb

    start = np.full(len(rows), _log_odds(y))
    if not 0 < y[~held].sum() < (~held).sum():
        return None, 0
    cells = len(rows) * binned.source.shape[1]
    params = binned.params | {"seed": seed, "num_threads": binned.threads if cells > MANY_CELLS else 1}
    fit = binned.subset(rows[~held], y[~held], start[~held])
    check = binned.subset(rows[held], y[held], start[held])
    stop = lgb.early_stopping(PATIENCE, verbose=False)
    booster = lgb.train(params, fit, SHARED_ROUNDS, valid_sets=[check], callbacks=[stop])
    return booster, booster.best_iteration


def _own_trees(
    binned: Binned,
    rows: NDArray[np.int64],
    y: Margins,
    start: Margins,
    held: NDArray[np.bool_],
    seed: tuple[int, int],
) -> tuple[Any, Margins]:
    """A booster of one label, None if it has too few positives, and its held-out loss after 0, 1, 2 … trees."""
    import lightgbm as lgb

    nothing = np.zeros(OWN_ROUNDS + 1)
    if y[~held].sum() < FEW:
        return None, nothing
    rng = np.random.default_rng(seed)
    (fit, fit_weights), (check, check_weights) = _sample(y, ~held, rng), _sample(y, held, rng)
    record: dict[str, dict[str, list[float]]] = {}
    booster = lgb.train(
        binned.params | {"seed": seed[0] + 1000 * seed[1]},
        binned.subset(rows[fit], y[fit], start[fit], fit_weights),
        OWN_ROUNDS,
        valid_sets=[binned.subset(rows[check], y[check], start[check], check_weights)],
        valid_names=["held"],
        callbacks=[lgb.record_evaluation(record)],
    )
    losses = [_log_loss(y[check], start[check], check_weights), *record["held"]["binary_logloss"]]
    return booster, np.pad(losses, (0, len(nothing) - len(losses)), mode="edge")


def _sample(y: Margins, among: NDArray[np.bool_], rng: np.random.Generator) -> tuple[NDArray[np.int64], Margins]:
    """All positives and a sample of the negatives among some clients, ascending, with weights that undo the sampling."""
    positives, negatives = np.flatnonzero(among & (y > 0)), np.flatnonzero(among & (y == 0))
    count = min(len(negatives), max(NEGATIVES, NEGATIVES_PER_POSITIVE * len(positives)))
    chosen = np.sort(np.concatenate([positives, rng.choice(negatives, count, replace=False)]))
    return chosen, np.where(y[chosen] > 0, 1.0, len(negatives) / max(count, 1))


def _shift(margin: Margins, y: Margins) -> float:
    """The constant that makes the mean probability of margin + constant equal the share of positives (Newton)."""
    goal = (y.sum() + 0.5) / (len(y) + 1)
    shift = float(np.log(goal / (1 - goal)) - margin.mean())
    for _ in range(50):
        chance = 1 / (1 + np.exp(-np.clip(margin + shift, -500, 500)))
        step = (goal - chance.mean()) / max(float((chance * (1 - chance)).mean()), 1e-12)
        shift += float(np.clip(step, -2, 2))
        if abs(step) < 1e-6:
            break
    return shift


def _log_odds(y: Margins) -> float:
    goal = (y.sum() + 0.5) / (len(y) + 1)
    return float(np.log(goal / (1 - goal)))


def _log_loss(y: Margins, margin: Margins, weights: Margins) -> float:
    return float(np.average(np.logaddexp(0, margin) - y * margin, weights=weights)) if len(y) else 0.0


def _end_with_parent() -> None:
    """End this process as soon as the parent's end of our standard input is gone."""

    def wait() -> None:
        while os.read(0, 4096):  # not sys.stdin: its lock would be held when the interpreter ends
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _own_stdout() -> TextIO:
    """Standard output for us alone: LightGBM's C++ prints its warnings there, which go to standard error instead."""
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return ours


def main(job: Path) -> None:
    """Work through a job folder; a line of JSON on stdout per finished task and seed."""
    _end_with_parent()
    told = _own_stdout()
    settings = json.loads((job / "job.json").read_text(encoding="utf-8"))
    binned = bin_vectors(np.load(settings["vectors"], mmap_mode="r"), settings["threads"])
    for index, seed in settings["order"]:
        began = time.perf_counter()
        rows, labels = np.load(job / f"rows{index}.npy"), sp.load_npz(job / f"labels{index}.npz")
        margins, trees = learn_task(binned, rows, labels, seed)
        explain = job / f"explain{index}.npy"
        if explain.exists():
            np.save(job / f"gain{index}-{seed}.npy", trees.gains(binned.source.shape[1]))
            np.save(job / f"contributions{index}-{seed}.npy", trees.contributions(binned.source, np.load(explain)))
        np.save(job / f"logits{index}-{seed}.npy", margins)
        print(json.dumps({"task": index, "seed": seed, "seconds": time.perf_counter() - began}), file=told, flush=True)


if __name__ == "__main__":
    # LightGBM looks for scikit-learn to dress itself up for it: most of a second, for nothing here
    sys.modules.setdefault("sklearn", None)  # type: ignore[arg-type]
    main(Path(sys.argv[1]))
