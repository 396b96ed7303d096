from __future__ import annotations

import pytest
from probe_world import World, make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The folder behind the golden record. Do not change it; copy its folder first."""
    return make_world(tmp_path_factory.mktemp("world"))
