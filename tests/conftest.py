"""Folders that many tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from toy import write_folder

from kit.data.layout import DataFolder
from kit.data.split import split_folder
from kit.history import History
from kit.store import Store


def pytest_configure(config: pytest.Config) -> None:
    """Share the cores out among the workers that pytest-xdist is about to start; what is set already stands.

    OpenMP (torch, scikit-learn) and BLAS would start a thread per core in each, and threads that spin for one another on a core
    that runs another test cost several times what they compute. Polars' threads sleep: they stay, as whatever depends on their
    order should show. Tests of threads set their own number.
    """
    workers = getattr(config.option, "numprocesses", None) or 0
    if workers > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, str(max(1, cores // workers)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow ones first: one begun last would leave the other workers without work. Further seeds run when asked for."""
    if "planted" not in (config.getoption("markexpr") or ""):
        further = [item for item in items if item.get_closest_marker("planted")]
        config.hook.pytest_deselected(items=further)
        items[:] = [item for item in items if item not in further]
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


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
