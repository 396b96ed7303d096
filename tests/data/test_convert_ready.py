"""The four ready mappings, on rows with known answers."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from own_shop import layout_is_sound, rows

from kit.challenge import EventType
from kit.data.check import check_folder
from kit.data.convert import convert, ready_mappings
from kit.data.convert.mapping import mapping_path, read_mapping
from kit.data.layout import DataFolder
from kit.data.scan import scan_products
from kit.data.split import split_folder
from kit.errors import Severity
from kit.history import History
from kit.store import Store

RETAIL = Path(__file__).parents[3] / "shared" / "data" / "online-retail"


def shown(root: Path, kind: EventType) -> list[tuple[object, ...]]:
    """Rows with their times to the millisecond."""
    return [(client, str(time)[:23], item) for client, time, item in rows(root, kind)]


RETAILROCKET = """timestamp,visitorid,event,itemid,transactionid
1433221332117,257597,view,355908,
1433224214164,992329,addtocart,248676,
1433221999827,111016,view,318965,
1433221999827,111016,view,318965,
1433222276276,599528,transaction,356475,4000
"""
PROPERTIES_1 = """timestamp,itemid,property,value
1435460400000,356475,categoryid,1338
1441508400000,356475,790,n9360.000
1435460400000,356475,790,n1.000
1435460400000,248676,790,n39588.000
"""
PROPERTIES_2 = """timestamp,itemid,property,value
1439089200000,248676,categoryid,1509
1441508400000,356475,categoryid,1509
1433041200000,7,categoryid,99
1433041200000,7,888,1121373 n24.000
"""


def test_retailrocket(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(RETAILROCKET)
    (tmp_path / "item_properties_part1.csv").write_text(PROPERTIES_1)
    (tmp_path / "item_properties_part2.csv").write_text(PROPERTIES_2)
    out = tmp_path / "shop"
    convert("retailrocket", tmp_path, out)
    assert shown(out, EventType.VISIT) == [
        (257597, "2015-06-02 05:02:12.117", 355908),
        (111016, "2015-06-02 05:13:19.827", 318965),
        (111016, "2015-06-02 05:13:19.827", 318965),
    ]
    assert shown(out, EventType.CART) == [(992329, "2015-06-02 05:50:14.164", 248676)]
    assert shown(out, EventType.BUY) == [(599528, "2015-06-02 05:17:56.276", 356475)]
    assert rows(out, EventType.REMOVE) == rows(out, EventType.SEARCH) == []
    products = pl.read_parquet(out / "product_properties.parquet").drop("name").rows(named=True)
    # The last snapshot counts, of both files. Categories are ranked as text from 1. Items without a price get the median.
    assert [(p["sku"], p["category"]) for p in products] == [(7, 2), (248676, 1), (356475, 1)]
    assert products[2]["price"] < products[0]["price"] < products[1]["price"]
    assert pl.read_parquet(out / "ids" / "category.parquet").rows() == [(1, "1509"), (2, "99")]
    assert not (out / "ids" / "sku.parquet").exists()
    layout_is_sound(out)


REES46 = """event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session
2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde
2019-10-01 00:00:04 UTC,cart,1004237,2053013555631882655,electronics.smartphone,apple,1081.98,535871217,c6bd7419
2019-10-01 00:00:05 UTC,cart,1004237,2053013555631882655,electronics.smartphone,apple,1079.98,535871217,c6bd7419
"""
REES46_NEXT = """event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session
2019-11-01 00:00:07 UTC,purchase,1004237,2053013555631882655,electronics.smartphone,apple,1081.98,535871217,c6bd7419
2019-11-01 00:00:09 UTC,purchase,5,2053013555631882655,,,0.00,541312140,c6bd7419
2019-11-01 00:00:09 UTC,purchase,5,2053013555631882655,,,0.00,,c6bd7419
"""


def test_rees46(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "2019-Nov.csv").write_text(REES46_NEXT)
    (tmp_path / "2019-Oct.csv").write_text(REES46)
    out = tmp_path / "shop"
    convert("rees46", tmp_path, out)
    assert rows(out, EventType.VISIT) == [(541312140, "2019-10-01 00:00:00", 44600062)]
    assert rows(out, EventType.CART) == [
        (535871217, "2019-10-01 00:00:04", 1004237),
        (535871217, "2019-10-01 00:00:05", 1004237),
    ]
    assert rows(out, EventType.BUY) == [
        (535871217, "2019-11-01 00:00:07", 1004237),
        (541312140, "2019-11-01 00:00:09", 5),
    ]
    assert rows(out, EventType.REMOVE) == []
    products = pl.read_parquet(out / "product_properties.parquet")
    # Product 5 costs nothing anywhere: it takes the bucket of its category, that is of 1004237. It has no name either.
    assert products.drop("name", "first_seen").rows() == [(5, 1, 99), (1004237, 1, 99), (44600062, 2, 0)]
    said = capsys.readouterr().err
    assert "product_buy: 2 events, 1 more without client, item or time left out" in said
    assert "1 of 3 products have no name" in said
    layout_is_sound(out)


def test_otto(tmp_path: Path) -> None:
    sessions = [
        {
            "session": 11,
            "events": [
                {"aid": 59625, "ts": 1659304800025, "type": "clicks"},
                {"aid": 59625, "ts": 1659304904511, "type": "carts"},
            ],
        },
        {"session": 12, "events": [{"aid": 1142000, "ts": 1659304988364, "type": "orders"}]},
    ]
    (tmp_path / "otto-recsys-train.jsonl").write_text("\n".join(json.dumps(line) for line in sessions) + "\n")
    out = tmp_path / "shop"
    convert("otto", tmp_path, out)
    assert shown(out, EventType.VISIT) == [(11, "2022-07-31 22:00:00.025", 59625)]
    assert shown(out, EventType.CART) == [(11, "2022-07-31 22:01:44.511", 59625)]
    assert shown(out, EventType.BUY) == [(12, "2022-07-31 22:03:08.364", 1142000)]
    products = scan_products(out / "product_properties.parquet").collect()
    assert products.drop("name").rows() == [(59625, 0, 0), (1142000, 0, 0)]
    first, second = products["name"].to_list()
    assert first[:12] == second[:12]
    assert first[12:] != second[12:]
    layout_is_sound(out)


@pytest.mark.slow
@pytest.mark.skipif(not RETAIL.exists(), reason="UCI Online Retail is not here")
def test_online_retail(tmp_path: Path) -> None:
    """Counts of the data set's README with its drop rules switched off, and a sound, split folder with them on."""
    log = pl.read_parquet(RETAIL / "online_retail.parquet").filter(pl.col("CustomerID").is_not_null())
    text = mapping_path("online-retail").read_text(encoding="utf-8")
    for rule in (
        """    { column = "StockCode", matches = '^\\d{5}' },\n""",
        """    { column = "UnitPrice", above = 0 },\n""",
    ):
        assert rule in text
        text = text.replace(rule, "")
    text = text.replace('name = "Description"\n', "")
    (tmp_path / "all.toml").write_text(text, encoding="utf-8")
    convert(str(tmp_path / "all.toml"), RETAIL / "online_retail.parquet", tmp_path / "all")
    bought = pl.read_parquet(tmp_path / "all" / "product_buy.parquet")
    assert (bought.height, bought["client_id"].n_unique(), bought["sku"].n_unique()) == (397_924, 4_339, 3_665)
    assert pl.read_parquet(tmp_path / "all" / "remove_from_cart.parquet").height == 8_905

    out = tmp_path / "shop"
    convert("online-retail", RETAIL, out)
    kept = log.filter(pl.col("StockCode").str.contains(r"^\d{5}") & (pl.col("UnitPrice") > 0))
    cancelled = pl.col("InvoiceNo").str.starts_with("C")
    names = pl.read_parquet(out / "ids" / "sku.parquet").rename({"id": "sku"})
    for kind, part in ((EventType.BUY, ~cancelled & (pl.col("Quantity") > 0)), (EventType.REMOVE, cancelled)):
        frame = pl.read_parquet(out / f"{kind.value}.parquet")
        expected = kept.filter(part)
        own = frame.join(names, on="sku", how="left", maintain_order="left")
        assert own["client_id"].to_list() == expected["CustomerID"].cast(pl.Int64).to_list()
        assert own["own"].to_list() == expected["StockCode"].to_list()
        assert frame["timestamp"].to_list() == expected["InvoiceDate"].dt.strftime("%Y-%m-%d %H:%M:%S").to_list()
    products = scan_products(out / "product_properties.parquet").collect()
    assert products.height == kept["StockCode"].n_unique()
    counts = Counter(products["price"].to_list())
    assert min(counts) == 0
    assert max(counts) == 99
    assert not [f for f in check_folder(out) if f.severity is Severity.ERROR]
    split = split_folder(out)
    assert (str(split.train_start), str(split.end)) == ("2011-11-12 00:00:00", "2011-12-09 12:50:00")
    # The catalogue was gathered from the log: at the cut it must not hold what the log names later, least of all new targets.
    early = set(kept.filter(pl.col("InvoiceDate") < split.train_start)["StockCode"])
    folder = DataFolder(out)
    known = History.open(folder, store=Store(tmp_path / "store")).products().collect()["sku"]
    assert set(names.join(known.to_frame(), on="sku", how="semi")["own"]) == early
    assert len(known) < products.height
    assert History.open(folder, "end", store=Store(tmp_path / "store")).products().collect().height == products.height
    assert not [f for f in check_folder(out) if f.severity is Severity.ERROR]


@pytest.mark.parametrize("name", ready_mappings())
def test_ready_mappings_are_valid_and_described(name: str) -> None:
    mapping = read_mapping(mapping_path(name))
    assert len(mapping.about) > 100
    assert EventType.BUY in mapping.tables
