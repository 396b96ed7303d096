"""scores.json as it may lie there after years, a copy cut short or a hand in it: what is not as it was written is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from kit.errors import KitError

REMEDY: Final = "Delete it and score again."
TEXTS: Final = ("submission", "data", "probe", "precision", "fingerprint", "vectors", "targets", "code")
NUMBERS: Final = (
    "score", "auroc", "novelty", "diversity", "auroc_defined", "labels_without_positives", "seconds", "mean", "standard_error",
)  # fmt: skip


class Kept(dict[str, Any]):
    """A JSON object of a file; a key that is not there is named with the file."""

    def __init__(self, content: dict[str, Any], path: Path) -> None:
        super().__init__(content)
        self.path = path

    def __missing__(self, key: str) -> Any:  # noqa: ANN401 - a dictionary's
        raise KitError(f"{self.path} is no scores file: it lacks {key!r}.", REMEDY)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self), self.path)


def understood(content: object, path: Path) -> dict[str, Any]:
    """{probe: report} of scores.json, each report and each task's entry a `Kept`.

    Raises:
        KitError: a value is of another kind than `kit score` writes; the key is named.
    """
    reports = _object(content, path, "it")
    return {probe: _report(_object(report, path, probe), path, probe) for probe, report in reports.items()}


def _report(report: dict[str, Any], path: Path, probe: str) -> Kept:
    for key in TEXTS:
        _require(isinstance(report.get(key, ""), str), path, f"{probe}.{key}", report.get(key))
    _require(_is_number(report.get("seeds", 1)), path, f"{probe}.seeds", report.get("seeds"))
    _require(_is_number(report.get("sum", 0)), path, f"{probe}.sum", report.get("sum"))
    notes = report.get("notes", [])
    _require(isinstance(notes, list) and all(isinstance(note, str) for note in notes), path, f"{probe}.notes", notes)
    tasks = _object(report.get("tasks", {}), path, f"{probe}.tasks")
    whole = {name: _entry(_object(entry, path, f"{probe}.tasks.{name}"), path, name) for name, entry in tasks.items()}
    return Kept(report | {"tasks": whole} if "tasks" in report else report, path)


def _entry(entry: dict[str, Any], path: Path, name: str) -> Kept:
    for key in NUMBERS:
        value = entry.get(key)
        _require(value is None or _is_number(value), path, f"{name}.{key}", value)
    epochs = entry.get("epochs") or []  # an undefined task has nulls
    _require(isinstance(epochs, list) and all(map(_is_number, epochs)), path, f"{name}.epochs", epochs)
    runs = _object(entry.get("per_seed") or {}, path, f"{name}.per_seed")
    _require(all(seed.isdigit() and _is_number(value) for seed, value in runs.items()), path, f"{name}.per_seed", runs)
    _object(entry.get("slices") or {}, path, f"{name}.slices")
    return Kept(entry, path)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _object(value: object, path: Path, name: str) -> dict[str, Any]:
    _require(isinstance(value, dict), path, name, value)
    assert isinstance(value, dict), "required"
    return value


def _require(holds: bool, path: Path, name: str, value: object) -> None:
    if not holds:
        shown = repr(value)
        raise KitError(f"{path} is no scores file: {name} is {shown[:60]}{'…' if len(shown) > 60 else ''}.", REMEDY)
