"""`kit data check` finds each planted fault, names file, column and row, and finds all of them at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from kit.challenge import EventType
from kit.cli.data import app
from kit.data.check import check_folder
from kit.data.layout import DataFolder
from kit.data.split import split_folder
from kit.errors import Finding, KitError, Severity
from kit.tasks import CATEGORY, PRICE, SKU

Make = Callable[..., Path]


def edit(root: Path, stem: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    path = root / f"{stem}.parquet"
    change(pl.read_parquet(path)).write_parquet(path)


def with_value(column: str, row: int, value: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """A change of one cell."""

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        values = frame[column].to_list()
        values[row] = value
        return frame.with_columns(pl.Series(column, values))

    return change


def one(findings: list[Finding], where: str, words: str) -> Finding:
    """The finding at `where` that says `words`; there must be exactly one."""
    hits = [f for f in findings if where in f.where and words in f.what]
    assert len(hits) == 1, [f.as_json() for f in findings]
    assert hits[0].remedy
    return hits[0]


def errors(findings: list[Finding]) -> list[Finding]:
    return [f for f in findings if f.severity is Severity.ERROR]


def test_a_sound_folder_has_no_errors_before_and_after_the_split(make_folder: Make) -> None:
    root = make_folder()
    before = check_folder(root)
    assert not errors(before)
    one(before, "target/", "not split yet")
    one(before, "product_buy.parquet", "exact duplicates")
    split_folder(root)
    after = check_folder(root)
    assert {f.severity for f in after} == {Severity.INFO}


@pytest.mark.parametrize(
    ("stem", "column", "row", "value", "severity", "says"),
    [
        ("page_visit", "timestamp", 7, "2022-13-01 00:00:00", Severity.ERROR, "1 rows of timestamp are not timestamps"),
        ("page_visit", "timestamp", 7, "2022-06-01", Severity.ERROR, "the first is row 7: '2022-06-01'"),
        ("add_to_cart", "timestamp", 0, None, Severity.ERROR, "timestamp are empty; the first is row 0"),
        ("product_buy", "client_id", 11, None, Severity.ERROR, "client_id are empty; the first is row 11"),
        ("product_buy", "client_id", 11, -1, Severity.WARNING, "client_id are negative; the first is row 11: -1"),
        ("search_query", "query", 3, "[1 2 3]", Severity.ERROR, "query are not 16 codes"),
        ("search_query", "query", 3, "[" + "7 " * 15 + "256]", Severity.ERROR, "the first is row 3"),
        ("search_query", "query", 3, "[" + "7 " * 15 + "-1]", Severity.ERROR, "the first is row 3"),
        ("search_query", "query", 3, "[" + "7 " * 15 + "1.5]", Severity.ERROR, "the first is row 3"),
        ("product_properties", "name", 5, "", Severity.ERROR, "name are not 16 codes"),
        ("product_properties", "price", 5, 100, Severity.ERROR, "price are outside 0 .. 99; the first is row 5: 100"),
        ("product_properties", "price", 5, -1, Severity.ERROR, "price are outside"),
    ],
)
def test_a_bad_cell_is_found_with_its_row(
    make_folder: Make, stem: str, column: str, row: int, value: object, severity: Severity, says: str
) -> None:
    root = make_folder()
    edit(root, stem, with_value(column, row, value))
    assert one(check_folder(root), f"{stem}.parquet {column}, row {row}", says).severity is severity


def test_types_and_columns(make_folder: Make) -> None:
    root = make_folder()
    halves = pl.col("client_id") + pl.when(pl.int_range(pl.len()) == 4).then(0.5).otherwise(0.0)
    edit(root, "page_visit", lambda f: f.with_columns(halves, extra=pl.lit(1)))
    edit(root, "product_buy", lambda f: f.with_columns(pl.col("sku").cast(pl.String)))
    edit(root, "add_to_cart", lambda f: f.rename({"sku": "item"}))
    edit(root, "remove_from_cart", lambda f: f.with_columns(pl.int_range(pl.len()).alias("timestamp")))
    edit(root, "product_properties", lambda f: f.drop("category").with_columns(pl.col("price").cast(pl.Int16)))
    found = check_folder(root)
    assert "row 4" in one(found, "page_visit", "not whole numbers").what
    assert one(found, "page_visit", "surplus column extra").severity is Severity.WARNING
    assert one(found, "product_buy", "sku is String").severity is Severity.ERROR
    assert "lacks the column sku; it has ['client_id', 'timestamp', 'item']" in one(found, "add_to_cart", "lacks").what
    assert one(found, "add_to_cart", "surplus column item")
    assert one(found, "remove_from_cart", "timestamp is Int64").severity is Severity.ERROR
    assert one(found, "product_properties", "no category column").severity is Severity.WARNING
    assert one(found, "product_properties", "price is Int16, not int64").severity is Severity.WARNING


def test_missing_empty_and_truncated_files(make_folder: Make) -> None:
    root = make_folder(rows=4000)
    (root / "add_to_cart.parquet").unlink()
    edit(root, "search_query", lambda f: f.head(0))
    edit(root, "product_buy", lambda f: f.head(0))
    whole = (root / "page_visit.parquet").read_bytes()
    (root / "page_visit.parquet").write_bytes(whole[: len(whole) // 2])
    (root / "remove_from_cart.parquet").write_bytes(whole[:400] + bytes(300) + whole[700:])
    found = check_folder(root)
    assert one(found, "add_to_cart", "is missing").severity is Severity.ERROR
    assert one(found, "search_query", "no rows").severity is Severity.WARNING
    assert one(found, "product_buy", "no rows").severity is Severity.ERROR
    assert one(found, "page_visit", "cannot be read as parquet").severity is Severity.ERROR
    assert [f for f in errors(found) if "remove_from_cart" in f.where]


def test_skus_and_clients_without_a_counterpart(make_folder: Make) -> None:
    root = make_folder(rows=300)
    edit(
        root,
        "product_properties",
        lambda f: pl.concat([f.filter(pl.col("sku") > 1002), f.filter(pl.col("sku") == 1050)]),
    )
    (root / "input").mkdir()
    np.save(root / "input" / "relevant_clients.npy", np.array([1, 2, 3, 3, 555, 556, 557]))
    found = check_folder(root)
    bought = pl.read_parquet(root / "product_buy.parquet").filter(pl.col("sku") <= 1002)
    hit = one(found, "product_buy.parquet sku", "without properties")
    assert hit.severity is Severity.ERROR
    assert hit.what.startswith(f"{bought.height} rows name {bought['sku'].n_unique()} skus")
    assert one(found, "add_to_cart.parquet sku", "without properties").severity is Severity.WARNING
    assert "[1050]" in one(found, "product_properties.parquet sku", "more than one row").what
    assert one(found, "relevant_clients.npy", "1 ids occur twice, such as [3]").severity is Severity.ERROR
    assert one(found, "relevant_clients.npy", "3 of 6 relevant clients (50.0%)").severity is Severity.WARNING


def test_a_valid_change_of_what_the_split_wrote_is_noticed(make_folder: Make) -> None:
    root = make_folder(rows=300)
    folder = DataFolder(root)
    split_folder(root)
    before = check_folder(root)
    assert not [finding for finding in before if "folder was split" in finding.what]
    edit(root, "input/product_buy", lambda f: f.with_columns(pl.col("client_id").reverse()))
    np.save(folder.popularity(SKU.name), np.load(folder.popularity(SKU.name)) + 1)
    folder.targets(PRICE.name).unlink()
    found = [finding for finding in check_folder(root) if "folder was split" in finding.what]
    assert {(finding.where, finding.what.split()[1], finding.severity) for finding in found} == {
        ("input/product_buy.parquet", "another", Severity.WARNING),
        ("target/popularity_propensity_sku.npy", "another", Severity.WARNING),
        ("target/propensity_price.npy", "gone", Severity.WARNING),
    }


def test_span(make_folder: Make) -> None:
    root = make_folder()
    edit(root, "page_visit", with_value("timestamp", 1, "2023-01-01 00:00:00"))
    assert "up to 2023-01-01" in one(check_folder(root), "page_visit.parquet", "after the last purchase").what
    for kind in EventType:
        edit(root, kind.value, lambda f: f.filter(pl.col("timestamp") > "2022-07-01"))
    assert one(check_folder(root), "all event files", "nothing lies before the cut").severity is Severity.ERROR


def test_a_stale_or_damaged_split_is_an_error(make_folder: Make) -> None:
    root = make_folder()
    folder = DataFolder(root)
    split_folder(root)
    edit(root, "page_visit", lambda f: f.head(500))
    edit(root, "product_buy", lambda f: f.filter(pl.col("timestamp") < "2022-07-12"))
    folder.input(EventType.CART).unlink()
    leaky = pl.read_parquet(folder.input(EventType.REMOVE)).with_columns(pl.col("timestamp") + pl.duration(days=40))
    leaky.write_parquet(folder.input(EventType.REMOVE))
    np.save(folder.popularity(SKU.name), np.arange(3))
    np.save(folder.popularity(PRICE.name), np.zeros(100, dtype=np.int64))
    np.save(folder.targets(CATEGORY.name), np.zeros(12, dtype=np.int64))
    np.save(folder.active_clients, np.array([1, 2, 4242], dtype=np.int64))
    found = check_folder(root)
    assert one(found, "input/page_visit", "the split is stale")
    assert one(found, "target/validation_target", "the split is stale")
    assert one(found, "input/add_to_cart", "missing although the folder is split")
    assert one(found, "input/remove_from_cart", "the targets leak")
    assert one(found, "target/propensity_sku.npy", "popularity has the shape (3,)")
    assert one(found, "target/popularity_propensity_price.npy", "divide by 0")
    assert one(found, "target/propensity_category.npy", "lists a target twice")
    assert one(found, "target/active_clients.npy", "1 of 3 active clients").severity is Severity.WARNING
    folder.split_file.write_text("{")
    assert one(check_folder(root), "target/split.json", "cannot be read").severity is Severity.ERROR
    folder.split_file.unlink()
    assert one(check_folder(root), "target/split.json", "no split.json").severity is Severity.WARNING


def test_duplicates_of_large_files_are_counted_among_some_clients(
    make_folder: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder()
    for kind in EventType:
        edit(root, kind.value, lambda f: pl.concat([f.unique(), f.unique()]))
    monkeypatch.setattr("kit.data.check.SAMPLE_ROWS", 500)
    assert "50.0% of the rows are exact duplicates of another (among one client in" in (
        one(check_folder(root), "product_buy", "exact duplicates").what
    )


def test_integer_lists_are_codes_too(make_folder: Make) -> None:
    root = make_folder()
    parsed = pl.col("query").str.extract_all(r"\d+").cast(pl.List(pl.Int64))
    edit(root, "search_query", lambda f: f.with_columns(parsed))
    assert not errors(check_folder(root))
    edit(root, "search_query", with_value("query", 2, [1] * 15 + [300]))
    assert "the first is row 2" in one(check_folder(root), "search_query", "not 16 codes").what


def test_command(make_folder: Make) -> None:
    root = make_folder()
    sound = CliRunner().invoke(app, ["check", str(root), "--json"])
    assert sound.exit_code == 0
    assert json.loads(sound.stdout)["ok"] is True
    edit(root, "product_properties", with_value("price", 0, 500))
    bad = CliRunner().invoke(app, ["check", str(root), "--json"])
    report = json.loads(bad.stdout)
    assert bad.exit_code == 1
    assert report["ok"] is False
    assert set(report["findings"][0]) == {"severity", "what", "where", "remedy"}
    assert report["findings"][0]["severity"] == "error"
    shown = CliRunner().invoke(app, ["check", str(root)]).stdout
    assert "has errors (1 error" in shown
    assert "price, row 0: 1 rows of price are outside 0 .. 99; the first is row 0: 500." in shown
    with pytest.raises(KitError, match="no data folder"):
        check_folder(root / "nowhere")
    result = CliRunner().invoke(app, ["split", str(make_folder("other"))])
    assert result.exit_code == 0, result.output
    assert "validation" in result.stdout


def test_a_shop_whose_making_was_stopped_is_finished_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ["synth", str(tmp_path / "shop"), "--preset", "tiny", "--seed", "3"]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("kit.data.split.split_folder", "kit.scoring.ceiling.write_ceiling"):
        with monkeypatch.context() as patch:
            patch.setattr(step, stop)
            assert CliRunner().invoke(app, call).exit_code != 0
    before = (tmp_path / "shop" / "product_buy.parquet").stat().st_mtime_ns
    assert CliRunner().invoke(app, call).exit_code == 0
    folder = DataFolder(tmp_path / "shop")
    assert folder.ceiling.exists() and folder.split_file.exists()
    assert (tmp_path / "shop" / "product_buy.parquet").stat().st_mtime_ns == before
    again = CliRunner().invoke(app, call)
    assert isinstance(again.exception, KitError) and "is not empty" in again.exception.what
    other = CliRunner().invoke(app, [*call[:-1], "4"])
    assert isinstance(other.exception, KitError)


def test_synth_makes_a_sound_split_folder_and_stats_describe_it(tmp_path: Path) -> None:
    root = tmp_path / "shop"
    made = CliRunner().invoke(app, ["synth", str(root), "--preset", "tiny", "--seed", "3"])
    assert made.exit_code == 0, made.output
    assert DataFolder(root).is_split
    assert DataFolder(root).ceiling.exists()
    assert not errors(check_folder(root))
    rows = json.loads(CliRunner().invoke(app, ["stats", str(root), "--json"]).stdout)
    assert {"metric", "here", "published"} <= set(rows[0])
    assert "published" in CliRunner().invoke(app, ["stats", str(root)]).stdout
