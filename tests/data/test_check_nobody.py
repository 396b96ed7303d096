"""Clients that are nobody are found by their name or number, once they hold more than one event in a hundred."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from own_shop import LOG_HEADER, converted

from kit.data.check import check_folder
from kit.errors import Finding, Severity


def found(root: Path) -> list[Finding]:
    return [finding for finding in check_folder(root) if "may stand for no client" in finding.what]


def log(name: str, times: int, others: int, other: str = "u") -> str:
    rows = [f"{name},p,2024-01-01,,"] * times + [f"{other}{at + 1},p,2024-01-01,," for at in range(others)]
    return "\n".join([LOG_HEADER, *rows])


@pytest.mark.parametrize("name", ["NULL", "nan", "None", "0", "-1", "0.0"])
def test_a_giant_client_called_nobody_is_found(tmp_path: Path, name: str) -> None:
    (finding,) = found(converted(tmp_path, log(name, 3, 197)))
    assert finding.severity is Severity.WARNING
    name = name.removesuffix(".0")
    assert f"The client {name!r} (id " in finding.what
    assert "holds 3 of 200 events (1.5%)" in finding.what
    assert f'null = ["{name}"]' in finding.remedy


@pytest.mark.parametrize("number", [0, -1])
def test_so_is_one_by_its_number(tmp_path: Path, number: int) -> None:
    out = converted(tmp_path, log("5", 3, 197, ""))
    path = out / "product_buy.parquet"
    client = pl.col("client_id")
    pl.read_parquet(path).with_columns(
        pl.when(client == 5).then(number).otherwise(client).alias("client_id")
    ).write_parquet(path)
    (finding,) = found(out)
    assert f"The client {number} holds 4 of 200 events" in finding.what


def test_one_in_a_hundred_or_another_name_is_no_finding(tmp_path: Path) -> None:
    assert not found(converted(tmp_path, log("NULL", 2, 198)))


def test_the_remedy_works(tmp_path: Path) -> None:
    out = converted(tmp_path, log("NULL", 3, 197), "", ("[files.log]", 'null = ["NULL"]\n[files.log]'))
    assert not found(out)
    assert pl.read_parquet(out / "product_buy.parquet").height == 197


def test_a_rank_of_0_is_not_a_client_called_0(tmp_path: Path) -> None:
    assert not found(converted(tmp_path, log("amy", 50, 50)))
