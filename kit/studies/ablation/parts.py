"""A recipe taken apart: its blocks, runs and parts of blocks, and the matrices without them or of them alone.

Blocks come from the store, so only assembly is paid.
"""

from __future__ import annotations

import fnmatch
import glob
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from kit.data.layout import DataFolder
from kit.errors import KitError, nearest
from kit.history import History
from kit.probes.registry import Vectors
from kit.profile import Profile, build_profile, profile_fingerprint, run_block, spine
from kit.recipe import BlockEntry, Recipe
from kit.store import Store, digest

How = Literal["left out", "silenced"]
ROWS_AT_ONCE: Final = 65_536


@dataclass(frozen=True)
class AblatedPart:
    """What is left out together.

    Attributes:
        label: how it is called in the table.
        blocks: names of whole blocks.
        pattern: of the columns of the one block that stays otherwise; empty where whole blocks go.
    """

    label: str
    blocks: tuple[str, ...]
    pattern: str = ""


@dataclass(frozen=True)
class Variant:
    """A matrix to be scored: its fingerprint, and how to make it where a score is missing."""

    key: str
    make: Callable[[], Vectors]


@dataclass
class Study:
    """A recipe on a data folder, taken apart.

    Attributes:
        recipe: with at least two blocks.
        folder: split data folder.
        store: holds blocks and scores.
        how: assemble anew without a block (`left out`), or set its columns to 0 (`silenced`).
        patterns: `block:pattern`: also leave out these columns of a block.
    """

    recipe: Recipe
    folder: DataFolder
    store: Store
    how: How = "left out"
    patterns: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        if self.how == "silenced" and self.recipe.assembly.pca is not None:
            raise KitError(
                f"{self.recipe.name} mixes its blocks by [assembly] pca = {self.recipe.assembly.pca}: none can be silenced.",
                "Leave blocks out instead: without --silence.",
            )
        self.parts = [*whole_parts(self.recipe), *(_part(self.recipe, pattern) for pattern in self.patterns)]
        inside = [name for name, entry in self.recipe.blocks.items() if entry.profile]
        if len(inside) < 2 and not self.patterns:
            raise KitError(
                f"{self.recipe.name} has the one block {inside[0]!r}: nothing would be left.",
                "Give a recipe with several blocks, or --part BLOCK:PATTERN.",
            )
        self.history = History.open(self.folder, "input", store=self.store, duplicates=self.recipe.duplicates)
        self.clients = spine(self.history, self.recipe.seed)

    @cached_property
    def profile(self) -> Profile:
        """The whole recipe's profile."""
        return build_profile(self.recipe, self.history, self.store)

    @property
    def full(self) -> Variant:
        """All blocks."""
        return Variant(self._fingerprint(self.recipe), lambda: self.profile.matrix)

    def without(self, part: AblatedPart) -> Variant:
        """Everything but a part."""
        if self.how == "silenced":
            return self._silenced(part, keep=False)
        blocks = {name: entry for name, entry in self.recipe.blocks.items() if name not in part.blocks or part.pattern}
        if part.pattern:
            name = part.blocks[0]
            blocks[name] = self._thinned(name, blocks[name], part)
        return self._built(blocks)

    def alone(self, part: AblatedPart) -> Variant:
        """Nothing but a part made of whole blocks."""
        if self.how == "silenced":
            return self._silenced(part, keep=True)
        return self._built({name: self.recipe.blocks[name] for name in part.blocks})

    def _built(self, blocks: dict[str, BlockEntry]) -> Variant:
        known, needed = self.recipe.blocks, list(blocks)
        whole = dict(blocks)
        while needed:  # what is left may use what is left out: then that is built, and has no columns
            for other in known[needed.pop()].uses:
                if other not in whole:
                    whole[other] = known[other].model_copy(update={"profile": False})
                    needed.append(other)
        recipe = self.recipe.model_copy(update={"blocks": whole})
        return Variant(
            self._fingerprint(recipe), lambda: np.asarray(build_profile(recipe, self.history, self.store).matrix)
        )

    def _fingerprint(self, recipe: Recipe) -> str:
        return profile_fingerprint(recipe, self.history.fingerprint)

    def _silenced(self, part: AblatedPart, *, keep: bool) -> Variant:
        key = digest([self._fingerprint(self.recipe), "silenced", list(part.blocks), part.pattern, keep])
        return Variant(key, partial(self._silence, part, keep=keep))

    def _silence(self, part: AblatedPart, *, keep: bool) -> Vectors:
        matrix = self.profile.matrix
        chosen = np.zeros(matrix.shape[1], dtype=np.bool_)
        for row in self.profile.blocks:
            if row.name in part.blocks:
                chosen[row.start : row.stop] = _matches(row.columns, part.pattern or "*")
        if part.pattern and not chosen.any():
            raise _no_match(part, self._columns(part.blocks[0]))
        out = np.empty_like(matrix)
        silence(matrix, out, ~chosen if keep else chosen, self.recipe.assembly.row_norm)
        return out

    def _thinned(self, name: str, entry: BlockEntry, part: AblatedPart) -> BlockEntry:
        """The entry with all its columns but those of the pattern."""
        columns = self._columns(name)
        if entry.columns:
            columns = [column for column in columns if any(fnmatch.fnmatchcase(column, p) for p in entry.columns)]
        rest = [column for column, gone in zip(columns, _matches(columns, part.pattern), strict=True) if not gone]
        if len(rest) == len(columns):
            raise _no_match(part, columns)
        if not rest:
            raise KitError(f"{part.pattern!r} is all of block {name!r}.", "Its own row says what it is worth.")
        return entry.model_copy(update={"columns": tuple(glob.escape(column) for column in rest)})

    def _columns(self, name: str) -> list[str]:
        """A block's columns, as it names them."""
        made = run_block(name, self.recipe.blocks[name], self.recipe.seed, self.history, self.store, self.recipe.blocks)
        return list(json.loads((made.folder / "columns.json").read_text(encoding="utf-8")))


