"""The row `oracle`: a profile made of the generator's own probabilities, which shows what a probe loses of what can be known.

Rates and choices apart and in few columns, as pipelines/blend.toml gives them: logs of the expected purchases per task,
standardised, and principal components of the logs given that rate.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from kit.data.layout import DataFolder
from kit.data.shop.truth import FOLDER
from kit.scoring.ceiling import PROBABILITIES
from kit.store import write_atomically
from kit.tasks import CHALLENGE

COMPONENTS: Final = 32
RATE: Final = 3.0
"""Weight of a rate beside the choices' root mean square of 1."""
WEIGHT: Final = 0.3


def oracle_profile(folder: DataFolder) -> tuple[NDArray[np.int64], NDArray[np.float16]] | None:
    """Sorted ids (n,) and profile (n, d); None where the folder has no probabilities, or not those of all relevant clients."""
    path = folder.root / FOLDER / PROBABILITIES
    if not path.exists():
        return None
    with np.load(path) as stored:
        ids = stored["client_ids"].astype(np.int64)
        tables = [stored[task.name].astype(np.float64) for task in CHALLENGE if task.name in stored]
    if not np.array_equal(np.sort(ids), folder.clients()):
        return None
    rates, choices = [], []
    for table in tables:
        logs = np.log(np.clip(table.reshape(len(ids), -1), 1e-9, 1))
        total = np.log(np.exp(logs).sum(axis=1, keepdims=True))
        rates.append((total - total.mean()) / max(float(total.std()), 1e-9))
        if logs.shape[1] > 1:
            choices.append(logs - total)
    parts = [RATE * np.concatenate(rates, axis=1)]
    if choices:
        joined = np.concatenate(choices, axis=1)
        reduced = PCA(min(COMPONENTS, *joined.shape), random_state=0).fit_transform(joined)
        parts.append(reduced / max(float(np.sqrt(np.mean(reduced**2))), 1e-9))
    profile = np.clip(WEIGHT * np.concatenate(parts, axis=1), -6, 6).astype(np.float16)
    order = np.random.default_rng(0).permutation(len(ids))
    return ids[order], profile[order]


def write_oracle(folder: DataFolder, place: Path) -> bool:
    """client_ids.npy and embeddings.npy of `oracle_profile`, in a random order; whether there is one."""
    made = oracle_profile(folder)
    if made is None:
        return False
    ids, profile = made
    write_atomically(place / "client_ids.npy", partial(_save, ids))
    write_atomically(place / "embeddings.npy", partial(_save, profile))
    return True


def _save(array: NDArray[Any], path: Path) -> None:
    with path.open("wb") as stream:  # given a name, NumPy would append .npy to it
        np.save(stream, array)
