"""What `kit data check` calls an error is refused where it is used, in the same words; nothing is cut or dropped."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scored import score_submission

from kit.challenge import EventType
from kit.data.check import check_folder
from kit.data.check_split import require_targets
from kit.data.contract import inspect
from kit.data.layout import DataFolder, load_ids
from kit.data.scan import columns_of, ids_of, scan_events, scan_products
from kit.data.split import split_folder
from kit.errors import Finding, KitError, Severity
from kit.features.build import build_features
from kit.history import History
from kit.store import Store
from kit.tokens import TokenSettings, tokenise

Make = Callable[..., Path]
Change = Callable[[pl.DataFrame], pl.DataFrame]


def edit(path: Path, change: Change) -> None:
    change(pl.read_parquet(path)).write_parquet(path)


def cell(column: str, row: int, value: object) -> Change:
    def change(frame: pl.DataFrame) -> pl.DataFrame:
        values = frame[column].to_list()
        values[row] = value
        return frame.with_columns(pl.Series(column, values, strict=False))

    return change


def as_integers(unit: str) -> Change:
    def change(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.col("timestamp").str.to_datetime().dt.epoch(unit).alias("timestamp"))  # type: ignore[arg-type]

    return change


def as_times(dtype: pl.DataType, factor: int = 1) -> Change:
    """Times as `dtype` whose stored number is that of the right one times `factor`: a unit that was misread."""

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        right = pl.col("timestamp").str.to_datetime(time_unit="us").dt.epoch("us")
        return frame.with_columns((right * factor).cast(dtype).alias("timestamp"))

    return change


def errors(root: Path, store: Store) -> list[Finding]:
    return [finding for finding in check_folder(root, store) if finding.severity is Severity.ERROR]


DAMAGE: dict[str, tuple[str, Change, str, str]] = {
    "null client": (
        "page_visit",
        cell("client_id", 3, None),
        "1 rows of client_id are empty; the first is row 3: None",
        "",
    ),
    "half a client": (
        "page_visit",
        cell("client_id", 3, 123.5),
        "1 rows of client_id are not whole numbers; the first is row 3: 123.5",
        "",
    ),
    "float clients from 2^53 on": (
        "page_visit",
        lambda f: f.with_columns(pl.col("client_id").cast(pl.Float64) + 2.0**60),
        "rows of client_id are floats from 2^53 on, which stand for several ids each; the first is row 0",
        "",
    ),
    "unsigned clients": (
        "page_visit",
        lambda f: f.with_columns(pl.lit(2**63 + 5, dtype=pl.UInt64).alias("client_id")),
        "rows of client_id do not fit into int64; the first is row 0: 9223372036854775813",
        "",
    ),
    "text clients": (
        "page_visit",
        lambda f: f.cast({"client_id": pl.String}),
        "client_id is String",
        "kit data convert",
    ),
    "null time": (
        "add_to_cart",
        cell("timestamp", 0, None),
        "1 rows of timestamp are empty; the first is row 0: None",
        "",
    ),
    "null sku": ("product_buy", cell("sku", 5, None), "1 rows of sku are empty; the first is row 5: None", ""),
    "raw prices": (
        "product_properties",
        cell("price", 2, 999),
        "1 rows of price are outside 0 .. 99; the first is row 2: 999",
        "buckets",
    ),
    "integer ns": ("page_visit", as_integers("ns"), "timestamp is Int64", "pl.from_epoch"),
    "integer s": ("page_visit", as_integers("s"), "timestamp is Int64", "pl.from_epoch"),
    "year 55969": (
        "page_visit",
        as_times(pl.Datetime("us"), 1000),
        "rows of timestamp lie before 1971 or after",
        "Divided by 1,000 the first would be 2022-",
    ),
    "milliseconds read as seconds": (
        "product_buy",
        as_times(pl.Datetime("ms")),
        "the first is row 0: a day in the year 5",
        "Divided by 1,000 the first would be 2022-",
    ),
    "seconds read as milliseconds": (
        "page_visit",
        lambda f: f.with_columns(
            pl.col("timestamp").str.to_datetime(time_unit="us").dt.epoch("s").cast(pl.Datetime("ms")).alias("timestamp")
        ),
        "the first is row 0: 1970-01-",
        "Times 1,000 the first would be 2022-",
    ),
    "with a zone, out of the calendar": (
        "page_visit",
        as_times(pl.Datetime("ms", "Europe/Berlin"), 1000),
        "rows of timestamp lie before 1971 or after",
        "Divided by 1,000,000 the first",
    ),
    "text before 1971": (
        "page_visit",
        cell("timestamp", 4, "1969-12-31 23:59:59"),
        "1 rows of timestamp lie before 1971 or after {next}; the first is row 4: '1969-12-31 23:59:59'",
        "",
    ),
    "text after next year": (
        "page_visit",
        cell("timestamp", 4, "9999-01-01 00:00"),
        "1 rows of timestamp lie before 1971 or after {next}; the first is row 4: '9999-01-01 00:00'",
        "",
    ),
    "text with a zone": (
        "page_visit",
        cell("timestamp", 4, "2022-06-01T10:00:00Z"),
        "1 rows of timestamp are not timestamps of the form",
        "",
    ),
    "20 codes": (
        "search_query",
        lambda f: f.with_columns(query=pl.lit(str(list(range(20))))),
        "are not 16 codes 0 .. 255; the first is row 0: 20 codes, '[0, 1, 2,",
        "keep the same 16 places in names and queries",
    ),
    "negative code": (
        "search_query",
        cell("query", 1, "[" + "7 " * 15 + "-1]"),
        "1 rows of query are not 16 codes 0 .. 255; the first is row 1: 16 codes, '[7",
        "",
    ),
    "large code in a list": (
        "product_properties",
        lambda f: cell("name", 2, [1] * 15 + [256])(
            f.with_columns(pl.col("name").str.extract_all(r"\d+").cast(pl.List(pl.Int64)))
        ),
        "1 rows of name are not 16 codes 0 .. 255; the first is row 2: 16 codes, [1",
        "",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_check_split_and_history_refuse_in_the_same_words(make_folder: Make, store: Store, case: str) -> None:
    stem, change, says, remedy = DAMAGE[case]
    says = says.replace("{next}", str(datetime.now().year + 1))
    root = make_folder(rows=400)
    folder = DataFolder(root)
    split_folder(root, store=store)
    edit(root / f"{stem}.parquet", change)
    found = [finding for finding in errors(root, store) if finding.where.startswith(f"{stem}.parquet")]
    assert says in found[0].what and remedy in found[0].remedy
    with pytest.raises(KitError) as splitting:
        split_folder(root, store=store)
    with pytest.raises(KitError) as opening:
        History.open(folder, "end", store=store)
    for refused in (splitting, opening):
        assert refused.value.what == f"{found[0].where}: {found[0].what}"
        assert refused.value.remedy.startswith(found[0].remedy)


def test_the_input_is_looked_through_too(make_folder: Make, store: Store) -> None:
    root = make_folder()
    split_folder(root, store=store)
    edit(DataFolder(root).input(EventType.VISIT), cell("client_id", 6, None))
    what = "input/page_visit.parquet client_id, row 6: 1 rows of client_id are empty; the first is row 6: None."
    assert [f"{finding.where}: {finding.what}" for finding in errors(root, store)] == [what]
    with pytest.raises(KitError) as refused:
        History.open(DataFolder(root), store=store)
    assert refused.value.what == what
    DataFolder(root).input(EventType.VISIT).unlink()
    with pytest.raises(KitError, match=r"input/page_visit.parquet: is missing although the folder is split\."):
        History.open(DataFolder(root), store=store)


def test_a_file_is_looked_through_once_per_content(
    make_folder: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder()
    path, columns = root / "page_visit.parquet", columns_of(EventType.VISIT)
    edit(path, cell("client_id", 3, None))
    first = inspect(path, columns, store)
    with monkeypatch.context() as patch:
        patch.setattr("kit.data.contract.check_table", lambda *_: pytest.fail("looked through again"))
        assert inspect(path, columns, store) == first
        other = root.parent / "other" / "page_visit.parquet"
        other.parent.mkdir()
        other.write_bytes(path.read_bytes())
        assert inspect(other, columns, store).findings == first.findings
    edit(path, cell("client_id", 3, 1))
    assert inspect(path, columns, store).findings == []


def test_ids_near_2_60_stay_what_they_are(make_folder: Make, store: Store) -> None:
    root = make_folder()
    for kind in EventType:
        edit(root / f"{kind.value}.parquet", lambda f: f.with_columns(pl.col("client_id") + 2**60))
    for stem in ("product_buy", "add_to_cart", "remove_from_cart", "product_properties"):
        edit(root / f"{stem}.parquet", lambda f: f.with_columns(pl.col("sku") + 2**60))
    split_folder(root, store=store)
    folder = DataFolder(root)
    start = folder.split().train_start
    seen = {
        row[0] for kind in EventType for row in scan_events(folder.raw(kind), kind).collect().rows() if row[1] < start
    }
    assert folder.clients().tolist() == sorted(seen) and min(seen) > 2**60
    history = History.open(folder, store=store)
    assert set(history.events(EventType.BUY).collect()["client_id"]) <= seen
    assert history.products().collect()["sku"].min() == 2**60 + 1000
    with pytest.raises(ValueError, match="1 nulls"):
        ids_of(pl.Series("client_id", [2**60 + 1, None]))
    np.save(root / "unsigned.npy", np.array([2**63 + 1], dtype=np.uint64))
    with pytest.raises(KitError, match="holds the id 9223372036854775809"):
        load_ids(root / "unsigned.npy", "")


TIMES = {
    "2022-06-23 01:02": (1, 2, 0, 0),
    "2022-06-23T01:02": (1, 2, 0, 0),
    "2022-06-23 01:02:03": (1, 2, 3, 0),
    "2022-06-23T01:02:03": (1, 2, 3, 0),
    "2022-06-23 01:02:03.4": (1, 2, 3, 400_000),
    "2022-06-23 01:02:03.456": (1, 2, 3, 456_000),
    "2022-06-23T01:02:03.000457": (1, 2, 3, 457),
}


@given(given=st.lists(st.sampled_from(sorted(TIMES)), min_size=1, max_size=30))
def test_times_in_every_written_form_may_be_mixed(tmp_path_factory: pytest.TempPathFactory, given: list[str]) -> None:
    path = tmp_path_factory.mktemp("times") / "page_visit.parquet"
    frame = pl.DataFrame({"client_id": [1] * len(given), "timestamp": given, "url": [9] * len(given)})
    frame.write_parquet(path)
    read = scan_events(path, EventType.VISIT).collect()["timestamp"].to_list()
    assert read == [datetime(2022, 6, 23, *TIMES[text]) for text in given]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_milliseconds_survive_and_ties_keep_file_order(make_folder: Make, store: Store, unit: str) -> None:
    root = make_folder()
    moment = datetime(2022, 6, 1, 12)
    late = [(30, 0), (10, 400), (20, 400), (15, 400), (99, 399)]  # url, milliseconds
    rows = pl.DataFrame(
        {
            "client_id": [1] * 5,
            "timestamp": [moment + timedelta(milliseconds=ms) for _, ms in late],
            "url": [u for u, _ in late],
        },
        schema_overrides={"timestamp": pl.Datetime(unit)},  # type: ignore[arg-type]
    )
    timed = as_times(pl.Datetime("us"))
    edit(root / "page_visit.parquet", lambda f: pl.concat([timed(f).cast(rows.schema), rows]))
    split_folder(root, store=store)
    for cut in ("input", "end"):
        got = History.open(DataFolder(root), cut, store=store).events(EventType.VISIT).collect()  # type: ignore[arg-type]
        mine = got.filter(
            pl.col("client_id") == 1, pl.col("timestamp").is_between(moment, moment + timedelta(seconds=1))
        )
        assert mine["url"].to_list() == [30, 99, 10, 20, 15]
        assert mine["timestamp"].dt.millisecond().to_list() == [0, 399, 400, 400, 400]


@pytest.mark.parametrize("turned", [False, True])
def test_what_was_touched_last_is_what_the_file_says(make_folder: Make, store: Store, turned: bool) -> None:
    """Through tables, tokens and features: ties keep file order, also when another client's rows lie between them."""
    root = make_folder(rows=200)
    when = ["2022-06-20 12:00:00.400"] * 3 + ["2022-06-20 12:00:00.100"]
    skus = [1001, 1003, 1002, 1004]
    order = [2, 1, 0, 3] if turned else [0, 1, 2, 3]
    rows = pl.DataFrame({"client_id": [900] * 4, "timestamp": when, "sku": skus})[order]
    edit(root / "product_buy.parquet", lambda f: pl.concat([rows[:2], f, rows[2:]]))
    edit(root / "product_properties.parquet", lambda f: f.with_columns(price=pl.col("sku") - 1000))
    edit(root / "product_properties.parquet", lambda f: f.with_columns(pl.col("price").clip(0, 99)))
    split_folder(root, store=store)
    history = History.open(DataFolder(root), store=store).among(np.array([900]))
    expected = [1004, *([1002, 1003, 1001] if turned else [1001, 1003, 1002])]
    assert history.events(EventType.BUY).collect()["sku"].to_list() == expected
    tokens = tokenise(history, TokenSettings())
    assert tokens.vocabulary.catalogue.sku[tokens.product].tolist() == expected
    (frame,) = build_features(history, ["price"])
    assert frame["price__buy_last"].item() == expected[-1] - 1000


