"""The seeded folder and the profiles behind the golden record, as fixtures hand them out."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kit.data.layout import DataFolder


@dataclass(frozen=True)
class World:
    """A split folder and profile → (client_ids, vectors)."""

    folder: DataFolder
    profiles: dict[str, tuple[np.ndarray, np.ndarray]]

    def submission(self, profile: str, where: Path) -> Path:
        """Write a profile as a submission folder."""
        where.mkdir(parents=True, exist_ok=True)
        ids, vectors = self.profiles[profile]
        np.save(where / "client_ids.npy", ids)
        np.save(where / "embeddings.npy", vectors)
        return where


def make_world(root: Path, name: str = "world") -> World:
    """Write a folder of the golden record to `root`: `world`, made with NumPy, or `tiny`, a stored synthetic shop's."""
    spec = importlib.util.spec_from_file_location(f"golden_{name}", Path(__file__).parent / "golden" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return World(DataFolder(root), getattr(module, f"write_{name}")(root))
