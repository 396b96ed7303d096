"""Everything a report says, gathered once; HTML, Markdown and JSON are three views of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from kit.data.layout import DataFolder
from kit.data.origin import require_origin
from kit.errors import Finding, KitError
from kit.progress import say
from kit.report.attributions import Attributions, read_attributions
from kit.report.scores import ProbeScores, collect_scores
from kit.report.verdict import Verdict, judge
from kit.scoring.results import read_ceiling, read_scores
from kit.studies.ablation.result import Ablation, read_current
from kit.studies.clients import ClientMap, Method, client_map
from kit.studies.drift import read_drift
from kit.studies.health import Health, examine
from kit.submission import read_manifest, validate
from kit.submission.submission import Submission
from kit.tasks.labels import targets_digest


@dataclass(frozen=True)
class Report:
    """A submission's report.

    Attributes:
        name, folder, manifest: which submission.
        data: its data folder; None if it is not at hand.
        verdict: what to read first.
        findings: of the validator; empty without data.
        probes: scores, the probe that speaks first.
        health, clients, drift, ablation, training: sections; None where their input is missing.
        attributions, network: what LightGBM and the fast probe's network read; None where that was not asked.
        missing: section → one line that says which command makes it.
    """

    name: str
    folder: Path
    manifest: dict[str, Any]
    data: Path | None
    verdict: Verdict
    findings: list[Finding]
    probes: list[ProbeScores]
    health: Health | None
    clients: ClientMap | None
    drift: dict[str, Any] | None
    ablation: Ablation | None
    training: dict[str, Any]
    attributions: Attributions | None
    network: Attributions | None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def first(self) -> ProbeScores | None:
        """The probe that speaks."""
        return self.probes[0] if self.probes else None

    def as_json(self) -> dict[str, Any]:
        """For --json: all numbers, without the points of the map."""
        return {
            "submission": str(self.folder),
            "data": None if self.data is None else str(self.data),
            "verdict": asdict(self.verdict),
            "findings": [finding.as_json() for finding in self.findings],
            "probes": [probe.as_json() for probe in self.probes],
            "health": None if self.health is None else self.health.as_json(),
            "drift": self.drift,
            "ablation": None if self.ablation is None else self.ablation.model_dump(),
            "training": self.training,
            "attributions": None if self.attributions is None else asdict(self.attributions),
            "network_attributions": None if self.network is None else asdict(self.network),
            "manifest": self.manifest,
            "missing": self.missing,
        }


def collect(
    submission: Submission, folder: DataFolder | None, against: Sequence[Path] = (), *, method: Method = "pca"
) -> Report:
    """Gather a report of what is there; nothing is scored or refitted here.

    Args:
        submission: made by `kit submit`.
        folder: its data folder (`data_folder_of`); None leaves out what needs one.
        against: submissions to compare with; without any, a sibling made by a recipe called `baseline` on the same data.
        method: of the map.

    Raises:
        KitError: one to compare with has no scores, or an input file is broken.
    """
    manifest, readable = submission.manifest, _readable(submission)
    probes = _scores(submission, folder, against)
    findings = validate(submission, folder) if folder else []
    report = Report(
        name=submission.name,
        folder=submission.folder,
        manifest=manifest,
        data=folder.root if folder else None,
        verdict=judge(submission.name, probes, findings, foresight=_foresight(manifest, folder)),
        findings=findings,
        probes=probes,
        health=examine(submission, manifest["blocks"]) if readable else None,
        clients=client_map(submission, folder, method) if folder and readable else None,
        drift=read_drift(submission),
        ablation=read_current(submission, folder),
        training=_training(submission.folder),
        attributions=read_attributions(submission),
        network=read_attributions(submission, "fast"),
    )
    report.missing.update(_missing(report, submission.folder))
    return report


def _scores(submission: Submission, folder: DataFolder | None, against: Sequence[Path]) -> list[ProbeScores]:
    """Of each probe, beside those of the others."""
    for other in against:
        if not (other / "scores.json").exists():
            raise KitError(f"{other} has not been scored.", f"Run `kit score {other} --data DIR` first.")
    ceiling = read_ceiling(folder) if folder else {}
    targets = targets_digest(folder) if folder else None
    others = list(against) or _baseline_beside(submission.folder)
    return collect_scores(submission.folder, others, ceiling, int(submission.manifest["clients"]), targets)


def data_folder_of(submission: Submission, data: Path | None) -> DataFolder | None:
    """The folder given, or the one at the manifest's path; None if that is not there, or is another one now, which is said.

    Raises:
        KitError: `data` is given and not a split data folder or not the one that the submission was made from.
    """
    made = submission.manifest["data"]
    folder = DataFolder(data or Path(made["folder"]))
    if data is not None:
        folder.require_split()
    elif not folder.is_split:
        return None
    try:
        require_origin(submission.folder, made, folder)
    except KitError as error:
        if data is not None:
            raise
        say(f"  {error.what} What needs the data is left out.")
        return None
    return folder


def _foresight(manifest: dict[str, Any], folder: DataFolder | None) -> bool:
    """Whether the submission's cut lies after the start of the target windows."""
    if folder is None:
        return bool(manifest["data"].get("until") == "end")
    return datetime.fromisoformat(manifest["data"]["cut"]) > folder.split().train_start