def silence(vectors: Vectors, out: NDArray[np.float16], columns: slice | NDArray[Any], row_norm: float | None) -> None:
    """Copy `vectors` (n, d) to `out` with `columns` set to 0, rows scaled to `row_norm` again if there is one."""
    for first in range(0, len(vectors), ROWS_AT_ONCE):
        chunk = vectors[first : first + ROWS_AT_ONCE].astype(np.float32)
        chunk[:, columns] = 0
        if row_norm is not None:
            chunk *= row_norm / np.maximum(np.linalg.norm(chunk, axis=1, keepdims=True), 1e-12)
        out[first : first + ROWS_AT_ONCE] = chunk


def whole_parts(recipe: Recipe) -> list[AblatedPart]:
    """One part per block, and one for each set of entries that share a run (`like`), if something else is left then."""
    runs: dict[str, list[str]] = {}
    inside = {name: entry for name, entry in recipe.blocks.items() if entry.profile}
    for name, entry in inside.items():
        runs.setdefault(digest([entry.kind, entry.settings(), entry.uses]), []).append(name)
    shared = [names for names in runs.values() if 1 < len(names) < len(inside)]
    return [AblatedPart(name, (name,)) for name in inside] + [
        AblatedPart("+".join(names), tuple(names)) for names in shared
    ]


def _part(recipe: Recipe, text: str) -> AblatedPart:
    """`block:pattern` as a part.

    Raises:
        KitError: no colon, or no such block.
    """
    name, colon, pattern = text.partition(":")
    if not colon or not pattern:
        raise KitError(f"The part {text!r} is not BLOCK:PATTERN.", "For example --part 'stats:recency_*'.")
    if name not in recipe.blocks:
        raise KitError(f"The part {text!r} names no block of {recipe.name};", nearest(name, recipe.blocks))
    return AblatedPart(text, (name,), pattern)


def _matches(columns: Sequence[str], pattern: str) -> NDArray[np.bool_]:
    return np.array([fnmatch.fnmatchcase(column, pattern) for column in columns], dtype=np.bool_)


def _no_match(part: AblatedPart, columns: Sequence[str]) -> KitError:
    groups = sorted({column.split("_")[0] + "_*" for column in columns})
    return KitError(
        f"No column of the block matches {part.label!r}.", f"Its columns look like {', '.join(groups[:20])}."
    )
