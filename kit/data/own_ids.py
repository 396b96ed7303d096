"""The shop's own client ids, where `kit data convert` had to number them: what a person types and wants to read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from kit.errors import KitError


def id_file(data: Path) -> Path:
    """Where a converted folder keeps its clients: id i64, own str. Absent where ids were numbers already."""
    return data / "ids" / "client_id.parquet"


def _listed(data: Path | None) -> Path | None:
    """The list of a data folder, where there is one."""
    return id_file(data) if data is not None and id_file(data).exists() else None


def clients_called(given: Sequence[str], data: Path | None) -> list[int]:
    """Ids as the kit has them.

    Args:
        given: what was typed: the shop's own ids where the data folder has a list of them, else numbers.
        data: the data folder; None if it is not known.

    Raises:
        KitError: no such client, or no number where there is no list.
    """
    path = _listed(data)
    if path is None:
        wrong = next((text for text in given if not text.strip().lstrip("-").isdecimal()), None)
        if wrong is not None:
            raise KitError(
                f"{wrong!r} is no client's id.", "Ids are whole numbers here: take them from client_ids.npy."
            )
        return [int(text) for text in given]
    found = dict(pl.scan_parquet(path).filter(pl.col("own").is_in(list(given))).select("own", "id").collect().rows())
    missing = [text for text in given if text not in found]
    if missing:
        raise KitError(f"There is no client {missing[0]!r}.", f"The shop's own ids are the column `own` of {path}.")
    return [int(found[text]) for text in given]


def own_names(clients: Iterable[int], data: Path | None) -> dict[int, str]:
    """Id → the shop's own id; empty where the folder has no list."""
    path = _listed(data)
    if path is None:
        return {}
    wanted = pl.Series("id", list(clients), dtype=pl.Int64)
    frame = pl.scan_parquet(path).join(wanted.to_frame().lazy(), on="id", how="semi")
    return dict(frame.select("id", "own").collect().rows())