def _baseline_beside(submission: Path) -> list[Path]:
    """A scored sibling whose recipe is called `baseline`, made for the same data folder."""
    own = read_scores(submission)
    places = {Path(str(report["data"])).resolve() for report in own.values()}
    for path in sorted(submission.resolve().parent.glob("*/manifest.json")):
        folder = path.parent
        if folder == submission.resolve() or read_manifest(folder)["recipe"]["name"] != "baseline":
            continue
        if places & {Path(str(report["data"])).resolve() for report in read_scores(folder).values()}:
            return [folder]
    return []


def _readable(submission: Submission) -> bool:
    """Whether the vectors can be drawn and measured: a finite two-dimensional matrix with ids beside it."""
    ids, vectors, found = submission.contents.ids, submission.contents.vectors, submission.contents.statistics
    if ids is None or vectors is None or found is None or found.bad or ids.ndim != 1:
        return False
    return len(ids) == len(vectors) == len(np.unique(ids)) and np.issubdtype(ids.dtype, np.integer)


def _training(submission: Path) -> dict[str, Any]:
    path = submission / "training.json"
    if not path.exists():
        return {}
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise KitError(f"{path} is not JSON ({error}).", "Delete the submission and make it again.") from error
    return {name: record for name, record in found.items() if isinstance(record, dict) and record.get("losses")}


def _missing(report: Report, submission: Path) -> dict[str, str]:
    """What would fill each empty section, in one line."""
    data = report.data or "DIR"
    lines: dict[str, str] = {}
    if not report.probes:
        lines["scores"] = f"kit score {submission} --data {data} --probe fast --probe gbm"
    elif report.first and not report.first.against:
        lines["gain"] = f"kit report {submission} --against OTHER (another submission, scored on the same data)"
    if report.ablation is None:
        lines["ablation"] = f"kit report {submission} --data {data} --ablate"
    if report.first is not None and not any(probe.slices for probe in report.probes):
        lines["slices"] = f"kit score {submission} --data {data}"
    if report.clients is None:
        lines["clients"] = f"kit report {submission} --data DIR"
    if report.drift is None:
        lines["drift"] = f"kit report {submission} --data {data} --drift"
    if report.attributions is None:
        lines["attributions"] = f"kit score {submission} --data {data} --probe gbm --explain"
    elif not report.attributions.pushes:
        lines["pushes"] = f"kit score {submission} --data {data} --probe gbm --explain --clients ID,ID"
    if report.network is None:
        extra = "" if find_spec("shap") else " (first: pip install 'kit[shap]')"
        lines["network"] = f"kit score {submission} --data {data} --probe fast --explain{extra}"
    return lines
