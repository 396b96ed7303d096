"""What a team lead reads first: one sentence in plain words, and a few that bear it out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kit.errors import Finding, Severity
from kit.report.scores import Against, ProbeScores
from kit.report.words import listed, percent, short, signed, tasks

Mood = Literal["good", "mixed", "bad", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """The headline, its colour, and the sentences under it."""

    mood: Mood
    headline: str
    sentences: list[str] = field(default_factory=list)


def judge(name: str, probes: list[ProbeScores], findings: list[Finding], *, foresight: bool = False) -> Verdict:
    """Validity first, then the comparison with the first other submission, then rank and ceiling.

    Args:
        name: of the submission.
        probes: as collected; the first speaks.
        findings: of `kit validate`.
        foresight: whether the vectors were made from events of the windows that they are scored on.
    """
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        what = "; ".join(f"{finding.where}: {finding.what}" for finding in errors[:3])
        return Verdict("bad", f"The evaluator would refuse {name}.", [f"{what}."])
    if foresight:
        text = f"{name} is made from all events, the scored windows among them."
        mean = "Its scores here mean nothing: build it with `--cut input` to measure the recipe."
        return Verdict("unknown", text, [mean] if probes else ["It cannot be scored on this data."])
    if not probes:
        return Verdict("unknown", f"{name} has not been scored yet.", [])
    first = probes[0]
    sentences = []
    if not first.against:
        text = f"{name} sums to {first.sum:.4f} over {tasks(sum(row.score is not None for row in first.rows))}."
        mood: Mood = "unknown"
        sentences.append("There is no other submission to compare it with.")
    else:
        mood, text = _compared(name, first.against[0])
        sentences += _bearing_out(first.against[0])
    sentences += _rank(name, first) + _noise(first)
    undefined = [short(row.task) for row in first.rows if row.undefined]
    if undefined:
        sentences.append(f"Not defined on this data: {listed(undefined)}.")
    warnings = [finding for finding in findings if finding.severity is Severity.WARNING]
    if warnings:
        count = f"{len(warnings)} warning{'s' if len(warnings) > 1 else ''}"
        sentences.append(f"The validator has {count}: {'; '.join(finding.what for finding in warnings[:3])}.")
    return Verdict(mood, text, sentences)


def _compared(name: str, other: Against) -> tuple[Mood, str]:
    better, worse = other.count("better"), other.count("worse")
    total = len(other.gains)
    if len(better) == total:
        return "good", f"{name} beats {other.name} on all {tasks(total)}."
    if better and not worse:
        unsure = [short(task) for task in other.count("cannot tell")]
        return (
            "good",
            f"{name} beats {other.name} on {len(better)} of {tasks(total)}; {listed(unsure)} cannot be told from noise.",
        )
    if better:
        losses = listed([short(task) for task in worse])
        return "mixed", f"{name} beats {other.name} on {len(better)} of {tasks(total)} and loses on {losses}."
    if worse:
        return "bad", f"{name} is worse than {other.name} on {len(worse)} of {tasks(total)} and better on none."
    return "unknown", f"{name} cannot be told from {other.name} on any task."


def _bearing_out(other: Against) -> list[str]:
    sentences = []
    if other.total is not None:
        gain = other.total
        sentences.append(
            f"The sum over the tasks differs by {signed(gain.difference)} "
            f"(95 % interval {signed(gain.low)} to {signed(gain.high)}, over resampled clients)."
        )
    if other.mean_gap is not None:
        least = min(other.gap, key=lambda task: other.gap[task])
        most = max(other.gap, key=lambda task: other.gap[task])
        sentences.append(
            f"On average {percent(other.mean_gap)} of the way from {other.name} to the shop’s ceiling is closed in AUROC, "
            f"most on {short(most)} ({percent(other.gap[most])}), least on {short(least)} ({percent(other.gap[least])})."
        )
    return sentences


def _rank(name: str, first: ProbeScores) -> list[str]:
    mine = next((row for row in first.board if row["name"] == name), None)
    if mine is None:
        return []
    return [
        f"By Borda it ranks {mine['rank']} of {len(first.board)} submissions scored here; "
        f"it would come first in {percent(mine['rank_chances'][0])} of resampled client sets."
    ]


def _noise(first: ProbeScores) -> list[str]:
    if first.seeds > 1 or first.probe in ("gbm", "none"):  # trees have no start, and forecasts as they are no training
        return []
    return [
        "One probe start was scored, so the noise of starts is not in the intervals (`kit score --seeds 3` adds it)."
    ]
