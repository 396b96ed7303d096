"""What artefacts say about themselves: fresh, stale or missing, and why.

Knows how artefact.json is written, and nothing of what any stage computes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from kit.store import Plan, Store, is_whole, read_record, versions

DIGEST = re.compile(r"[0-9a-f]{16,}(@.*)?")
SHOWN = 48
"""Characters of a setting's value that a reason shows."""
MANY = 6
"""Changed source files that a reason names one by one."""


class Freshness(StrEnum):
    """Whether a stage would be found, made again because something changed, or made for the first time."""

    FRESH = "fresh"
    STALE = "stale"
    MISSING = "missing"


@dataclass(frozen=True)
class Stage:
    """One line of `kit status`.

    Attributes:
        name: `events`, `block NAME`, `submission`.
        key: where it lies or would lie: `stage/fingerprint`, or the submission's folder.
        state: fresh, stale or missing.
        reasons: what changed, or what is odd about a fresh one.
        made: when; None unless fresh.
        seconds: how long that took.
        bytes: its size.
    """

    name: str
    key: str
    state: Freshness
    reasons: tuple[str, ...]
    made: str | None = None
    seconds: float | None = None
    bytes: int | None = None

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def stage_state(store: Store, plan: Plan, name: str, like: str | None, taken: Collection[str]) -> Stage:
    """Whether `plan` is in the store, and if not, what differs from what is there.

    Args:
        store: where to look.
        plan: what is wanted.
        name: for the line.
        like: key of the artefact that the present submission was made from: what to compare with first.
        taken: keys of artefacts that belong to other stages of the same recipe, no use to compare with.
    """
    folder = store.folder(plan)
    if is_whole(folder):
        record = read_record(folder)
        size = sum(record["files"].values())
        notes = upgrades(record.get("libraries", {}))
        return Stage(name, plan.key, Freshness.FRESH, notes, record["made"], record["seconds"], size)
    if folder.exists():
        return Stage(name, plan.key, Freshness.STALE, ("it was cut short or altered",))
    others = [
        (record, changes(record["inputs"], plan.inputs, record.get("sources", {}), plan.sources))
        for record in store.records(plan.stage)
        if record["key"] not in taken
    ]
    before = [found for record, found in others if record["key"] == like]
    if not others:
        return Stage(name, plan.key, Freshness.MISSING, ("it was never made",))
    nearest = before[0] if before else min(reversed([found for _, found in others]), key=len)
    return Stage(name, plan.key, Freshness.STALE, tuple(nearest))


def changes(
    before: Mapping[str, Any], now: Mapping[str, Any], files_before: Mapping[str, str], files_now: Mapping[str, str]
) -> list[str]:
    """What differs between two sets of inputs, a phrase each: changed settings with both values, data and source files."""
    old, new = flat(before), flat(json.loads(json.dumps(dict(now), default=str)))
    phrases = []
    for key in sorted({*old, *new}, key=lambda key: (key == "code", key)):
        if old.get(key) == new.get(key):
            continue
        if key == "code":
            phrases.append(f"code: {_edited(files_before, files_now)}")
        elif key not in old or key not in new:
            phrases.append(f"{key}: {'new' if key in new else 'gone'}")
        elif key == "history":
            phrases.append("history: its events, named above")
        elif DIGEST.fullmatch(str(old[key])) and DIGEST.fullmatch(str(new[key])):
            phrases.append(f"{key}: other bytes")
        else:
            phrases.append(f"{key}: {_short(old[key])} → {_short(new[key])}")
    return phrases


def upgrades(before: Mapping[str, str]) -> tuple[str, ...]:
    """Libraries that changed since: no reason to make it again, but bytes may come out different."""
    here = versions()
    return tuple(
        f"made with {name} {version}, here {here[name]}"
        for name, version in before.items()
        if here.get(name, version) != version
    )


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings with dotted keys; lists stay values."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        name = f"{prefix}{key}"
        found |= flat(inner, f"{name}.") if isinstance(inner, dict) and inner else {name: inner}
    return found


def _edited(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    if not before:
        return "changed"
    words = {True: "edited", False: "new"}
    names = [f"{name} {words[name in before]}" for name in sorted(now) if before.get(name) != now[name]]
    names += [f"{name} gone" for name in sorted(before) if name not in now]
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return ", ".join(names[:MANY]) + more if names else "changed"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
