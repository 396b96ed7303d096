"""What a calibration study found: report.json for programs and report.md for readers, from the scores gathered so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from kit.challenge import PROBE_SEED
from kit.store import write_atomically, write_json
from kit.studies.calibration.agreement import agree, limit, seed_noise, tau
from kit.tasks import CHALLENGE, Task

OFFICIAL: Final = "official"
AGAIN: Final = f"{OFFICIAL}-{PROBE_SEED + 1}"
"""The official probe from the seed after its own, rows in another order: what its ranking is worth."""


@dataclass
class CalibrationStudy:
    """Scores as they come in.

    Attributes:
        out: folder of the report.
        data: data folder; `targets`: digest of its target files.
        sources: submissions that the profiles were made from.
        precision: of the official probe.
        minutes: time limit, if any.
        cells: (probe, task) → profile → what calibrate stored.
        profiles: profile → description and width.
        undefined: task → why this data cannot define it.
        complete: whether all that was planned is there.
    """

    out: Path
    data: str
    sources: list[str]
    precision: str
    minutes: float | None
    cells: dict[tuple[str, Task], dict[str, dict[str, Any]]] = field(default_factory=dict)
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    undefined: dict[Task, str] = field(default_factory=dict)
    complete: bool = True
    targets: str = ""

    def add(self, profile: str, about: str, width: int, probe: str, task: Task, cell: dict[str, Any]) -> None:
        """Take in one score."""
        self.profiles[profile] = {"about": about, "width": width}
        self.cells.setdefault((probe, task), {})[profile] = cell

    def scores(self, probe: str, task: Task) -> dict[str, float]:
        """profile → score."""
        return {name: float(cell["score"]) for name, cell in self.cells.get((probe, task), {}).items()}

    def seconds(self, probe: str, task: Task) -> dict[str, float]:
        """profile → seconds."""
        return {name: float(cell["seconds"]) for name, cell in self.cells.get((probe, task), {}).items()}


def write_report(study: CalibrationStudy, stand_ins: dict[str, str]) -> dict[str, Any]:
    """Write report.json and report.md; returns the former. `stand_ins` is name → description."""
    tasks = [task for task in CHALLENGE if (OFFICIAL, task) in study.cells]
    content = {
        "data": study.data,
        "targets": study.targets,
        "sources": study.sources,
        "precision": study.precision,
        "complete": study.complete,
        "profiles": study.profiles,
        "undefined": {task.name: reason for task, reason in study.undefined.items()},
        "tasks": {task.name: _task(study, task, stand_ins) for task in tasks},
        "stand_ins": {name: {"description": about, **_cost(study, name)} for name, about in stand_ins.items()},
    }
    write_json(study.out / "report.json", content)
    text = "\n".join(_markdown(content)) + "\n"
    write_atomically(study.out / "report.md", lambda path: path.write_text(text, encoding="utf-8"))
    return content


def _task(study: CalibrationStudy, task: Task, stand_ins: dict[str, str]) -> dict[str, Any]:
    official, again = study.scores(OFFICIAL, task), study.scores(AGAIN, task)
    twice = [name for name in official if name in again]
    noise = seed_noise([(official[name], again[name]) for name in twice])
    values = np.array(list(official.values()))
    pairs = np.array([[official[name], again[name]] for name in twice]).reshape(-1, 2)
    return {
        "official": official,
        "seed_noise": {
            "profiles": len(twice),
            "standard_deviation": noise,
            "tau_of_two_seeds": tau(pairs[:, 0], pairs[:, 1]),
            "limit": None if noise is None else limit(values, noise),
        },
        "stand_ins": {
            name: {**agree(official, scores, noise).as_json(), "scores": scores}
            for name in stand_ins
            if (scores := study.scores(name, task))
        },
    }


def _cost(study: CalibrationStudy, name: str) -> dict[str, float | None]:
    """Median seconds per profile and task, and median of how many times cheaper than the official probe on the same cell.

    Medians, because the first use of a library takes its time once and other work on the machine some of the time.
    """
    pairs = [
        (seconds, official[profile])
        for task in CHALLENGE
        for official in [study.seconds(OFFICIAL, task)]
        for profile, seconds in study.seconds(name, task).items()
        if profile in official and seconds > 0
    ]
    if not pairs:
        return {"seconds": None, "times_cheaper": None}
    own, theirs = np.array(pairs).T
    return {"seconds": float(np.median(own)), "times_cheaper": float(np.median(theirs / own))}


def _markdown(content: dict[str, Any]) -> list[str]:
    tasks = content["tasks"]
    short = [name.removeprefix("propensity_") for name in tasks]
    count = len(content["profiles"])
    lines = [
        "# Which stand-in ranks profiles as the official probe does",
        "",
        f"{count} profile{'' if count == 1 else 's'} from {', '.join(content['sources'])} on {content['data']}; the official "
        f"probe in {content['precision']}. Kendall's τ ± its standard error over profiles.",
        *([] if content["complete"] else ["", "The study is not complete: the same command goes on."]),
        *(f"\n{reason}." for reason in content["undefined"].values()),
        "",
        f"| stand-in | {' | '.join(short)} | seconds per task | times cheaper |",
        "|---|" + "---|" * (len(short) + 2),
    ]
    for name, part in content["stand_ins"].items():
        found = [tasks[task]["stand_ins"].get(name, {}) for task in tasks]
        cells = [_with_error(one.get("tau"), one.get("tau_error")) for one in found]
        lines.append(
            f"| {name} | {' | '.join(cells)} | {_number(part['seconds'])} | {_number(part['times_cheaper'], 0)} |"
        )
    noise = [tasks[task]["seed_noise"] for task in tasks]
    for title, key, digits in (
        ("*two starts and row orders of the official probe*", "tau_of_two_seeds", 2),
        ("*limit that its noise sets*", "limit", 2),
        ("*standard deviation over starts and orders*", "standard_deviation", 4),
        ("*profiles that were scored twice for this*", "profiles", 0),
    ):
        lines.append(f"| {title} | {' | '.join(_number(one[key], digits) for one in noise)} | | |")
    lines += [
        "",
        "Share of the pairs ordered alike that the official probe tells apart beyond the noise of its start and order:",
        "",
    ]
    lines += [f"| stand-in | {' | '.join(short)} |", "|---|" + "---|" * len(short)]
    for name in content["stand_ins"]:
        found = [tasks[task]["stand_ins"].get(name, {}) for task in tasks]
        cells = [f"{_number(one.get('decided'))} of {one.get('decided_pairs', 0)}" for one in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines + _details(content, short)


def _details(content: dict[str, Any], short: list[str]) -> list[str]:
    tasks = content["tasks"]
    lines = ["", "What they are:", ""]
    lines += [f"- `{name}`: {part['description']}" for name, part in content["stand_ins"].items()]
    apart = [
        f"- {name}, {label}: " + ", ".join(f"{who} {theirs} → {own}" for who, theirs, own in worst)
        for name in content["stand_ins"]
        for task, label in zip(tasks, short, strict=True)
        if (worst := tasks[task]["stand_ins"].get(name, {}).get("worst", []))
    ]
    lines += ["", "Ranked most differently (official rank → own rank):", "", *apart] if apart else []
    lines += ["", "The official probe's scores:", ""]
    lines += [f"| profile | columns | {' | '.join(short)} | what it is |", "|---|---|" + "---|" * (len(short) + 1)]
    for name, profile in content["profiles"].items():
        cells = [_number(tasks[task]["official"].get(name), 4) for task in tasks]
        lines.append(f"| {name} | {profile['width']} | {' | '.join(cells)} | {profile['about']} |")
    return lines


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _with_error(value: float | None, error: float | None) -> str:
    return _number(value) if error is None else f"{_number(value)} ± {_number(error)}"
