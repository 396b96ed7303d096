"""Which data a thing was made from: digests of a folder's files, so that a path can be told from what lay there.

A submission's manifest holds them beside the path. Whoever follows the path later asks `require_origin`: the folder may have
been split again, filled anew, or another one may lie there now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from kit.data.layout import DataFolder
from kit.data.own_ids import id_file
from kit.data.prepare import EventsPlan
from kit.errors import KitError
from kit.store import Store

FILES: Final = "files"
"""Key of the digests in a manifest's `data`."""
SHOWN: Final = 4


def origin_of(plan: EventsPlan, folder: DataFolder, store: Store) -> dict[str, str]:
    """Path in the data folder → digest, of the files that a submission is made from: events, catalogue, clients, target lists and
    the list of the shop's own ids. Those that the plan was fingerprinted by are not read again."""
    groups: list[Any] = [
        plan.stage.inputs[group] for group in ("events", "products", "clients")
    ]  # all clients: no file
    read: dict[str, str] = {
        name: digest for group in groups if isinstance(group, dict) for name, digest in group.items()
    }
    planned = [*plan.files.values(), plan.products, folder.relevant_clients]
    found = {_name(path, folder): read[path.name] for path in planned if path.name in read}
    others = [path for path in (*plan.targets.values(), id_file(folder.root)) if path.exists()]
    return dict(sorted((found | {_name(path, folder): store.file_digest(path) for path in others}).items()))


def changed(
    folder: DataFolder, origin: Mapping[str, str], store: Store, names: Iterable[str] | None = None
) -> list[str]:
    """Names of files that are others now, or gone; of `names` (any that the origin has if None) also those that are new."""
    wanted = origin if names is None else names
    return [name for name in wanted if _digest(folder.root / name, store) != origin.get(name)]


def require_origin(
    submission: Path,
    data: Mapping[str, Any],
    folder: DataFolder,
    store: Store | None = None,
    names: Iterable[str] | None = None,
) -> None:
    """Refuse a data folder that is not the one that a submission was made from.

    Args:
        submission: its folder, for the message.
        data: the manifest's entry `data`. One that an older version wrote has no digests: nothing is refused then.
        folder: what lies at the manifest's path now, or what somebody gave instead.
        store: remembers digests.
        names: the files that matter; all that the manifest lists if None.

    Raises:
        KitError: files are others now; both folders are named.
    """
    origin = data.get(FILES)
    if not origin:
        return
    found = changed(folder, origin, store or Store(), names)
    if found:
        raise KitError(
            f"{submission} was made from {data.get('folder')} as it was then (history {data.get('history')}); {folder.root} "
            f"holds other data now: {listed(found)}.",
            "Give the folder that it was made from with --data, or build the submission again.",
        )


def listed(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _name(path: Path, folder: DataFolder) -> str:
    return path.relative_to(folder.root).as_posix()


def _digest(path: Path, store: Store) -> str | None:
    return store.file_digest(path) if path.is_file() else None
