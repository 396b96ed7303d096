"""The report: one HTML file without scripts or anything from the network, and the same as JSON."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from curves.charts import Point, loglog
from curves.findings import Build, Codes, Floor, builds, codes, floors, headline
from curves.results import NEAR_LINEAR, Result, Results, Step, steps
from curves.stages import STAGES
from kit.report import figures, svg
from kit.report.words import number

HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """One stage in the report, by ascending size.

    Attributes:
        times: growth of time, of CPU time if `by_cpu`: where other work disturbed a measurement.
        why: the explanation of a steep growth, from explanations.toml; "" if there is none.
    """

    name: str
    title: str
    what: str
    results: list[Result]
    times: list[Step]
    memory: list[Step]
    why: str
    by_cpu: bool = False

    @property
    def verdict(self) -> str:
        """near-linear, steep, or untold where no two times can be compared."""
        if any(step.steep for step in self.times):
            return "steep"
        return "near-linear" if any(step.exponent is not None for step in self.times) else "untold"

    @property
    def memory_steep(self) -> bool:
        """Whether peak memory grows faster than near-linear somewhere."""
        return any(step.steep for step in self.memory)

    def at(self, size: int) -> Result | None:
        """The result at a size."""
        return next((result for result in self.results if result.size == size), None)

    def step_to(self, size: int) -> Step | None:
        """Growth of time up to a size."""
        return next((step for step in self.times if step.high == size), None)


@dataclass(frozen=True)
class Report:
    """Everything the page shows."""

    sizes: list[int]
    rows: list[Row]
    floors: list[Floor]
    builds: list[Build]
    codes: Codes | None
    settings: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """For programs: names as in the code."""
        stages = {
            row.name: {
                "title": row.title,
                "verdict": row.verdict,
                "memory_verdict": "steep" if row.memory_steep else "near-linear",
                "why": row.why,
                "by_cpu_time": row.by_cpu,
                "exponents": [asdict(step) for step in row.times],
                "memory_exponents": [asdict(step) for step in row.memory],
                "results": [asdict(result) | {"per_client_us": result.per_client} for result in row.results],
            }
            for row in self.rows
        }
        head, sentences = headline(self.rows, self.sizes)
        return {
            "sizes": self.sizes,
            "near_linear": NEAR_LINEAR,
            "headline": head,
            "sentences": sentences,
            "stages": stages,
            "floor": [asdict(floor) for floor in self.floors],
            "builds": [asdict(build) for build in self.builds],
            "organisers": None if self.codes is None else asdict(self.codes),
        }


def collect(results: Results, sizes: Sequence[int], slices: Sequence[int]) -> Report:
    """What the results of these sizes and slices amount to."""
    why = tomllib.loads((HERE / "explanations.toml").read_text(encoding="utf-8"))
    rows = []
    for name, stage in STAGES.items():
        found = [result for size in sorted(sizes) if (result := results.read(size, name))]
        if found:
            by_cpu = any(result.disturbed for result in found)
            times, memory = steps(found, "cpu_seconds" if by_cpu else "seconds"), steps(found, "anonymous_mib")
            rows.append(Row(name, stage.title, stage.what, found, times, memory, str(why.get(name, "")), by_cpu))
    settings = [result.setting for row in rows for result in row.results if result.setting]
    return Report(
        sorted(sizes), rows, floors(results, sizes), builds(results, sizes), codes(results, slices, sizes), settings
    )


def render(report: Report) -> str:
    """The page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "secs": seconds, "mib": mib, "count": lambda n: f"{n:,.0f}", "ratio": ratio, "number": number, "clients": clients,
    }  # fmt: skip
    environment.globals |= {"growth": growth, "about": about, "parts": parts}
    template = environment.from_string((HERE / "page.html.j2").read_text(encoding="utf-8"))
    css = Markup((resources.files("kit.report") / "templates" / "report.css").read_text(encoding="utf-8"))
    drawn = {row.name: (time_chart(row), memory_chart(row)) for row in report.rows if row.name != "floor"}
    head, sentences = headline(report.rows, report.sizes)
    return (
        template.render(
            report=report, css=css, drawn=drawn, head=head, sentences=sentences, facts=facts(report.settings),
            busy=busy(report), near=NEAR_LINEAR,
        )
        + "\n"
    )  # fmt: skip


