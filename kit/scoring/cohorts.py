"""Cohorts of clients by what their history holds, and the AUROC of each task within each cohort.

A single score hides whom a profile serves: long histories or short ones, buyers or browsers, clients without any event. Each
group of cohorts covers all clients and its cohorts do not overlap.

Technique I8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import EventType
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.history import History
from kit.store import Store
from kit.tasks.labels import TaskData
from kit.tasks.metrics import auroc_multilabel

Masks = dict[str, dict[str, NDArray[np.bool_]]]
"""group → cohort → (n,) mask of clients."""
LENGTHS: Final = ((0, 0, "no event"), (1, 1, "1"), (2, 9, "2-9"), (10, 49, "10-49"), (50, None, "50 or more"))
"""Cohorts by number of events: from, to (both included), name."""


@dataclass(frozen=True)
class EventCounts:
    """Events before the cut.

    Attributes:
        clients: (n,) ids in the order asked for.
        events: (n, 5) int64, columns in the order of EventType.
    """

    clients: NDArray[np.int64]
    events: NDArray[np.int64]

    @property
    def total(self) -> NDArray[np.int64]:
        """Events of all types, (n,)."""
        return np.asarray(self.events.sum(axis=1))

    def of(self, kind: EventType) -> NDArray[np.int64]:
        """Events of one type, (n,)."""
        return self.events[:, list(EventType).index(kind)]


def count_events(history: History, clients: NDArray[np.int64]) -> EventCounts:
    """Events of each client before the history's cut; 0 for a client that the history does not cover."""
    spine = pl.LazyFrame({"client_id": clients, "row": np.arange(len(clients))})
    events = np.zeros((len(clients), len(EventType)), dtype=np.int64)
    for column, kind in enumerate(EventType):
        found = history.events(kind).group_by("client_id").len().join(spine, on="client_id").select("row", "len")
        frame = found.collect(engine="streaming")
        events[frame["row"].to_numpy(), column] = frame["len"].to_numpy()
    return EventCounts(clients, events)


def read_counts(folder: DataFolder, clients: NDArray[np.int64], store: Store | None = None) -> EventCounts | None:
    """Counts from a split folder's input; None where it holds no events that could be counted, whatever the reason."""
    try:
        return count_events(History.open(folder, "input", store=store), clients)
    except (KitError, pl.exceptions.PolarsError):
        return None


def cohorts(counts: EventCounts) -> Masks:
    """history: by number of events; mix: by the furthest step towards a purchase; purchases: buyers and others."""
    total, bought = counts.total, counts.of(EventType.BUY) > 0
    carted = counts.of(EventType.CART) + counts.of(EventType.REMOVE) > 0
    searched, visited = counts.of(EventType.SEARCH) > 0, counts.of(EventType.VISIT) > 0
    length = {name: (total >= low) & ((total <= high) if high is not None else True) for low, high, name in LENGTHS}
    mix = {
        "no event": total == 0,
        "visits only": visited & ~searched & ~carted & ~bought,
        "searched, no cart": searched & ~carted & ~bought,
        "cart, no purchase": carted & ~bought,
        "purchase": bought & visited,
        "purchase, never seen visiting": bought & ~visited,
    }
    return {"history": length, "mix": mix, "purchases": {"buyers": bought, "non-buyers": ~bought}}


def slice_scores(masks: Masks, data: TaskData, logits: NDArray[np.float32]) -> dict[str, dict[str, dict[str, Any]]]:
    """group → cohort → clients, positives, labels with both classes, and the mean AUROC over these (None without any).

    Args:
        masks: over all clients of the submission.
        data: the task; its rows say which clients take part.
        logits: (m, L) of the validation window, rows as in data.rows.
    """
    return {
        group: {name: _slice(mask[data.rows], data, logits) for name, mask in inside.items()}
        for group, inside in masks.items()
    }


def _slice(mask: NDArray[np.bool_], data: TaskData, logits: NDArray[np.float32]) -> dict[str, Any]:
    rows = np.flatnonzero(mask)
    labels = data.validation[rows]
    areas = auroc_multilabel(logits, labels, rows=rows) if len(rows) else np.empty(0)
    defined = areas[~np.isnan(areas)]
    return {
        "clients": int(mask.sum()),
        "positives": int(labels.sum()),
        "labels": len(defined),
        "auroc": round(float(defined.mean()), 6) if len(defined) else None,
    }
