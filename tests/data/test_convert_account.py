"""Every row of every file is accounted for, and what was left out can be read off."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_shop import LOG as PLAIN
from own_shop import LOG_HEADER, account, converted, rows

from kit.challenge import EventType
from kit.data.convert import convert
from kit.data.convert.account import FileRows, TableRows
from kit.errors import KitError

TABLES = """keep = [{ column = "action", equals = "buy" }, { column = "price", above = 0 }]
[tables.add_to_cart]
keep = [{ column = "action", equals = "cart" }]
"""
LOG = [
    "u1,p1,2024-01-01,5,buy",
    "u1,p1,2024-01-01,0,buy",
    "u2,p1,2024-01-01,5,BUY",
    "u2,p1,2024-01-01,5,BUY",
    ",p1,2024-01-01,5,cart",
    "u2,,2024-01-01,5,cart",
    "u2,p2,,5,cart",
    "u2,p2,2024-01-01,5,cart",
    "u2,p2,2024-01-01,5,view",
    "bot,p2,2024-01-01,5,buy",
    "u2,p2,2024-01-01,5,",
]
WITH_BOT = ("[tables.product_buy]", 'keep = [{ column = "user", none_of = ["bot"] }]\n[tables.product_buy]')


def test_the_account_of_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = converted(tmp_path, "\n".join([LOG_HEADER, *LOG]), TABLES, WITH_BOT)
    source = account(out)
    assert source["files"] == [
        {
            "file": "log.csv",
            "records": 11,
            "unreadable": 0,
            "rows": 11,
            "left_out": {"user none_of ['bot']": 1},
            "tables": [
                {
                    "table": "product_buy",
                    "kept": 1,
                    "left_out": {"action equals 'buy'": 8, "price above 0": 1},
                    "without": {"client": 0, "item": 0, "time": 0},
                },
                {
                    "table": "add_to_cart",
                    "kept": 1,
                    "left_out": {"action equals 'cart'": 6},
                    "without": {"client": 1, "item": 1, "time": 1},
                },
            ],
            "in_no_table": 5,
            "again": 0,
            "unreadable_lines": {},
        }
    ]
    assert source["unmatched"]["action"] == [["BUY", 2], ["buy", 1], ["view", 1], [None, 1]]
    said = capsys.readouterr().err
    assert "in no table: 5 rows: action = 'BUY' 2, 'buy' 1, 'view' 1, (empty) 1" in said
    assert (
        "warning: 2 rows of log.csv with action = 'BUY': it is not the 'buy' of a rule; say `ignore_case = true`"
        in said
    )
    assert "add_to_cart: 1 event, 3 more without client, item or time left out (1 have no client" in said
    assert "left out by [log]: 1 by user none_of ['bot']" in said


def test_ignoring_case_takes_the_twin_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = TABLES.replace('equals = "buy"', 'equals = "buy", ignore_case = true')
    out = converted(tmp_path, "\n".join([LOG_HEADER, *LOG]), tables, WITH_BOT)
    assert len(rows(out, EventType.BUY)) == 3
    assert "warning" not in capsys.readouterr().err


def test_files_are_accounted_for_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log2.csv").write_text("\n".join([LOG_HEADER, *LOG[:3]]) + "\n")
    out = converted(tmp_path, "\n".join([LOG_HEADER, *LOG]), TABLES, ('path = "log.csv"', 'path = "log*.csv"'))
    files = account(out)["files"]
    assert [(file["file"], file["rows"], file["in_no_table"]) for file in files] == [
        ("log.csv", 11, 5),
        ("log2.csv", 3, 2),
    ]
    lines = [line.split() for line in capsys.readouterr().err.splitlines()]
    assert ["log2.csv", "3", "1", "0", "0", "2"] in lines
    assert ["all", "14", "3", "1", "3", "7"] in lines


def test_a_row_in_two_tables_is_counted_in_both_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = f"{LOG_HEADER}\nu,p,2024-01-01,,buy\nu,p,2024-01-01,,cart"
    more = 'keep = [{ column = "action", equals = "buy" }]\n[tables.add_to_cart]\nkeep = [{ column = "user", equals = "u" }]\n'
    out = converted(tmp_path, log, more)
    assert account(out)["files"][0]["again"] == 1
    assert "1 row counted again: in more than one table" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("log", "says"),
    [
        (",p,2024-01-01,,buy", "the 1 row of log.csv passing the rules of .*1 have no client"),
        ("u,p,2024-01-01,,BUY", "No row of log.csv is a product_buy.*1 row of log.csv with action = 'BUY'"),
        ("u,p,2024-01-01,,sold", r"No row of log.csv is a product_buy.*it holds \['sold'\]"),
    ],
)
def test_a_table_without_events_is_an_error(tmp_path: Path, log: str, says: str) -> None:
    with pytest.raises(KitError, match=says):
        converted(tmp_path, f"{LOG_HEADER}\n{log}", 'keep = [{ column = "action", equals = "buy" }]\n')
    assert not (tmp_path / "out").exists()


def test_an_optional_table_may_be_empty(tmp_path: Path) -> None:
    log = f"{LOG_HEADER}\nu,p,2024-01-01,,buy"
    more = 'keep = [{ column = "action", equals = "buy" }]\n[tables.add_to_cart]\noptional = true\n'
    out = converted(tmp_path, log, more + 'keep = [{ column = "action", equals = "cart" }]\n')
    assert rows(out, EventType.CART) == []
    assert account(out)["files"][0]["tables"][1]["kept"] == 0


@pytest.mark.parametrize(
    ("file", "read", "delivered"),
    [
        (FileRows("f", 3, 0, 3, {}, [TableRows("product_buy", 2, {"r": 1}, {})], 1, 0), 2, 3),  # one was never read
        (FileRows("f", 3, 0, 2, {}, [TableRows("product_buy", 2, {"r": 0}, {})], 0, 0), 3, 3),  # one never came out
        (
            FileRows("f", 3, 0, 3, {}, [TableRows("product_buy", 2, {"r": 1}, {})], 0, 0),
            3,
            3,
        ),  # one is in no table, unsaid
        (
            FileRows("f", 3, 0, 3, {}, [TableRows("product_buy", 2, {"r": 0}, {})], 1, 0),
            3,
            3,
        ),  # one is left out, unsaid
    ],
)
def test_rows_that_do_not_add_up_are_an_error(file: FileRows, read: int, delivered: int) -> None:
    with pytest.raises(KitError, match="do not add up"):
        file.require_sum(read, delivered)


cell = st.sampled_from(["u1", "u2", "", " u1", "NULL", "bot"])
action = st.sampled_from(["buy", "BUY", " buy", "cart", "view", ""])
price = st.sampled_from(["5", "0", "-1", "", "NaN", "3.50", "1e2"])
when = st.sampled_from(["2024-01-01 10:00:00", "2024-01-01T10:00:00.250", "", "2024-01-02"])


def written(root: Path, kind: str, log: list[tuple[str, ...]]) -> tuple[str, str]:
    """The log in a file of one format; the change of the mapping that reads it."""
    names = LOG_HEADER.split(",")
    path = root / f"log.{kind}"
    cells = [{name: value or None for name, value in zip(names, row, strict=True)} for row in log]
    if kind == "parquet":
        pl.DataFrame(cells, schema=dict.fromkeys(names, pl.String)).write_parquet(path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in cells), encoding="utf-8")
    else:
        text = "".join(",".join(row) + "\n" for row in [tuple(names), *log])
        text = text.replace(",", "\t") if kind == "tsv" else text
        packed = gzip.compress(text.encode()) if kind == "csv.gz" else text.encode()
        path.write_bytes(packed)
    separator = '\nseparator = "\\t"' if kind == "tsv" else ""
    return ('path = "log.csv"', f'path = "log.{kind}"{separator}')


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["csv", "csv.gz", "tsv", "parquet", "jsonl"]),
    st.lists(st.tuples(cell, cell, when, price, action), min_size=1, max_size=15),
)
def test_what_is_kept_is_what_a_slow_reading_keeps(
    tmp_path_factory: pytest.TempPathFactory, kind_of_file: str, log: list[tuple[str, str, str, str, str]]
) -> None:
    """A reading by hand, row by row, of the rules in TABLES, in every format."""
    log = [*log, ("u1", "u2", "2024-01-01", "5", "buy"), ("u1", "u2", "2024-01-01", "5", "cart")]
    root = tmp_path_factory.mktemp("log")
    path, new = written(root, kind_of_file, log)
    mapping = PLAIN.replace(path, new).replace(*WITH_BOT) + TABLES
    (root / "my.toml").write_text(mapping, encoding="utf-8")
    out = root / "out"
    convert(str(root / "my.toml"), root, out)
    names = dict(pl.read_parquet(out / "ids" / "client_id.parquet").rows())
    items = dict(pl.read_parquet(out / "ids" / "sku.parquet").rows())
    for kind, word in ((EventType.BUY, "buy"), (EventType.CART, "cart")):
        expected = []
        for client, item, time, cost, did in log:
            dear = cost.strip() not in ("", "NaN") and float(cost) > 0
            if client.strip() == "bot" or did.strip() != word or (word == "buy" and not dear):
                continue
            if client.strip() and item.strip() and time:
                expected.append((client.strip(), time.replace("T", " ")[:10], item.strip()))
        found = [(names[client], str(time)[:10], items[item]) for client, time, item in rows(out, kind)]
        assert found == expected
    (file,) = account(out)["files"]
    kept = sum(table["kept"] + sum(table["without"].values()) for table in file["tables"])
    assert kept + file["in_no_table"] + sum(file["left_out"].values()) == file["rows"] == len(log)


def test_two_tables_without_rules_take_every_row(tmp_path: Path) -> None:
    """A rule that is always true holds on every row, not once."""
    log = f"{LOG_HEADER}\nu,p,2024-01-01,,\nu,q,2024-01-02,,\nv,p,2024-01-02,,"
    out = converted(tmp_path, log, '[tables.page_visit]\nitem = "product"\n')
    assert account(out)["files"][0]["again"] == 3
    assert (len(rows(out, EventType.BUY)), len(rows(out, EventType.VISIT))) == (3, 3)


def test_true_is_no_near_miss_of_true(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = f"{LOG_HEADER}\nu,p,2024-01-01,,TRUE\nu,q,2024-01-02,,True\nv,p,2024-01-02,,no"
    out = converted(tmp_path, log, 'keep = [{ column = "action", equals = true }]\n')
    assert len(rows(out, EventType.BUY)) == 2
    assert "warning" not in capsys.readouterr().err