def time_chart(row: Row) -> Markup:
    """Seconds over clients."""
    points = [
        Point(result.size, result.seconds, result.state, f"{result.size:,} clients: {about(result)}")
        for result in row.results
        if result.seconds and result.state in ("measured", "extrapolated", "cut")
    ]
    return loglog(points, f"{row.title}: seconds over clients", "s")


def memory_chart(row: Row) -> Markup:
    """Peak anonymous memory over clients; of a stage of which only a part ran, that of the part."""
    points = [
        Point(result.size, result.anonymous_mib / 1024, result.state, f"{result.size:,} clients: {mib(result.anonymous_mib)}")
        for result in row.results
        if result.anonymous_mib and result.state in ("measured", "extrapolated", "cut")
    ]  # fmt: skip
    return loglog(points, f"{row.title}: peak memory over clients", "GiB")


def facts(settings: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """(what, value): all values that occur, where results come from different settings."""

    def every(name: str, inner: str = "") -> str:
        values = [str((one.get(name, {}).get(inner) if inner else one.get(name)) or "") for one in settings]
        return ", ".join(dict.fromkeys(value for value in values if value))

    libraries = settings[-1].get("versions", {}) if settings else {}
    loads = [float(one["load"]) for one in settings if "load" in one]
    days = sorted({str(one["started"])[:10] for one in settings if "started" in one})
    listed = [
        ("processor", every("machine", "processor")),
        ("cores", every("machine", "cores")),
        ("threads", every("threads")),
        ("memory", f"{every('machine', 'memory_gib')} GiB"),
        ("system", every("machine", "system")),
        ("commit", every("commit")),
        ("measured", " … ".join(dict.fromkeys((days[0], days[-1]))) if days else ""),
        ("load average at the start of a stage", f"{min(loads):.1f} … {max(loads):.1f}" if loads else ""),
        ("versions", ", ".join(f"{name} {version}" for name, version in libraries.items())),
    ]
    return [(what, value) for what, value in listed if value]


def busy(report: Report) -> str:
    """A sentence if other work disturbed measurements; "" otherwise."""
    every = [result for row in report.rows for result in row.results if result.setting]
    hit = [result for result in every if result.disturbed]
    if not hit:
        return ""
    worst = max(float(result.setting["load"]) for result in hit)
    return (
        f"Other work kept the machine busy when {len(hit)} of {len(every)} measurements began (load average up to "
        f"{worst:.1f}): their times are too high, and the growth of such stages is judged by CPU time."
    )


def growth(step: Step | None) -> str:
    """An exponent as people read it; `≈` where an extrapolated time is in it."""
    if step is None or step.exponent is None:
        return "–"
    return ("≈ " if step.estimated else "") + number(step.exponent, 2)


def about(result: Result | None) -> str:
    """A time with its kind: `12.3 s`, `≈ 2.1 h`, `> 3.0 min`, `–`."""
    if result is None or result.seconds is None:
        return "–"
    sign = {"extrapolated": "≈ ", "cut": "> "}.get(result.state, "")
    return sign + seconds(result.seconds)


def seconds(value: float | None) -> str:
    """A duration of two or three digits."""
    if value is None:
        return "–"
    if value < 0.995:
        return f"{1000 * value:.0f} ms"
    for unit, name in ((3600.0, "h"), (60.0, "min")):
        if value >= 2 * unit:
            return f"{value / unit:.1f} {name}"
    return f"{value:.1f} s"


def mib(value: float | None) -> str:
    """Memory or bytes; `–` for nothing."""
    if value is None:
        return "–"
    return f"{value / 1024:.1f} GiB" if value >= 1000 else f"{value:.0f} MiB"


def clients(value: int) -> str:
    """`10 k`, `1 M`."""
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if value >= unit and value % (unit // 10) == 0:
            return f"{value / unit:g} {name}"
    return f"{value:,}"


def ratio(value: float) -> str:
    """`3.4 ×`."""
    return f"{value:,.0f} ×" if value >= 20 else f"{value:.1f} ×"


def parts(table: dict[str, float], most: int = 20) -> list[figures.Strip]:
    """The largest entries of a table of seconds as bars, the others together."""
    ordered = sorted(table.items(), key=lambda pair: -pair[1])
    shown = ordered[:most]
    if ordered[most:]:
        shown.append((f"{len(ordered) - most} others", sum(value for _, value in ordered[most:])))
    top = max([value for _, value in shown] + [1e-9])
    return [figures.Strip(name, svg.bar(value / top), seconds(value)) for name, value in shown]
