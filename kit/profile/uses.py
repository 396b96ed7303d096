"""Where a block finds the output of the entries that it uses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime

import numpy as np

from kit.arrays import digest_of
from kit.blocks.base import Block, BlockOutput, Others
from kit.history import History
from kit.store import Artefact


class Built(Others):
    """From the store: built at the history's own cut, also where that is a rewound one.

    Args:
        run: entry, history → its artefact.
    """

    def __init__(self, run: Callable[[str, History], Artefact]) -> None:
        self.run = run

    def of(self, name: str, history: History) -> BlockOutput:
        """See `Others`."""
        return read_output(self.run(name, history))


class Carried(Others):
    """From blocks that are fitted already, asked about a history of their own cut or a later one.

    Args:
        units: by entry; each may use those before it.
        cut: of their fit, and `earlier`, whom to ask about histories before it. None: nobody will ask.
    """

    def __init__(self, units: Mapping[str, Block], cut: datetime | None = None, earlier: Others | None = None) -> None:
        self.units, self.cut, self.earlier = units, cut, earlier
        self.last: dict[str, tuple[tuple[str, str], BlockOutput]] = {}

    def of(self, name: str, history: History) -> BlockOutput:
        """See `Others`; the last answer of each entry is remembered."""
        if self.earlier is not None and self.cut is not None and history.cut < self.cut:
            return self.earlier.of(name, history)
        asked = history.fingerprint, digest_of(history.clients)
        if name not in self.last or self.last[name][0] != asked:
            self.last[name] = asked, self.units[name].transform(history, history.clients)
        return self.last[name][1]


def read_output(artefact: Artefact) -> BlockOutput:
    """A block's output from its artefact, mapped."""
    values = np.load(artefact.folder / "values.npy", mmap_mode="r")
    return BlockOutput(values, tuple(json.loads((artefact.folder / "columns.json").read_text(encoding="utf-8"))))
