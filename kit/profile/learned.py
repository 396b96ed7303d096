"""What the assembly learned of a block's columns, so that other clients and later cuts are treated as those of the submission."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from kit.arrays import read_arrays
from kit.errors import KitError

ARRAYS: Final = "assembly.npz"
WORDS: Final = "assembly.json"
FILES: Final = (WORDS, ARRAYS)
JOINT: Final = "[assembly]"
"""Stands for all blocks together among the names of blocks, which hold no brackets."""


@dataclass(frozen=True)
class Components:
    """Principal components: mean (d,) and components (k, d), as scikit-learn found them."""

    mean: NDArray[np.floating]
    components: NDArray[np.floating]

    def apply(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (n, d) on the components, (n, k)."""
        pca = PCA(len(self.components))
        pca.mean_, pca.components_, pca.n_features_in_ = self.mean, self.components, block.shape[1]
        reduced: NDArray[np.float32] = pca.transform(block).astype(np.float32, copy=False)
        return reduced

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For a file."""
        return {"mean": self.mean, "components": self.components}


@dataclass(frozen=True)
class Prepared:
    """What was learned of one block.

    Attributes:
        columns: names of those that are kept, d of them.
        dropped: names of the constant ones.
        flags: columns that each show one of the patterns of missing values that have a flag.
        scale: what the scaling needs: "quantiles" (q, d), or "centre" and "spread" (d,), or nothing.
        fill: float32 (d,), what stands for a missing value once it is scaled.
        components: of the columns and flags; None without PCA.
        rms: what the block was divided by; None if it was not.
    """

    columns: tuple[str, ...]
    dropped: tuple[str, ...]
    flags: tuple[str, ...]
    scale: Mapping[str, NDArray[Any]]
    fill: NDArray[np.float32]
    components: Components | None = None
    rms: float | None = None


@dataclass(frozen=True)
class Learned:
    """All that an assembly learned: by block, and of all blocks together (None without a joint PCA)."""

    blocks: Mapping[str, Prepared] = field(default_factory=dict)
    joint: Components | None = None

    def save(self, folder: Path) -> None:
        """assembly.json (names) and assembly.npz (numbers: about 8 kB a column where it is scaled by quantiles)."""
        words: dict[str, Any] = {}
        arrays: dict[str, NDArray[Any]] = {}
        for name, block in self.blocks.items():
            words[name] = {
                "columns": block.columns,
                "dropped": block.dropped,
                "flags": block.flags,
                "rms": block.rms,
                "pca": block.components is not None,
            }
            parts = {"fill": block.fill, **{f"scale.{key}": array for key, array in block.scale.items()}}
            parts |= block.components.arrays() if block.components else {}
            arrays |= {f"{name}/{key}": array for key, array in parts.items()}
        if self.joint is not None:
            arrays |= {f"{JOINT}/{key}": array for key, array in self.joint.arrays().items()}
        (folder / WORDS).write_text(json.dumps(words, indent=1) + "\n", encoding="utf-8")
        np.savez_compressed(folder / ARRAYS, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, folder: Path) -> Learned:
        """What `save` wrote.

        Raises:
            KitError: a file is missing or damaged.
        """
        arrays = read_arrays(folder / ARRAYS)
        try:
            words = json.loads((folder / WORDS).read_text(encoding="utf-8"))
            blocks = {name: _block(told, _of(name, arrays)) for name, told in words.items()}
        except (OSError, ValueError, KeyError, TypeError) as error:
            remedy = "Build it again: `kit submit RECIPE --data DIR`."
            raise KitError(f"{folder / WORDS} cannot be read ({error!r}).", remedy) from error
        joint = _of(JOINT, arrays)
        return cls(blocks, Components(joint["mean"], joint["components"]) if joint else None)


def _of(name: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {key.removeprefix(f"{name}/"): array for key, array in arrays.items() if key.startswith(f"{name}/")}


def _block(words: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Prepared:
    scale = {key.removeprefix("scale."): array for key, array in arrays.items() if key.startswith("scale.")}
    components = Components(arrays["mean"], arrays["components"]) if words["pca"] else None
    columns, dropped, flags = (tuple(words[key]) for key in ("columns", "dropped", "flags"))
    return Prepared(columns, dropped, flags, scale, arrays["fill"], components, words["rms"])
