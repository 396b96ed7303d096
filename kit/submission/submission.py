"""A submission as one object: opened once, and passed on to whoever validates, scores, studies or shows it.

What it holds is read when it is first asked for, proven sound, and kept: the vectors stay mapped. Its scores change while it is
open; `kit.scoring.results` reads them each time.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.contract import Contents, Statistics, examine, require_none, vectors_digest
from kit.data.origin import FILES
from kit.errors import KitError
from kit.plugins import use_plugins_of
from kit.submission.manifest import as_built, describes, read_manifest

Vectors = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Submission:
    """A folder with client_ids.npy and embeddings.npy, and what lies beside them.

    Attributes:
        folder: where it lies.
    """

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> Submission:
        """The submission in a folder, with the plugins that it was made with; its vectors are not read yet.

        Raises:
            KitError: there is no such folder (the one of that name under submissions/ is suggested), or a plugin is missing.
        """
        if not folder.is_dir():
            beside = Path("submissions") / folder
            hint = f"Did you mean {beside}?" if beside.is_dir() else "Build one with `kit submit RECIPE --data DIR`."
            raise KitError(f"There is no submission {str(folder)!r}.", hint)
        use_plugins_of(folder)
        return cls(folder)

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.resolve().name

    @cached_property
    def contents(self) -> Contents:
        """Ids, vectors and their statistics as far as they can be read, with all that the evaluator refuses about them."""
        return examine(self.folder)

    @cached_property
    def _sound(self) -> tuple[NDArray[np.int64], Vectors, Statistics]:
        found = self.contents
        require_none(found.errors, self.folder)
        assert found.ids is not None and found.vectors is not None and found.statistics is not None, "without errors"
        return found.ids, found.vectors, found.statistics

    @property
    def ids(self) -> NDArray[np.int64]:
        """(n,) distinct ids of the clients.

        Raises:
            KitError: `kit validate` calls something about ids or vectors an error: the same words. So do the next three.
        """
        return self._sound[0]

    @property
    def vectors(self) -> Vectors:
        """(n, d) float16, mapped, finite; row i belongs to ids[i]."""
        return self._sound[1]

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return self._sound[2].largest

    @cached_property
    def scales(self) -> NDArray[np.float64]:
        """(d,) root mean square of each column."""
        return np.sqrt(self._sound[2].power)

    @cached_property
    def digest(self) -> str:
        """Of ids and vectors when this was first asked."""
        return vectors_digest(self.folder)

    @property
    def is_unchanged(self) -> bool:
        """Whether the files still hold what `digest` is of."""
        return vectors_digest(self.folder) == self.digest

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """manifest.json.

        Raises:
            KitError: it is missing, unreadable, or another program's.
        """
        return read_manifest(self.folder)

    @cached_property
    def is_as_built(self) -> bool:
        """Whether ids and vectors are those that the manifest was written for. Raises as `manifest`."""
        return as_built(self.folder, self.manifest)

    @cached_property
    def origin(self) -> dict[str, str]:
        """File of the data folder → digest when the submission was made from it; empty where nothing says."""
        try:
            return dict(self.manifest["data"][FILES])
        except (KitError, KeyError, TypeError, ValueError):
            return {}

    @cached_property
    def blocks(self) -> dict[str, slice]:
        """Block → its columns, by the manifest; empty without one.

        Raises:
            KitError: the manifest does not say.
        """
        path = self.folder / "manifest.json"
        if not path.exists():
            return {}
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))["blocks"]
            return {str(row["name"]): slice(int(row["start"]), int(row["stop"])) for row in rows}
        except (ValueError, KeyError, TypeError) as error:
            raise KitError(f"{path} names no blocks ({error!r}).", "Build the submission again.") from error

    def columns_by_block(self, width: int) -> dict[str, list[str]] | None:
        """Block → names of its columns, `width` of them; None where there are no names, or those of other vectors.

        Raises:
            KitError: columns.json is damaged.
        """
        path = self.folder / "columns.json"
        if not path.exists() or not describes(self.folder):
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8")).items()
            named = {str(name): list(columns) for name, columns in found}
        except (ValueError, AttributeError, TypeError) as error:
            raise KitError(f"{path} names no columns ({error!r}).", "Build the submission again.") from error
        return named if sum(map(len, named.values())) == width else None

    def columns(self, width: int) -> tuple[list[str], dict[str, slice]]:
        """Names of all `width` columns, and block → its columns; numbered columns of one block "all" where there are no names.

        A name that several blocks use, such as a principal component's, is given as "block.column".
        """
        blocks = self.columns_by_block(width) or {"all": [f"column_{i}" for i in range(width)]}
        ends = np.cumsum([0, *map(len, blocks.values())]).tolist()
        slices = {name: slice(start, stop) for name, start, stop in zip(blocks, ends[:-1], ends[1:], strict=True)}
        times = Counter(column for columns in blocks.values() for column in columns)
        both = [(name, column) for name, columns in blocks.items() for column in columns]
        return [str(column) if times[column] == 1 else f"{name}.{column}" for name, column in both], slices
