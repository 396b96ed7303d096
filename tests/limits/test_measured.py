"""Estimates against what is really used, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy import write_folder

from kit.data.split import split_folder
from kit.limits.need import SAFETY, START

RECIPE = """name = "m"
[blocks.stats]
kind = "stats"
families = ["counts", "targets", "rhythm", "browsing", "gaps"]
scale = "quantile"
flags = true
[blocks.als]
kind = "als"
items = "url"
factors = 32
[blocks.organisers]
kind = "organisers"
scale = "standard"
pca = 20
"""


def measured(root: Path, limit: int = 0) -> dict:
    (root / "m.toml").write_text(RECIPE)
    code = [sys.executable, str(Path(__file__).with_name("measure.py")), "m.toml", "data", "work", str(limit)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(code, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])["stages"]


@pytest.mark.parametrize(("clients", "rows"), [(79, 900), (3_000, 8_000)])
def test_no_stage_takes_more_than_was_said(tmp_path: Path, clients: int, rows: int):
    write_folder(tmp_path / "data", clients=clients, rows=rows)
    split_folder(tmp_path / "data")
    stages = measured(tmp_path)
    assert {"events", "block stats", "block als", "block organisers", "profile"} <= stages.keys()
    for name, stage in stages.items():
        if stage["measured"] is not None:
            assert stage["measured"] <= START + SAFETY * stage["estimate"], (name, stage)
