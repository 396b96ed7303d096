"""Lineage: what a submission or an artefact was made from, walking back to the data files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kit.content import bytes_digest
from kit.errors import KitError
from kit.store import Store, read_record
from kit.submission.manifest import read_manifest

ALTERED: Final = " (NOT what is there now)"
"""Said of a file whose bytes are not those that were recorded."""


@dataclass
class Origin:
    """One thing and what it was made from.

    Attributes:
        what: `submission submissions/x`, `block-als/…`, `events/…`.
        facts: label → text, in the order to print.
        parents: what it was made from.
    """

    what: str
    facts: dict[str, str]
    parents: list[Origin] = field(default_factory=list)

    @property
    def altered(self) -> bool:
        """Whether a file of it, or of what it was made from, is not what was recorded; known where files were read again."""
        mine = any(text.endswith(ALTERED) for text in self.facts.values())
        return mine or any(parent.altered for parent in self.parents)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"what": self.what, "facts": self.facts, "parents": [parent.as_json() for parent in self.parents]}


def explain(target: str, store: Store | None = None, verify: bool = False) -> Origin:
    """The lineage of a submission (its folder or a file in it) or of an artefact (folder, file or fingerprint).

    Args:
        target: a path, `stage/fingerprint`, or the first letters of a fingerprint.
        store: the default store if None.
        verify: read all files again and say whether their bytes are the recorded ones.

    Raises:
        KitError: `target` is neither, or the letters fit several artefacts.
    """
    store = store or Store()
    path = Path(target)
    for place in (path, path.parent) if path.exists() else ():
        if (place / "manifest.json").exists():
            return _submission(place, store, verify)
    for place in (path, *path.parents) if path.exists() else ():
        if (place / "DONE").exists() and (place / "artefact.json").exists():
            return _artefact(read_record(place), Store(place.parent.parent), verify)
    records = store.records()
    fits = [r for r in records if target in (r["key"], r["fingerprint"]) or _begins(r["fingerprint"], target)]
    if len(fits) == 1:
        return _artefact(fits[0], store, verify)
    if fits:
        raise KitError(
            f"{target!r} fits {len(fits)} artefacts.", "Give more letters: " + ", ".join(r["key"] for r in fits)
        )
    raise KitError(
        f"{target!r} is neither a submission nor an artefact of the store {store.root}.",
        "Give submissions/NAME, a file in it, or a fingerprint: `kit status` lists them.",
    )


def _begins(fingerprint: str, target: str) -> bool:
    return len(target) >= 4 and fingerprint.startswith(target)


def _submission(folder: Path, store: Store, verify: bool) -> Origin:
    manifest = read_manifest(folder)
    data = manifest.get("data", {})
    facts = {
        "recipe": f"{manifest.get('name')} (seed {manifest.get('seed')}, {len(manifest['recipe']['blocks'])} blocks)",
        "size": f"{manifest.get('clients'):,} clients × {manifest.get('width')} columns",
        "made": f"{manifest.get('made')} in {manifest.get('seconds')} s, {manifest.get('peak_memory_mib')} MiB at most",
        "by": f"kit {manifest.get('kit')}, Python {manifest.get('python')}, {_pairs(manifest.get('libraries', {}))}",
        "on": str(manifest.get("platform")),
        "fingerprint": str(manifest.get("fingerprint")),
        "data": f"{data.get('folder')}, events before {data.get('cut')}",
        "code": _code(manifest.get("sources", {})),
    }
    facts |= _content(folder, manifest.get("content", {}), verify)
    made_of = manifest.get("artefacts", {"blocks": {}})
    parents = [_found(key, store, verify, f"block {name}: ") for name, key in made_of["blocks"].items()]
    return Origin(f"submission {folder}", facts, parents)


def _artefact(record: Mapping[str, Any], store: Store, verify: bool, prefix: str = "") -> Origin:
    inputs = dict(record["inputs"])
    files = {name: inputs.pop(name, {}) for name in ("events", "products", "clients")}
    settings = inputs.pop("settings", {}) | {
        key: value for key, value in inputs.items() if key not in ("code", "history", "kind", "layout")
    }
    facts = {
        "made": f"{record['made']} in {record['seconds']} s",
        "with": _pairs(settings, ", "),
        "data": str(record.get("notes", {}).get("data", "")),
        "history": str(inputs.get("history", "")),
        "code": _code(record.get("sources", {})),
    }
    facts |= {
        f"read {name}": digest for group in files.values() if isinstance(group, dict) for name, digest in group.items()
    }
    facts |= _content(Path(record["folder"]), record.get("content", {}), verify)
    parents = [_found(key, store, verify) for key in record.get("parents", []) if key]
    return Origin(prefix + record["key"], {key: text for key, text in facts.items() if text}, parents)


def _found(key: str, store: Store, verify: bool, prefix: str = "") -> Origin:
    folder = store.root / key
    if (folder / "artefact.json").exists():
        return _artefact(read_record(folder), store, verify, prefix)
    return Origin(prefix + key, {"state": f"no longer in {store.root}; the same recipe, data and code make it again"})


def _content(folder: Path, recorded: Mapping[str, str], verify: bool) -> dict[str, str]:
    """`wrote FILE` → its digest and, if asked for, whether the file still has it."""
    facts = {}
    for name, before in recorded.items():
        facts[f"wrote {name}"] = before
        if verify:
            path = folder / name
            same = path.exists() and bytes_digest(path) == before
            facts[f"wrote {name}"] += " (as recorded)" if same else ALTERED
    return facts


def _code(sources: Mapping[str, str]) -> str:
    rooms: dict[str, int] = {}
    for name in sources:
        room = name.rpartition("/")[0] + "/" if name.count("/") > 1 else name
        rooms[room] = rooms.get(room, 0) + 1
    return ", ".join(f"{room} ({count})" if count > 1 else room for room, count in rooms.items())


def _pairs(values: Mapping[str, Any], between: str = " ") -> str:
    return between.join(f"{key} {value}" for key, value in values.items())
