"""What the results say together: distance from the floor, the organisers' code at full size, the verdict on growth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from curves.results import Line, Result, Results
from curves.theirs import FULL, THEIRS, TITLES, lines

if TYPE_CHECKING:
    from curves.page import Row


FULL_STAGE: Final = {"slice-baseline": "baseline", "slice-stats": "features"}
"""Our code on the slices → the stage that does the same at every size."""


@dataclass(frozen=True)
class Floor:
    """The floor of the feature build at one size: seconds, and the tables behind it.

    Attributes:
        whole: decode everyone's rows once, group the relevant rows by client once.
        features: decode the prepared rows, group them.
        every_row: decode everyone's rows once, group all of them by client.
    """

    size: int
    rows: float
    relevant_rows: float
    file_mib: float
    decoded_mib: float
    whole: float
    features: float
    every_row: float
    tables: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Build:
    """The feature build at one size beside its floor.

    Attributes:
        events, features: seconds of both stages. `estimated`: whether one is extrapolated.
        over_whole: (events + features) ÷ floor; over_every_row: likewise, to the floor that groups all rows;
            over_features: the feature stage ÷ its own floor.
        anonymous_mib: the larger peak of the two.
        parts: seconds of families and shared intermediates.
    """

    size: int
    events: float
    features: float
    estimated: bool
    over_whole: float
    over_every_row: float
    over_features: float
    anonymous_mib: float | None
    parts: dict[str, float]


@dataclass(frozen=True)
class Code:
    """One code on the slices.

    Attributes:
        points: (clients, process seconds, CPU seconds, peak anonymous MiB or None).
        base, per_client: seconds of the fitted line. `residual`: largest distance of a point, as a share of it.
        full_seconds, full_mib: the lines at 1 M clients; None where fixed costs make up most of the largest slice, so that
            the line says little about more clients.
        measured_full: seconds of the same work of ours (tables + features) at 1 M clients, if measured there; else None.
    """

    name: str
    title: str
    points: list[tuple[int, float, float, float | None]]
    base: float
    per_client: float
    residual: float
    full_seconds: float | None
    full_mib: float | None
    measured_full: float | None


@dataclass(frozen=True)
class Codes:
    """All codes on the slices.

    Attributes:
        rows: one per code. `one_run`: whether all were measured in the same run. `source`: relevant clients of the shop they
            are cut from.
        ratios: our code → theirs ÷ ours at the largest slice.
        full_ratios: our code → their line at 1 M clients ÷ our measured seconds there.
        missing: code → why it is not in `rows`.
    """

    rows: list[Code]
    one_run: bool
    source: int
    ratios: dict[str, float]
    full_ratios: dict[str, float]
    missing: dict[str, str]


def floors(results: Results, sizes: Sequence[int]) -> list[Floor]:
    """The floors that were measured."""
    found = []
    for size in sorted(sizes):
        known = results.read(size, "floor")
        if known is not None and known.state == "measured":
            keys = set(Floor.__dataclass_fields__) - {"size"}
            found.append(Floor(size, **{key: known.details[key] for key in keys}))
    return found


def builds(results: Results, sizes: Sequence[int]) -> list[Build]:
    """The builds that have a time and a floor."""
    found = []
    for floor in floors(results, sizes):
        prepared, made = (results.read(floor.size, name) for name in ("events", "features"))
        if prepared is None or made is None or not (prepared.tells and made.tells):
            continue
        events, features = prepared.seconds or 0.0, made.seconds or 0.0
        peaks = [result.anonymous_mib for result in (prepared, made) if result.anonymous_mib]
        found.append(
            Build(
                floor.size, events, features, "extrapolated" in (prepared.state, made.state),
                (events + features) / floor.whole, (events + features) / floor.every_row, features / floor.features,
                max(peaks, default=None), dict(made.details.get("parts", {})),
            )
        )  # fmt: skip
    return found


def codes(results: Results, slices: Sequence[int], sizes: Sequence[int]) -> Codes | None:
    """Lines through the slices; None if none was measured."""
    found = lines(results, sorted(slices))
    known = [result for size in slices for name in TITLES if (result := results.read(size, name))]
    if not known:
        return None
    rows = [
        code(name, *fitted, full_of(results, sizes, FULL_STAGE[name]) if name in FULL_STAGE else None)
        for name, fitted in found.items()
    ]
    missing = {}
    for name in TITLES:
        if name not in found:
            notes = {result.note or result.state for result in known if result.stage == name}
            missing[TITLES[name]] = "; ".join(sorted(notes)) or "not measured"
    runs = {result.setting.get("run") for result in known}
    by_name = {row.name: row for row in rows}
    ratios, full_ratios = {}, {}
    if THEIRS in by_name:
        largest = by_name[THEIRS].points[-1]
        for row in rows:
            if row.name != THEIRS and row.points[-1][0] == largest[0]:
                ratios[row.name] = largest[1] / row.points[-1][1]
            if row.measured_full and (whole := by_name[THEIRS].full_seconds):
                full_ratios[row.name] = whole / row.measured_full
    return Codes(rows, len(runs) == 1, int(known[-1].setting.get("source", 0)), ratios, full_ratios, missing)


def code(name: str, seconds: Line, memory: Line | None, whole: list[Result], full: float | None) -> Code:
    """A row of `Codes`."""
    points = [(r.size, r.spent_seconds or 0.0, r.cpu_seconds or 0.0, r.anonymous_mib) for r in whole]
    return Code(
        name, TITLES[name], points, seconds.base, seconds.slope, seconds.residual, at_full(seconds, points[-1][0]),
        None if memory is None else at_full(memory, points[-1][0]), full,
    )  # fmt: skip


def at_full(line: Line, largest: int) -> float | None:
    """A line at 1 M clients, if at least half of its value at the largest slice is due to the clients."""
    return line.at(FULL) if line.slope * largest >= line.at(largest) / 2 else None


def full_of(results: Results, sizes: Sequence[int], stage: str) -> float | None:
    """Seconds of our tables and a stage that reads them at full size, if both were measured there."""
    if FULL not in sizes:
        return None
    both = [results.read(FULL, name) for name in ("events", stage)]
    if not all(result is not None and result.tells for result in both):
        return None
    return sum(result.seconds or 0.0 for result in both if result is not None)


def headline(rows: Sequence[Row], sizes: Sequence[int]) -> tuple[str, list[str]]:
    """The verdict on growth in a line, and sentences on what is steep, cut or missing."""
    told = [row for row in rows if row.verdict != "untold" and row.name != "floor"]
    steep = [row for row in told if row.verdict == "steep"]
    span = f"from {min(sizes):,} to {max(sizes):,} clients" if sizes else ""
    head = (
        f"{len(told) - len(steep)} of {len(told)} stages grow near-linearly {span}"
        if told
        else "Nothing to compare yet"
    )
    sentences = []
    unexplained = []
    for row in steep:
        worst = max((step for step in row.times if step.exponent is not None), key=lambda step: step.exponent or 0.0)
        growth = f"{row.title}: exponent {worst.exponent:.2f} between {worst.low:,} and {worst.high:,} clients"
        if row.why:
            sentences.append(f"{growth}. {row.why}")
        else:
            unexplained.append(growth)
    if unexplained:
        sentences.append(f"Steeper and not explained yet. {'; '.join(unexplained)}.")
    heavy = [row.title for row in rows if row.memory_steep]
    if heavy:
        sentences.append(f"Peak memory grows faster than near-linearly: {', '.join(heavy)}.")
    parts: dict[str, Any] = {"extrapolated": [], "cut": [], "failed": [], "skipped": []}
    for row in rows:
        for result in row.results:
            if result.state in parts and result.note != "the folder was given":
                parts[result.state].append(f"{row.title} at {result.size:,}")
    words = {
        "extrapolated": "Extrapolated, not run to the end (marked ≈)",
        "cut": "Stopped at the cap: lower bounds (marked >)",
        "failed": "Failed",
        "skipped": "Not measured",
    }
    sentences += [f"{words[state]}: {', '.join(names)}." for state, names in parts.items() if names]
    return head, sentences
