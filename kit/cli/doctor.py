"""`kit doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from kit.cli.common import JsonOption, print_findings, print_json

if TYPE_CHECKING:
    from kit.doctor import MachineFacts


def doctor(as_json: JsonOption = False) -> None:
    """Show versions, devices, threads, memory and disk, and known traps with their remedies. Exit 1 on an error.

    Example: kit doctor
    """
    from kit.doctor import judge, look
    from kit.errors import Severity

    facts = look()
    findings = judge(facts)
    bad = any(finding.severity is Severity.ERROR for finding in findings)
    if as_json:
        rows = [finding.as_json() for finding in findings]
        print_json({"ok": not bad, "facts": facts.as_json(), "findings": rows})
    else:
        for label, text in _lines(facts):
            typer.echo(f"{label:<10} {text}")
        print_findings(findings)
    raise typer.Exit(1 if bad else 0)


def _lines(facts: MachineFacts) -> list[tuple[str, str]]:
    from kit.doctor import EXTRAS, GIB

    purposes = dict(EXTRAS.values())
    quota = f", a quota of {facts.quota:g}" if facts.quota is not None else ""
    cuda = f"torch for CUDA {facts.cuda_build}" if facts.cuda_build else "torch for the processor"
    settings = "".join(f", {name}={text}" for name, text in facts.variables.items())
    threads = ", ".join(f"{name} {count}" for name, count in facts.threads.items())
    return [
        ("kit", f"{facts.kit}, Python {facts.python}, {facts.system}"),
        ("libraries", ", ".join(f"{name} {version or '(missing)'}" for name, version in facts.libraries.items())),
        ("processor", f"{facts.cores} cores{quota}; threads: {threads}{settings}"),
        ("device", f"{facts.device}, {cuda}; bf16 {facts.bf16}"),
        ("memory", f"{facts.available / GIB:.1f} of {facts.memory / GIB:.1f} GiB available"),
        ("store", f"{facts.store} on {facts.filesystem or 'an unknown file system'}, {facts.free / GIB:.1f} GiB free"),
        *(
            (
                "extra",
                f"{package}: {'installed' if here else f'not installed (pip install {package})'}; for {purposes[package]}",
            )
            for package, here in facts.extras.items()
        ),
    ]
