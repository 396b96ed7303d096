"""Block `stack`: forecasts learned on top of other entries of the recipe (stacked generalisation, Wolpert 1992).

    now − 2 windows     now − 1 window       now
    ──────┤──────────────────┤────────────────┤
          └ used, fitted here ┴─ labels ──┘   used, fitted now → forecasts

Ridge regression from the used entries' columns to what clients did in the window after a rewound cut. At every rewound cut the
used entries are fitted anew, on what was known there: an entry that was fitted now would know the labels. That costs a fit of
each per cut, and their artefacts are kept in the store. The forecasts are few columns, each of which means something.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar, Final, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from threadpoolctl import threadpool_limits

from kit.arrays import read_arrays
from kit.blocks.base import Block, BlockOutput, block
from kit.challenge import MAX_WIDTH, PRICE_BUCKETS, EventType
from kit.errors import KitError
from kit.history import History, Window
from kit.limits.need import Counts, Need, matrix
from kit.recipe import Strict
from kit.store import write_json
from kit.tasks.challenge import CATEGORY, CONVERSION, PRICE, SKU
from kit.tasks.labels import label_matrix

ROWS_AT_ONCE: Final = 16_384
Doubles = NDArray[np.float64]


class StackSettings(Strict):
    """Settings of the stack."""

    ridge: float = Field(0.1, gt=0, description="Penalty on squared coefficients of standardised columns, per row.")
    cuts: int = Field(1, ge=1, le=12, description="Rewound cuts to learn at; at each, every used entry is fitted.")
    stride: int = Field(7, ge=1, description="Days between them; the latest lies one target window before the cut.")


@block
class Stack(Block):
    """Linear forecasts, float32 (n, targets): buys, carts, and every published category, sku and price bucket."""

    kind = "stack"
    description = "Ridge from other entries' columns to what clients did after a rewound cut."
    takes = True
    Settings: ClassVar[type[Strict]] = StackSettings

    def fit(self, history: History) -> Stack:
        """Learn at the rewound cuts.

        Raises:
            KitError: nobody bought anything in the windows after them.
        """
        pairs = []
        for past, window in _rewound(history, self._own):
            pairs.append((self.used(past), labels_of(window, history, past.clients)))
        self.columns = pairs[0][0].columns
        self.targets = target_names(history)
        if not any(labels[:, 0].any() for _, labels in pairs):
            raise KitError(
                f"Nobody bought anything in the windows that {self.kind} learns from, before {history.cut}.",
                "Raise `cuts`, or leave the block out.",
            )
        inputs = [_aligned(output, self.columns) for output, _ in pairs]
        self.centre, self.spread = moments(inputs)
        self.weights, self.usual = self._solve(inputs, [labels for _, labels in pairs])
        return self

    def transform(self, history: History, clients: NDArray[np.int64]) -> BlockOutput:
        """Forecasts; made for all the history's clients in the same pieces, whoever is asked for, so that a row does not depend
        on its company."""
        inputs = _aligned(self.used(history), self.columns)
        values = np.empty((len(inputs), len(self.targets)), dtype=np.float32)
        with threadpool_limits(1, "blas"):
            for rows in _rows(len(inputs)):
                values[rows] = self._standard(inputs[rows]) @ self.weights + self.usual
        return BlockOutput(values[np.searchsorted(history.clients, clients)], self.targets)

    def need(self, counts: Counts) -> Need:
        """The used columns and the labels of all cuts (float32, mapped where they are the store's), second moments, and the
        forecasts; what fitting the used entries takes is said by themselves."""
        targets = 2 + sum(counts.targets) + PRICE_BUCKETS
        labels = self._own.cuts * matrix(counts.clients, targets)
        inputs = self._own.cuts * matrix(counts.clients, MAX_WIDTH)
        fixed = matrix(MAX_WIDTH, MAX_WIDTH + targets, 8) + matrix(ROWS_AT_ONCE, MAX_WIDTH + targets, 16)
        values = matrix(counts.clients, targets)
        memory = labels + inputs + fixed + values
        return Need(memory, memory, values + inputs + fixed, targets, "`cuts` smaller, narrower entries to use")

    def save(self, folder: Path) -> None:
        """stack.npz float64: weights, what is usual, centre and spread of the columns; stack.json: names."""
        np.savez(folder / "stack.npz", weights=self.weights, usual=self.usual, centre=self.centre, spread=self.spread)
        write_json(folder / "stack.json", {"columns": self.columns, "targets": self.targets})

    def load(self, folder: Path) -> Stack:
        """Weights and names."""
        arrays = read_arrays(folder / "stack.npz")
        self.weights, self.usual = arrays["weights"], arrays["usual"]
        self.centre, self.spread = arrays["centre"], arrays["spread"]
        names = json.loads((folder / "stack.json").read_text(encoding="utf-8"))
        self.columns, self.targets = tuple(names["columns"]), tuple(names["targets"])
        return self

    @property
    def _own(self) -> StackSettings:
        return cast(StackSettings, self.settings)

    def _standard(self, values: NDArray[np.float32]) -> Doubles:
        """z-scores; missing = 0 = the mean."""
        scaled: Doubles = (values.astype(np.float64) - self.centre) / self.spread
        return np.where(np.isfinite(scaled), scaled, 0.0)

    def _solve(self, inputs: list[NDArray[np.float32]], labels: list[NDArray[np.float32]]) -> tuple[Doubles, Doubles]:
        """Weights (d, t) and intercepts (t,) of the ridge, by second moments summed in the order of rows."""
        count, d, t = sum(map(len, inputs)), len(self.columns), labels[0].shape[1]
        gram, cross, left, right = np.zeros((d, d)), np.zeros((d, t)), np.zeros(d), np.zeros(t)
        with threadpool_limits(1, "blas"):  # sums must not depend on the number of threads
            for values, wanted in zip(inputs, labels, strict=True):
                for rows in _rows(len(values)):
                    z, y = self._standard(values[rows]), wanted[rows].astype(np.float64)
                    gram += z.T @ z
                    cross += z.T @ y
                    left += z.sum(axis=0)
                    right += y.sum(axis=0)
            left, right = left / count, right / count
            gram = gram / count - np.outer(left, left) + self._own.ridge * np.eye(d)
            weights = np.asarray(np.linalg.solve(gram, cross / count - np.outer(left, right)), dtype=np.float64)
            return weights, right - left @ weights


def _rewound(history: History, settings: StackSettings) -> list[tuple[History, Window]]:
    """Pasts and the target windows right after them, the latest first; those before the first event are left out, but one."""
    found = []
    for k in range(settings.cuts):
        past, window = (history.rewind(settings.stride * k)[0] if k else history).rewind()
        if k and past.cut <= history.start():
            break
        found.append((past, window))
    return found


def target_names(history: History) -> tuple[str, ...]:
    """Names of what is forecast: buys, carts, and the published categories and skus, and price buckets."""
    lists = [(task.column, history.published_targets(task.name)) for task in (CATEGORY, SKU)]
    listed = [f"{column}_{value}" for column, targets in lists for value in targets]
    return ("buys", "carts", *listed, *(f"price_{bucket}" for bucket in range(PRICE_BUCKETS)))


def labels_of(window: Window, history: History, clients: NDArray[np.int64]) -> NDArray[np.float32]:
    """0 and 1 of `target_names`, float32 (n, t)."""
    bought = 1.0 - label_matrix(CONVERSION, window, clients).toarray()
    carted = window.events(EventType.CART).select("client_id").unique().collect()["client_id"].to_numpy()
    parts = [bought, np.isin(clients, carted)[:, None]]
    for task in (CATEGORY, SKU):
        parts.append(label_matrix(task, window, clients, history.published_targets(task.name)).toarray())
    parts.append(label_matrix(PRICE, window, clients, np.arange(PRICE_BUCKETS)).toarray())
    return np.concatenate(parts, axis=1).astype(np.float32)


def moments(inputs: list[NDArray[np.float32]]) -> tuple[Doubles, Doubles]:
    """Mean and standard deviation of every column over all cuts, missing values left out; 0 and 1 for one without any."""
    total, squares, count = (np.zeros(inputs[0].shape[1]) for _ in range(3))
    for values in inputs:
        for rows in _rows(len(values)):
            chunk = values[rows].astype(np.float64)
            known = np.isfinite(chunk)
            total += np.where(known, chunk, 0.0).sum(axis=0)
            count += known.sum(axis=0)
    centre = total / np.maximum(count, 1)
    for values in inputs:
        for rows in _rows(len(values)):
            chunk = values[rows].astype(np.float64)
            squares += np.square(np.where(np.isfinite(chunk), chunk - centre, 0.0)).sum(axis=0)
    spread = np.sqrt(squares / np.maximum(count, 1))
    return centre, np.where(spread > 0, spread, 1.0)


def _aligned(output: BlockOutput, columns: tuple[str, ...]) -> NDArray[np.float32]:
    """The columns of these names, float32 (n, d); one that a cut lacks is missing there."""
    if output.columns == columns:
        return output.values
    place = {name: k for k, name in enumerate(output.columns)}
    values = np.full((len(output.values), len(columns)), np.nan, dtype=np.float32)
    for k, name in enumerate(columns):
        if name in place:
            values[:, k] = output.values[:, place[name]]
    return values


def _rows(count: int) -> list[slice]:
    return [slice(first, min(first + ROWS_AT_ONCE, count)) for first in range(0, count, ROWS_AT_ONCE)]
