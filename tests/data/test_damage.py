"""Damaged folders: words come out, never a traceback, and never another result without a word. See `fuzz_folders`.

The seeds here are a sample; `python tests/data/fuzz_folders.py --runs 500` tries as many as are asked for.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_folders import World, attempt


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("damage"))


@pytest.mark.parametrize("seed", range(12))
def test_damage_ends_in_words(world: World, tmp_path: Path, seed: int) -> None:
    done, seen, silent = attempt(world, tmp_path, seed)
    assert not seen.tracebacks, (done, seen.tracebacks)
    assert not silent, (done, silent)
