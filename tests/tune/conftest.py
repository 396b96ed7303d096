"""Search spaces and studies without data or probes."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_objective import TOY

from kit.tune.space import Space, parse_space
from kit.tune.storage import StudyPlace
from kit.tune.workers import Job


@pytest.fixture
def toy_space() -> Space:
    return parse_space(TOY, "toy.toml")


@pytest.fixture
def place(tmp_path: Path) -> StudyPlace:
    return StudyPlace(str(tmp_path / "toy.journal"), "toy")


@pytest.fixture
def job(toy_space: Space, place: StudyPlace, tmp_path: Path) -> Job:
    return Job(toy_space, place, tmp_path, tmp_path / "store", cap=6)
