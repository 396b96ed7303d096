"""What the probe `centroid` read: its logits are sums of products, one for each column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from acme_kit.probes.centroid import fitted
from kit.probes.registry import Explanation, Options, Vectors, explains
from kit.tasks import Task
from kit.tasks.labels import TaskData


@explains("centroid", "the centroids", "products")
def reasons(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> dict[Task, Explanation]:
    """Columns weigh as much as they move a client's logits on average; nothing is added for everybody."""
    found = {}
    for data in tasks:
        rows, weights = fitted(vectors, data)
        asked = np.empty(0, np.int64) if options.explain is None else np.intersect1d(data.rows, options.explain)
        mine = rows[np.searchsorted(data.rows, asked)]
        parts = mine[:, None, :] * weights.T[None]  # (c, L, d)
        base = np.zeros((*parts.shape[:2], 1))
        gain = np.abs(rows).mean(axis=0) * np.abs(weights).mean(axis=1)
        found[data.task] = Explanation(gain.astype(float), asked, np.concatenate([parts, base], axis=2).astype(float))
    return found
