"""Folders that many tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import write_folder

from kit.data.layout import DataFolder
from kit.data.split import split_folder
from kit.history import History
from kit.store import Store


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    """A tiny split folder; do not change it."""
    root = write_folder(tmp_path_factory.mktemp("toy") / "shop")
    split_folder(root)
    return DataFolder(root)


@pytest.fixture(scope="session")
def toy_history(toy: DataFolder, tmp_path_factory: pytest.TempPathFactory) -> History:
    """The toy folder up to its cut."""
    return History.open(toy, store=Store(tmp_path_factory.mktemp("toy-store")))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty artefact store."""
    return Store(tmp_path / "store")
