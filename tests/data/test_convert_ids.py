"""Ids: one thing, one spelling, over all files of a space; what has lost digits is refused by name."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_shop import LOG_HEADER, converted, rows

from kit.challenge import EventType
from kit.data.convert import convert
from kit.data.convert.ids import IdSpace, whole_numbers
from kit.errors import KitError

WHEN = datetime(2024, 1, 1)
TWO = """[files.orders]
path = "orders.csv"
[files.clicks]
path = "clicks.*"
[files.items]
path = "items.csv"
[log]
client = "user"
item = "product"
time = { column = "when" }
[tables.product_buy]
file = "orders"
[tables.add_to_cart]
file = "clicks"
[products]
file = "items"
item = "sku"
price = "cost"
"""


def two_files(root: Path, orders: list[str], clicks: list[str] | pl.DataFrame, items: list[str]) -> Path:
    """A shop with a file for purchases, one for carts and a catalogue; rows are "client,item" and skus."""
    head = "user,product,when"
    (root / "orders.csv").write_text("\n".join([head, *(f"{row},2024-01-01 10:00:00" for row in orders)]) + "\n")
    if isinstance(clicks, pl.DataFrame):
        clicks.write_parquet(root / "clicks.parquet")
    else:
        (root / "clicks.csv").write_text("\n".join([head, *(f"{row},2024-01-01 09:00:00" for row in clicks)]) + "\n")
    (root / "items.csv").write_text(
        "\n".join(["sku,cost", *(f"{sku},{at + 1}" for at, sku in enumerate(items))]) + "\n"
    )
    (root / "my.toml").write_text(TWO)
    convert(str(root / "my.toml"), root, root / "out")
    return root / "out"


def pairs(out: Path, kind: EventType) -> list[tuple[object, object]]:
    return [(client, item) for client, _, item in rows(out, kind)]


def test_a_client_with_gaps_and_one_without_are_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = two_files(tmp_path, ["17850.0,1.0", "5.0,2.0"], ["17850,1", " 5\u00a0,2"], ["1", "2"])
    assert pairs(out, EventType.BUY) == pairs(out, EventType.CART) == [(17850, 1), (5, 2)]
    assert pl.read_parquet(out / "product_properties.parquet")["sku"].to_list() == [1, 2]
    assert not (out / "ids").exists()
    assert "'17850.0' and the like (2 cells) are read as '17850'" in capsys.readouterr().err


def test_integers_in_one_file_and_text_in_another_agree(tmp_path: Path) -> None:
    clicks = pl.DataFrame({"user": [17850, 5], "product": [1.0, 2.0], "when": [WHEN, WHEN]})
    out = two_files(tmp_path, ["17850,1", "guest,2"], clicks, ["1", "2"])
    own = dict(pl.read_parquet(out / "ids" / "client_id.parquet").rows())
    assert [own[client] for client, _ in pairs(out, EventType.BUY)] == ["17850", "guest"]  # type: ignore[index]
    assert [own[client] for client, _ in pairs(out, EventType.CART)] == ["17850", "5"]  # type: ignore[index]


def test_what_differs_stays_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """017 is not 17, and where there is a 1.50 the point means something."""
    out = two_files(tmp_path, ["017,1", "1.0,1"], ["17,1", "1,1", "1.50,1"], ["1"])
    own = pl.read_parquet(out / "ids" / "client_id.parquet")["own"].to_list()
    assert own == ["017", "1", "1.0", "1.50", "17"]
    said = capsys.readouterr().err
    assert "'1.0' stays as it is, since there is '1.50' too" in said
    assert "such as '017' and '17': they stay different" in said


def test_a_catalogue_that_joins_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        KitError, match=r"price: none of the 2 items in column 'sku' of items.csv \('1', '2'\) occurs.*'A-1'"
    ):
        two_files(tmp_path, ["1,A-1"], ["1,A-1"], ["1", "2"])


def parquet(root: Path, user: pl.Series, **more: object) -> Path:
    frame = pl.DataFrame({"user": user, "product": ["p"] * len(user), "when": [WHEN] * len(user)}).with_columns(**more)
    return converted(root, frame)


@pytest.mark.parametrize(
    ("user", "says"),
    [
        (
            pl.Series([1.0, 1e20, 2e20]),
            r"client: 2 ids in column 'user'.*1e\+20 \(log.parquet .* 2\): Float64 .* below 2\^53",
        ),
        (pl.Series([2.0**53]), "such as 9007199254740992 "),
        (pl.Series([-(2.0**53)]), "such as -9007199254740992 "),
        (pl.Series([float("inf")]), "such as inf "),
        (pl.Series([16777216.0], dtype=pl.Float32), r"Float32 .* below 2\^24"),
        (pl.Series(["1.23457E+12"]), "it was a float before"),
        (pl.Series(["1e+20"]), "it was a float before"),
        (pl.Series(["9007199254740992.0"]), "it was a float before"),
        (pl.Series([b"\xff"]), "log.parquet cannot be read .*utf8"),
        (pl.Series([[1]]), r"List\(Int64\)"),
        (pl.Series([{"id": 1}]), "Struct"),
    ],
)
def test_ids_that_cannot_be_exact_are_refused_by_name(tmp_path: Path, user: pl.Series, says: str) -> None:
    with pytest.raises(KitError, match=says):
        parquet(tmp_path, user)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("user", "own"),
    [
        (pl.Series([2.0**53 - 1, 5.0]), [2**53 - 1, 5]),
        (pl.Series([2**63 + 5, 2**63 + 6], dtype=pl.UInt64), [str(2**63 + 5), str(2**63 + 6)]),
        (pl.Series([-7, 7]), ["-7", "7"]),
        (pl.Series([2**63 - 1, 0]), [2**63 - 1, 0]),
        (pl.Series([True, False]), ["true", "false"]),
        (pl.Series([Decimal("3.00"), Decimal("4.00")]), [3, 4]),
        (pl.Series(["b", "a"], dtype=pl.Categorical), ["b", "a"]),
        (pl.Series(["b ", "a"], dtype=pl.Enum(["b ", "a"])), ["b", "a"]),
        (pl.Series([b"b", b"a"]), ["b", "a"]),
        (pl.Series(["1e20", "2e20"]), ["1e20", "2e20"]),
        (pl.Series([1.5, 2.5]), ["1.5", "2.5"]),
        (pl.Series([12, 255], dtype=pl.UInt8), [12, 255]),
    ],
)
def test_ids_of_other_types_lead_back_to_themselves(tmp_path: Path, user: pl.Series, own: list[object]) -> None:
    out = parquet(tmp_path, user)
    path = out / "ids" / "client_id.parquet"
    names = dict(pl.read_parquet(path).rows()) if path.exists() else {}
    assert [names.get(row[0], row[0]) for row in rows(out, EventType.BUY)] == own


def test_nan_is_no_client(tmp_path: Path) -> None:
    """Before, two NaN made one giant client called NaN."""
    user = pl.Series([1.0, float("nan"), float("nan"), 2.0])
    frame = pl.DataFrame({"user": user, "product": ["p"] * 4, "when": [WHEN] * 4})
    out = converted(tmp_path, frame, 'keep = [{ column = "user", not_null = true }]\n')
    assert [row[0] for row in rows(out, EventType.BUY)] == [1, 2]


@pytest.mark.parametrize(("null", "clients"), [("", ["12", "NULL"]), ('null = ["NULL"]\n', [])])
def test_null_words_are_a_setting(tmp_path: Path, null: str, clients: list[str]) -> None:
    log = f"{LOG_HEADER}\n 12,p,2024-01-01,,\n12,p,2024-01-01,,\nNULL,p,2024-01-01,,"
    out = converted(tmp_path, log, "", ("[files.log]", f"{null}[files.log]"))
    path = out / "ids" / "client_id.parquet"
    assert (pl.read_parquet(path)["own"].to_list() if path.exists() else []) == clients
    assert len(rows(out, EventType.BUY)) == 2 + bool(clients)


ids = st.one_of(
    st.integers(-3, 30).map(str), st.integers(0, 5).map(lambda n: f"{n}.0"), st.sampled_from(["a", "017", "A-1"])
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ids, min_size=1, max_size=12), st.booleans())
def test_equal_numbers_share_an_id_and_nothing_else_does(texts: list[str], fraction: bool) -> None:
    texts = [*texts, "1.50"] if fraction else texts
    frame = pl.LazyFrame({"own": texts})
    meant = [text[:-2] if text.endswith(".0") and not fraction else text for text in texts]
    folded = whole_numbers("client", [frame])
    assert folded == (any(text.endswith(".0") for text in texts) and not fraction)
    spelled = pl.LazyFrame({"own": meant})
    space = IdSpace("client", [spelled])
    found = space.attach(spelled, "own").collect()["own"].to_list()
    assert [a == b for a in found for b in found] == [a == b for a in meant for b in meant]
