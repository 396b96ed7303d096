"""What a person types for a client: the shop's own id where it was text, else the number."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from kit.data.own_ids import clients_called, id_file, own_names
from kit.errors import KitError


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    id_file(tmp_path).parent.mkdir()
    pl.DataFrame({"id": [0, 1, 2], "own": ["amy@x", "bob", "7"]}).write_parquet(id_file(tmp_path))
    return tmp_path


def test_own_ids_lead_there_and_back(shop: Path):
    assert clients_called(["bob", "amy@x", "bob", "7"], shop) == [1, 0, 1, 2], "7 is a name here, not a number"
    assert own_names([2, 0], shop) == {0: "amy@x", 2: "7"}
    with pytest.raises(KitError, match=r"no client 'carl'.*column `own`"):
        clients_called(["bob", "carl"], shop)


def test_without_a_list_ids_are_numbers(tmp_path: Path):
    for data in (tmp_path, None):
        assert clients_called(["12", "-3"], data) == [12, -3]
        assert own_names([12], data) == {}
        with pytest.raises(KitError, match="'bob' is no client's id"):
            clients_called(["12", "bob"], data)
