"""Forecasts that a submission's blocks made: their columns `forecast_*`, as they left the block.

A recipe scales forecasts, reduces them to principal components or leaves them out of the profile. So they are read where the
block put them, in the artefact store, by the key that the manifest names:

    forecast_far, forecast_near     log-odds of a purchase in the later and in the first window after the cut
    forecast_<column>_<target>      log of the expected purchases of a category, sku or price bucket in the later window
    forecast_new_<category>         the same of the category's products that nobody has bought

Clients without events have none of their own (NaN); see `filled`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit, logit

from kit.arrays import blocks
from kit.challenge import EventType
from kit.errors import KitError
from kit.history import History
from kit.limits import memory as limits
from kit.store import Store, is_whole
from kit.submission.manifest import read_manifest

PREFIX: Final = "forecast_"
RATES: Final = ("far", "near")
"""Forecasts of any purchase at all, best first: the windows that scores come from lie in the far one."""
SURE: Final = 1e-7
"""Probabilities are kept so far from 0 and 1."""


class NoForecasts(KitError):
    """A submission none of whose blocks forecasts anything."""


@dataclass(frozen=True)
class Forecasts:
    """What one block forecasts of every client.

    Attributes:
        entry: of the recipe; its name.
        values: float32 (n, f); row i belongs to the i-th client by id.
        place: name of a forecast, without the prefix → its column.
        fill: (f,) what stands for a missing value; None where that is not settled.
    """

    entry: str
    values: NDArray[np.float32]
    place: Mapping[str, int]
    fill: NDArray[np.float32] | None = None

    def first(self, names: Iterable[str]) -> str | None:
        """The first of the names that is forecast."""
        return next((name for name in names if name in self.place), None)

    def of(self, name: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(m,) one forecast for these rows."""
        column = self.place[name]
        found = np.asarray(self.values[rows, column], dtype=np.float32)
        return found if self.fill is None else np.where(np.isnan(found), self.fill[column], found)

    @property
    def silent(self) -> NDArray[np.bool_]:
        """(n,) who lacks a forecast."""
        return np.concatenate([np.isnan(self.values[rows]).any(axis=1) for rows in blocks(len(self.values))])

    def filled(self, ratio: float) -> Forecasts:
        """The same, clients without forecasts at the rate of such clients: in every column the mean probability of the others,
        times `ratio` (see `silent_ratio`)."""
        fill = np.zeros(self.values.shape[1], dtype=np.float32)
        for column in range(len(fill)):
            chances = expit(self.values[:, column].astype(np.float64))
            known = chances[~np.isnan(chances)]
            usual = known.mean() if len(known) else 0.5
            fill[column] = logit(np.clip(usual * ratio, SURE, 1 - SURE))
        return replace(self, fill=fill)


def block_keys(folder: Path) -> dict[str, str]:
    """Recipe entry → key of its output in the store, in the recipe's order; KitError where no manifest says."""
    made: dict[str, Any] = read_manifest(folder).get("artefacts", {})
    return {str(name): str(key) for name, key in made.get("blocks", {}).items()}


def read_forecasts(folder: Path, store: Store) -> Forecasts:
    """The forecasts of the first entry of a submission's recipe that has any.

    Raises:
        NoForecasts: no block forecasts.
        KitError: it has no manifest; the blocks are no longer in the store.
    """
    gone = []
    for entry, key in block_keys(folder).items():
        place = store.root / key
        if not is_whole(place):
            gone.append(f"{entry} ({key})")
            continue
        columns = json.loads((place / "columns.json").read_text(encoding="utf-8"))
        found = {name.removeprefix(PREFIX): at for at, name in enumerate(columns) if name.startswith(PREFIX)}
        if set(RATES) & set(found):
            return Forecasts(entry, _columns(place / "values.npy", list(found.values())), dict(zip(found, count())))
    if gone:
        raise KitError(
            f"The forecasts of {folder} are not in the store {store.root}: gone are {', '.join(gone)}.",
            f"Build it again (`kit submit RECIPE --data DIR --out {folder}`): equal recipe and data give equal bytes.",
        )
    raise NoForecasts(
        f"No block of {folder} forecasts purchases: none has a column {PREFIX}far or {PREFIX}near.",
        "Score a submission with a `combined` block, or give another --probe.",
    )


def _columns(path: Path, columns: list[int]) -> NDArray[np.float32]:
    """(n, f) some columns of a block's output: read in one pass over its rows, as they lie."""
    source = np.load(path, mmap_mode="r")
    values: NDArray[np.float32] = limits.empty((len(source), len(columns)), np.float32)
    for rows in blocks(len(source)):
        values[rows] = source[rows][:, columns]
    return values


def silent_ratio(history: History) -> float:
    """How often clients without any event buy in the window after next, as a share of how often the others do.

    Counted two windows before the cut, on the window that lies right before it, so that nothing after the cut is known. Clients
    are relevant because they came sooner or later: whoever is silent then and comes before the cut stands for who is silent now
    and comes later, so clients who have not come by the cut are not counted. One client without events at the others' rate is
    counted in, so that few of them say little.
    """
    later, window = history.rewind()
    past, _ = later.rewind()
    buyers = window.purchases().select("client_id").unique().collect()["client_id"].to_numpy()
    known, before = (np.isin(history.clients, _seen(view)) for view in (history, past))
    bought, silent = np.isin(history.clients, buyers), known & ~before
    if not bought[before].any():
        return 1.0  # nothing to compare with
    usual = float(bought[before].mean())
    return (float(bought[silent].sum()) + usual) / (np.count_nonzero(silent) + 1) / usual


def _seen(history: History) -> NDArray[np.int64]:
    """Ids of the clients with an event before its cut."""
    found = pl.concat([history.events(kind).select("client_id") for kind in EventType]).unique().collect()
    return found["client_id"].to_numpy()
