"""Parts of a long block that outlive a killed run: each is a file in the block's scratch folder, which goes with the last run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from kit.arrays import read_array, save_arrays
from kit.blocks.base import BlockOutput
from kit.store import write_json


def kept(folder: Path | None, name: str, make: Callable[[], BlockOutput]) -> BlockOutput:
    """What `make` returns, or what it returned in a run that was killed afterwards.

    Args:
        folder: the block's scratch folder, its own by settings, data and code; None keeps nothing.
        name: of the part; whatever else decides its numbers (weights, a range of clients) must be in it.
        make: called if the part is not there.

    Returns:
        Numbers that may be mapped from the file, read-only.
    """
    if folder is None:
        return make()
    values, columns = folder / f"{name}.npy", folder / f"{name}.json"
    if not values.exists():
        output = make()
        folder.mkdir(parents=True, exist_ok=True)
        write_json(columns, output.columns)
        save_arrays(folder, {name: output.values})  # last: it says that the part is whole
    return BlockOutput(read_array(values), tuple(json.loads(columns.read_text(encoding="utf-8"))))
