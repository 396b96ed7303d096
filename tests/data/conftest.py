"""A maker of tiny raw folders for the data room's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from toy import write_folder


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """make_folder(seed=…, rows=…, categories=…) → an unsplit folder."""

    def make(name: str = "shop", **settings: int) -> Path:
        return write_folder(tmp_path / name, **settings)

    return make
