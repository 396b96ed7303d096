"""`kit doctor`: every trap is found from the facts that show it, and from no others."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kit.cli.main import app
from kit.doctor import EXTRAS, GIB, MachineFacts, filesystem_of, judge, look

SOUND = MachineFacts(
    kit="1", python="3.12", system="Linux", libraries={}, unmet=[], cores=8, quota=None, threads={"torch": 8, "polars": 8},
    variables={}, memory=32 * GIB, available=16 * GIB, store=".kit", free=100 * GIB, filesystem="ext4", device="cpu",
    gpu=False, cuda_build=None, bf16="fast", extras={}, open_files=1024, file_size=None, encoding="utf-8",
    start_method="spawn",
)  # fmt: skip


def test_a_sound_machine_has_no_findings():
    assert judge(SOUND) == []


@pytest.mark.parametrize(
    ("change", "severity", "where", "words"),
    [
        ({"unmet": ["polars 1.0 is installed, polars>=2.0 is needed"]}, "error", "packages", "polars 1.0"),
        ({"cuda_build": "12.8"}, "info", "torch", "CUDA 12.8"),
        ({"gpu": True}, "warning", "torch", "CPU build"),
        ({"gpu": True, "cuda_build": "12.8"}, "warning", "torch", "does not start"),
        ({"threads": {"torch": 9}}, "warning", "threads", "9 threads where 8"),
        ({"quota": 1.5, "threads": {"polars": 8}}, "warning", "threads", "where 1.5"),
        ({"variables": {"OMP_NUM_THREADS": "2"}}, "info", "threads", "6 of 8"),
        ({"bf16": "emulated"}, "info", "bf16", "no bf16"),
        ({"free": 3 * GIB}, "warning", "disk", "3.0 GiB"),
        ({"free": GIB // 4}, "error", "disk", "0.2 GiB"),
        ({"available": GIB}, "warning", "memory", "1.0 GiB"),
        ({"filesystem": "nfs4"}, "warning", "store", "nfs4"),
        ({"open_files": 64}, "warning", "limits", "64 files"),
        ({"file_size": GIB}, "warning", "limits", "1.00 GiB"),
        ({"encoding": "ascii"}, "warning", "terminal", "ascii"),
        ({"start_method": "fork"}, "info", "processes", "forks"),
    ],
)
def test_each_trap(change: dict, severity: str, where: str, words: str):
    (finding,) = judge(replace(SOUND, **change))
    assert (finding.severity.value, finding.where) == (severity, where)
    assert words in finding.what
    assert finding.remedy


def test_this_machine(tmp_path: Path):
    facts = look(tmp_path / "not" / "made")
    assert facts.cores >= 1
    assert 0 < facts.available <= facts.memory
    assert facts.free > 0
    assert filesystem_of(tmp_path)


def test_the_command_prints_json():
    done = CliRunner().invoke(app, ["doctor", "--json"])
    said = json.loads(done.stdout)
    assert {"ok", "facts", "findings"} == set(said)
    assert done.exit_code == (0 if said["ok"] else 1)


def test_every_optional_package_is_looked_for():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: packages for name, packages in project["optional-dependencies"].items() if name != "dev"}
    named = {re.split(r"[<>=\[]", package)[0] for packages in extras.values() for package in packages}
    assert {package for package, _ in EXTRAS.values()} == named
