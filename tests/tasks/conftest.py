"""A folder and tasks that the tests of tasks share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from own_tasks import Carted, Cheap, Dear, Long
from toy import write_folder

from kit.data.layout import DataFolder
from kit.data.split import split_folder
from kit.tasks.base import TASKS, register
from kit.tasks.labels import list_rules


@pytest.fixture(scope="session", autouse=True)
def own_tasks() -> Iterator[None]:
    """The tasks of `own_tasks`, registered for these tests alone."""
    TASKS.loaded()
    mine = [register(task()) for task in (Dear, Cheap, Carted, Long)]
    yield
    for task in mine:
        del TASKS._parts[task.name]


@pytest.fixture(scope="session", params=[7, 14])
def days(request: pytest.FixtureRequest) -> int:
    """The length of the windows."""
    return int(request.param)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, days: int) -> DataFolder:
    """A toy folder with 400 clients, split into windows of `days`."""
    root = write_folder(tmp_path_factory.mktemp(f"shop{days}") / "shop", rows=6000, clients=400)
    split_folder(root, days=days, lists=list_rules())
    return DataFolder(root)


@pytest.fixture(scope="session")
def submission(tmp_path_factory: pytest.TempPathFactory, shop: DataFolder) -> Path:
    """Random vectors of the shop's clients, in a random order."""
    rng, place = np.random.default_rng(0), tmp_path_factory.mktemp("submission")
    ids = rng.permutation(shop.clients())
    np.save(place / "client_ids.npy", ids)
    np.save(place / "embeddings.npy", rng.normal(size=(len(ids), 8)).astype(np.float16))
    return place
