"""Whose vectors are asked for: the relevant clients of the folder's list, or everybody with an event before the cut.

A list that came with the folder, as the organisers' does, is the contract: vectors are made for exactly its clients. A list that
`kit data split` made names who has an event before the target windows; with `--cut end` there are others, whose first event lies
in the windows, and they can be asked for too.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.arrays import read_array
from kit.challenge import EventType
from kit.data.layout import DataFolder
from kit.data.scan import ids_of, reading, scan_events
from kit.errors import KitError
from kit.fingerprint import code_of
from kit.store import Plan, Store

Clients = Literal["relevant", "all"]


def parse_clients(word: str) -> Clients:
    """The word as a type; KitError if it is another one."""
    if word == "relevant":
        return "relevant"
    if word == "all":
        return "all"
    raise KitError(
        f"The clients {word!r} are unknown.", "Use `relevant` (the folder's list) or `all` (with --cut end)."
    )


def brings_list(folder: DataFolder) -> bool:
    """Whether the list of relevant clients came with the folder, rather than from our split."""
    path = folder.relevant_clients
    return path.exists() and f"input/{path.name}" not in folder.made()


def known_clients(files: dict[EventType, Path], cut: datetime, store: Store) -> NDArray[np.int64]:
    """Everybody with an event before the cut, sorted, int64 (n,); found once per content of the files and cut."""
    there = {kind: path for kind, path in files.items() if path.exists()}
    code = code_of(known_clients)
    inputs = {
        "events": store.files_digest(there.values()),
        "cut": cut.isoformat(),
        "code": code.digest,
    }

    def find(out: Path) -> None:
        found = []
        for kind, path in there.items():
            with reading(path):
                before = scan_events(path, kind, parse_codes=False).filter(pl.col("timestamp") < cut)
                found.append(before.select(pl.col("client_id").unique()).collect(engine="streaming"))
        ids = pl.concat(found)["client_id"].unique().sort() if found else pl.Series("client_id", [], dtype=pl.Int64)
        np.save(out / "clients.npy", ids_of(ids))

    artefact = store.make(Plan("clients", inputs, code.files), find)
    ids: NDArray[np.int64] = read_array(artefact.folder / "clients.npy", mapped=False)
    return ids


def require_choice(folder: DataFolder, which: Clients, cut: object) -> None:
    """KitError where all clients cannot be asked for: with the local cut, or where the folder brings its list."""
    if which == "relevant":
        return
    if cut == "input":
        raise KitError(
            "--clients all asks for vectors of clients whom the local tasks do not know.",
            "Use it with --cut end, or leave it out.",
        )
    if brings_list(folder):
        raise KitError(
            f"{folder.relevant_clients} came with this folder: a submission holds exactly its clients.",
            "Leave out --clients all.",
        )


def left_out(folder: DataFolder, files: dict[EventType, Path], cut: datetime, store: Store) -> str | None:
    """In words, how many clients have an event before the cut and get no vector; None if there are none.

    Nothing is said where the list came with the folder: it names whom the organisers ask for.
    """
    if brings_list(folder):
        return None
    known = known_clients(files, cut, store)
    without = len(known) - int(np.isin(known, folder.clients()).sum())
    if not without:
        return None
    return (
        f"{without:,} of {len(known):,} clients with an event before {cut} get no vector: their first event lies in the target "
        f"windows, so {folder.relevant_clients.name} does not name them. `--clients all` takes them in."
    )
