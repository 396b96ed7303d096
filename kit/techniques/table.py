"""The rows of `kit techniques`: name, source, recipe key, tests, status and measurement of every technique."""

from __future__ import annotations

import ast
import json
import tomllib
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel

from kit.techniques.catalogue import Technique
from kit.techniques.keys import dotted, recipe_keys
from kit.techniques.named import Home, homes

Status = Literal["works", "our variant", "in part", "untested", "absent", "context"]
"""Untested: there, and neither a marked test nor a planted world shows it."""
MEASURED: Final = Path("docs/measured/techniques.json")
"""What `kit techniques --data` found, in the repository."""
BENCH: Final = "tests/planted"


class TechniqueRow(BaseModel):
    """One technique.

    Attributes:
        key: what chooses it in a recipe, under `[blocks.NAME]`; empty where no recipe does.
        homes: modules that implement it.
        exact: tests of an identity that it must satisfy (U).
        signal: planted worlds in which its parts beat their ablated twins (S), with the least margin.
        note: how it differs from its source, or what it lacks.
        measured: entries of the measurements (R).
    """

    id: str
    name: str
    source: str
    tier: int
    status: Status
    key: str
    homes: list[str]
    exact: list[str]
    signal: list[str]
    note: str
    measured: list[dict[str, Any]]


def keys_of(technique: Technique) -> list[dict[str, Any]]:
    """Tables that choose it under `[blocks.NAME]`: of its parts, or the catalogue's own."""
    found = [keys for home in homes().get(technique.id, []) if home.registry and (keys := _keys(home))]
    return found or ([tomllib.loads(technique.key)] if technique.key else [])


def _keys(home: Home) -> dict[str, Any] | None:
    assert home.registry is not None
    return recipe_keys(home.registry, home.kind)


def row_of(technique: Technique, tests: Path | None = Path("tests"), measured: Path = MEASURED) -> TechniqueRow:
    """A row, from registries, docstrings, tests in a folder (None: not looked for) and the file of measurements."""
    found = homes().get(technique.id, [])
    notes = list(dict.fromkeys(home.variant for home in found if home.variant))
    exact = exact_tests(tests).get(technique.id, []) if tests else []
    signal = [
        f"{home.kind} in {claim.world}, ≥ {claim.margin:g}"
        for home in found
        for claim in {claim.world: claim for claim in home.claims}.values()
    ]
    return TechniqueRow(
        id=technique.id,
        name=technique.name,
        source=next((home.source for home in found if home.source), technique.source),
        tier=technique.tier,
        status=_status(technique, found, notes, tested=bool(exact or signal)),
        key="; ".join(dict.fromkeys(dotted(keys) for keys in keys_of(technique))),
        homes=sorted({home.module for home in found}),
        exact=exact,
        signal=signal,
        note="Lacks " + technique.lacks + "." if technique.lacks and found else " ".join(notes),
        measured=[entry for entry in _measurements(measured) if entry["id"] == technique.id],
    )


def _status(technique: Technique, found: list[Home], notes: Iterable[str], *, tested: bool) -> Status:
    if technique.context:
        return "context"
    if not found:
        return "absent"
    if technique.lacks:
        return "in part"
    if not tested:
        return "untested"
    return "our variant" if list(notes) else "works"


@cache
def exact_tests(folder: Path) -> dict[str, list[str]]:
    """Technique → tests that are marked `pytest.mark.technique("ID", …)`, or whole files by `pytestmark`; by file::name."""
    found: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("test_*.py")) if folder.is_dir() else ():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                where, marks = f"{file.as_posix()}::{node.name}", list(node.decorator_list)
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
                where, marks = file.as_posix(), list(ast.walk(node.value))  # type: ignore[arg-type]
            else:
                continue
            for each in _ids(marks):
                found.setdefault(each, []).append(where)
    return found


def _ids(marks: list[ast.expr]) -> list[str]:
    calls = [m for m in marks if isinstance(m, ast.Call) and ast.unparse(m.func) == "pytest.mark.technique"]
    return [str(a.value) for call in calls for a in call.args if isinstance(a, ast.Constant)]


@cache
def _measurements(path: Path) -> list[dict[str, Any]]:
    """Entries of the file; none where there is no file."""
    if not path.is_file():
        return []
    entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["entries"]
    return entries


def shown_measurement(entries: list[dict[str, Any]]) -> str:
    """In words: the sum's difference per folder and probe."""
    if not entries:
        return "not measured"
    return "; ".join(
        f"{entry['probe']} on {entry['data']} ({entry['clients']:,} clients): {gain['difference']:+.4f} "
        f"[{gain['low']:+.4f}, {gain['high']:+.4f}]"
        for entry in entries
        for gain in entry["gains"]
        if gain["task"] == "sum" and gain["measure"] == "score"
    )


def markdown(rows: list[TechniqueRow]) -> str:
    """The page."""
    counts = Counter(row.status for row in rows)
    head = (
        "# Techniques\n\nWritten by `kit techniques --write docs/techniques.md` from registries, docstrings, schemas, tests "
        "and measurements; do not edit.\n\n"
        f"{len(rows)} rows: {', '.join(f'{count} {status}' for status, count in counts.items())}. *Key* is what chooses it "
        "under `[blocks.NAME]`; *U*: how many tests show what must hold exactly; *S*: planted worlds in which a part beats "
        "itself with the mechanism switched off (`tests/planted`); *R*: difference in the sum of the scores to the same recipe "
        "without it, with its 95 % interval. A negative R is a finding, not a fault.\n\n"
        "| id | technique | source | status | key | U | S | R | note |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    return head + "".join(_line(row) for row in rows)


def _line(row: TechniqueRow) -> str:
    tests = f"{len(row.exact)}" if row.exact else "–"
    keys = "; ".join(f"`{key}`" for key in row.key.split("; ") if key)
    keys = keys or ", ".join(f"`{home}`" for home in row.homes)
    cells = [
        row.id, row.name, row.source, row.status, keys, tests, "; ".join(row.signal) or "–",
        shown_measurement(row.measured), row.note,
    ]  # fmt: skip
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"
