"""What several commands share: options, threads, printing JSON, tables of findings."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kit.errors import Finding, KitError, Severity

DataOption = Annotated[Path, typer.Option("--data", help="The data folder, split (`kit data split`).")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", help="Threads; all cores by default.")]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Another seed than the recipe's.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def use_threads(threads: int | None) -> None:
    """Limit every library to `threads`. Call it before anything heavy is imported: most read their limit on import."""
    if threads is None:
        return
    if threads < 1:
        raise KitError(f"--threads {threads} is not a number of threads.", "Give 1 or more.")
    for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)


def submission_folder(out: Path | None, name: str | None, usual: str) -> Path:
    """Where a submission goes: --out, or --name or the recipe's name under submissions/.

    Raises:
        KitError: both were given, or the name is no folder's name.
    """
    from kit.recipe import require_name

    if out is not None and name is not None:
        raise KitError(f"--out {out} and --name {name} both say where the submission goes.", "Give one of them.")
    if name is not None:
        require_name(name)
    return out or Path("submissions") / (name or usual)


def print_json(value: object) -> None:
    """JSON on stdout, for programs."""
    typer.echo(as_text(value))


def as_text(value: object) -> str:
    """`value` as JSON; what JSON does not know, such as a path, as it prints itself."""
    return json.dumps(value, indent=2, default=str)


def report_findings(findings: Sequence[Finding], what: str, as_json: bool) -> None:
    """Print findings, worst first, and exit with 1 if there is an error among them.

    Raises:
        typer.Exit: code 1 when an error was found.
    """
    bad = any(finding.severity is Severity.ERROR for finding in findings)
    if as_json:
        print_json({"ok": not bad, "findings": [finding.as_json() for finding in worst_first(findings)]})
    else:
        print_findings(findings)
        typer.echo(f"{what}: {'not valid' if bad else 'valid'} ({len(findings)} findings)")
    if bad:
        raise typer.Exit(1)


def print_findings(findings: Sequence[Finding]) -> None:
    """Findings on stdout, worst first, each with its remedy."""
    colours = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "blue"}
    for finding in worst_first(findings):
        typer.secho(f"{finding.severity.value}: {finding.where}: {finding.what}", fg=colours[finding.severity])
        typer.echo(f"    {finding.remedy}")


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Errors, then warnings, then remarks, each in the order they were found."""
    order = list(Severity)
    return sorted(findings, key=lambda finding: order.index(finding.severity))
