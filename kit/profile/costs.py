"""How long a recipe's blocks will take, from what the store knows of blocks before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from kit.progress import Cost
from kit.store import Plan, Store, is_whole

PRIOR: Final = {
    "organisers": 25e-6,
    "stats": 0.2e-3,
    "als": 0.18e-3,
    "gcn": 1.0e-3,
    "twhin": 1.4e-3,
    "combined": 4.0e-3,
    "sequence": 5.5e-3,
}
"""Seconds per client of a kind that the store has never made: docs/measured.md at a million clients, two cores."""
UNKNOWN: Final = 1e-3
"""Seconds per client of a kind that nobody has measured."""


def block_costs(plans: Sequence[tuple[str, Plan]], clients: int, store: Store) -> list[Cost]:
    """The expected cost of every block (its kind, its plan), in order: none where it is fresh, or shares the output of one before
    it; what the newest like it took on this store, in proportion to the clients; else what the kind is known to take.

    The like: of equal settings if there is one, else of the same kind.
    """
    costs: list[Cost] = []
    seen: set[str] = set()
    for kind, plan in plans:
        if plan.key in seen or is_whole(store.folder(plan)):
            costs.append(Cost(0.0, measured=True))
            continue
        seen.add(plan.key)
        before = [record for record in store.records(plan.stage) if _clients(record)]
        alike = [record for record in before if record["inputs"].get("settings") == plan.inputs["settings"]]
        newest = next(reversed(alike or before), None)
        if newest is None:
            costs.append(Cost(PRIOR.get(kind, UNKNOWN) * clients, measured=False))
        else:
            costs.append(Cost(float(newest["seconds"]) * clients / _clients(newest), measured=True))
    return costs


def _clients(record: dict[str, Any]) -> int:
    """For how many clients an artefact of a block holds numbers; 0 if that cannot be read."""
    try:
        return len(np.load(f"{record['folder']}/values.npy", mmap_mode="r"))
    except (OSError, ValueError, TypeError):
        return 0