def test_dates_are_midnights_and_zones_are_utc(make_folder: Make, store: Store) -> None:
    root = make_folder()
    edit(root / "page_visit.parquet", lambda f: f.with_columns(pl.col("timestamp").str.to_date("%Y-%m-%d %H:%M:%S")))
    edit(root / "add_to_cart.parquet", as_times(pl.Datetime("ns", "Asia/Tokyo"), 1000))
    infos = {f.where: f.what for f in check_folder(root, store) if f.severity is Severity.INFO}
    assert infos["page_visit.parquet timestamp"] == "timestamp is a date."
    assert infos["add_to_cart.parquet timestamp"] == "timestamp has the time zone Asia/Tokyo."
    assert not errors(root, store)
    split_folder(root, store=store)
    stamps = pl.read_parquet(DataFolder(root).input(EventType.VISIT))["timestamp"]
    assert stamps.dtype == pl.Datetime("us") and set(stamps.dt.hour()) == {0}


def test_the_name_column_may_be_called_embedding(
    make_folder: Make, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    root, other = make_folder("name"), make_folder("embedding")
    edit(other / "product_properties.parquet", lambda f: f.rename({"name": "embedding"}))
    found = [f for f in check_folder(other, store) if "embedding" in f.where]
    assert [(f.severity, f.what) for f in found] == [
        (Severity.INFO, "calls the column name embedding, as the organisers' page does.")
    ]
    split_folder(root, store=store)
    capsys.readouterr()
    split_folder(other, store=store)
    assert capsys.readouterr().err.count("embedding, as the organisers' page does") == 1
    assert_frame_equal(
        scan_products(root / "product_properties.parquet").collect(),
        scan_products(other / "product_properties.parquet").collect(),
    )
    for window in ("train", "validation"):
        assert_frame_equal(
            pl.read_parquet(DataFolder(root).window(window)), pl.read_parquet(DataFolder(other).window(window))
        )


def test_the_split_is_judged_by_the_content_of_what_it_was_made_from(
    make_folder: Make, store: Store, tmp_path: Path
) -> None:
    root = make_folder()
    folder = DataFolder(root)
    split_folder(root, store=store)
    assert not errors(root, store)
    edit(root / "page_visit.parquet", lambda f: f.with_columns(pl.col("url") + 1))  # as many rows as before
    words = "input/page_visit.parquet: was made from another page_visit.parquet than lies here now: the split is stale."
    assert [f"{f.where}: {f.what}" for f in errors(root, store)] == [words]
    with pytest.raises(KitError) as refused:
        History.open(folder, store=store)
    assert refused.value.what == words
    assert f"kit data split {root}" in refused.value.remedy
    History.open(folder, "end", store=store)  # reads the raw files, as they are now
    split_folder(root, store=store)
    History.open(folder, store=store)
    edit(root / "product_properties.parquet", lambda f: f.with_columns(pl.lit(7, dtype=pl.Int64).alias("price")))
    with pytest.raises(
        KitError, match=r"target/train_target.parquet: was made from another product_properties.parquet"
    ):
        score_submission(tmp_path, folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (cell("client_id", 0, None), "1 rows of client_id are empty"),
        (lambda frame: frame.with_columns(pl.col("client_id") + 0.5), "client_id are not whole numbers"),
        (lambda frame: frame.with_columns(pl.col("sku").cast(pl.String)), "sku is String"),
        (cell("price", 0, 300), "1 rows of price are outside 0 .. 99"),
        (lambda frame: frame.with_columns(pl.col("timestamp").dt.offset_by("60d")), "lie outside the window"),
    ],
)
def test_target_windows_are_looked_through_too(make_folder: Make, store: Store, change: Change, says: str) -> None:
    """Labels made of a truncated id or of another month would be wrong without a word."""
    root = make_folder()
    split_folder(root, store=store)
    require_targets(DataFolder(root), store)
    edit(root / "target" / "train_target.parquet", change)
    found = [finding for finding in errors(root, store) if finding.where.startswith("target/train_target.parquet")]
    assert says in found[0].what
    with pytest.raises(KitError, match=re.escape(found[0].what)):
        require_targets(DataFolder(root), store)
