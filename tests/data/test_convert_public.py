"""Ready mappings for more public logs, each on a few made rows in the exact shape of its files, with known answers."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
from own_shop import layout_is_sound, rows

from kit.challenge import EventType
from kit.data.convert import convert

HM = """t_dat,customer_id,article_id,price,sales_channel_id
2018-09-20,000058a12d5b43e67d225668fa1f8d618c13dc232df0cad8ffe7ad4a1091e318,0663713001,0.050830508474576264,2
2018-09-20,000058a12d5b43e67d225668fa1f8d618c13dc232df0cad8ffe7ad4a1091e318,0541518023,0.030491525423728812,2
2018-09-21,00007d2de826758b65a93dd24ce629ed66842531df6699338c5570910a014cc2,0663713001,0.0508,2
"""
ARTICLES = """article_id,product_code,prod_name,product_type_no,product_type_name,colour_group_name,department_name
0541518023,0541518,Rae Push,306,Bra,Light Pink,Expressive Lingerie
0663713001,0663713,Atlanta Push Body,283,Underwear body,Black,Expressive Lingerie
0108775015,0108775,Strap top,253,Vest top,Black,Jersey Basic
"""


def test_hm(tmp_path: Path) -> None:
    (tmp_path / "transactions_train.csv").write_text(HM)
    (tmp_path / "articles.csv").write_text(ARTICLES)
    out = tmp_path / "shop"
    convert("hm", tmp_path, out)
    bought = rows(out, EventType.BUY)
    assert [str(time) for _, time, _ in bought] == ["2018-09-20 00:00:00"] * 2 + ["2018-09-21 00:00:00"]
    first, second, third = (client for client, _, _ in bought)
    assert first == second != third
    products = pl.read_parquet(out / "product_properties.parquet")
    assert len(products) == 3
    assert products["category"].n_unique() == 3
    dear, cheap = bought[0][2], bought[1][2]
    price = dict(zip(products["sku"], products["price"], strict=True))
    assert price[dear] > price[cheap]
    layout_is_sound(out)


TA_FENG = """TRANSACTION_DT,CUSTOMER_ID,AGE_GROUP,PIN_CODE,PRODUCT_SUBCLASS,PRODUCT_ID,AMOUNT,ASSET,SALES_PRICE
11/1/2000,1104905,45-49,115,110411,4710199010372,2,24,30
11/1/2000,418683,45-49,115,120107,4710857472535,1,48,46
12/15/2000,1057331,35-39,115,100407,4710043654103,1,142,166
12/15/2000,1057331,35-39,115,100407,4710043654103,0,0,0
"""


def test_ta_feng(tmp_path: Path) -> None:
    (tmp_path / "ta_feng_all_months_merged.csv").write_text(TA_FENG)
    out = tmp_path / "shop"
    convert("ta-feng", tmp_path, out)
    assert [(client, str(time), item) for client, time, item in rows(out, EventType.BUY)] == [
        (1104905, "2000-11-01 00:00:00", 4710199010372),
        (418683, "2000-11-01 00:00:00", 4710857472535),
        (1057331, "2000-12-15 00:00:00", 4710043654103),
    ]
    products = pl.read_parquet(out / "product_properties.parquet").sort("sku")
    assert products["sku"].to_list() == [4710043654103, 4710199010372, 4710857472535]
    assert products["category"].n_unique() == 3
    assert products["price"][0] > products["price"][2], "166 for one piece, and 46"
    layout_is_sound(out)


def event(name: str, user: str, time: int, *items: tuple[str, str, float]) -> str:
    """A line as BigQuery writes it: 64-bit numbers are texts."""
    listed = [
        {
            "item_id": i,
            "item_name": f"Thing {i}",
            "item_brand": "Brand",
            "item_category": kind,
            "price": price,
            "quantity": "1",
        }
        for i, kind, price in items
    ]
    told = {"event_date": "20210101", "event_timestamp": str(time), "event_name": name, "user_pseudo_id": user}
    return json.dumps(told | {"event_params": [{"key": "ga_session_id", "value": {"int_value": "7"}}], "items": listed})


def test_ga4(tmp_path: Path) -> None:
    shirt, cup = ("9195829", "Apparel", 20.0), ("9196001", "Drinkware", 5.0)
    lines = [
        event("page_view", "1001.5", 1609459200000000),
        event("view_item", "1001.5", 1609459201000000, shirt),
        event("add_to_cart", "1001.5", 1609459202000000, shirt, cup),
        event("remove_from_cart", "1001.5", 1609459203000000, cup),
        event("purchase", "1001.5", 1609459204000000, shirt),
        event("purchase", "2002.5", 1609459205000000, cup),
    ]
    (tmp_path / "events_20210101.json").write_text("\n".join(lines) + "\n")
    out = tmp_path / "shop"
    convert("ga4", tmp_path, out)
    counts = {kind: len(rows(out, kind)) for kind in EventType}
    assert counts == {
        EventType.BUY: 2,
        EventType.CART: 2,
        EventType.REMOVE: 1,
        EventType.VISIT: 1,
        EventType.SEARCH: 0,
    }
    (first, when, sku), (second, _, other) = rows(out, EventType.BUY)
    assert str(when) == "2021-01-01 00:00:04" and first != second and sku != other
    products = pl.read_parquet(out / "product_properties.parquet")
    assert dict(zip(products["sku"], products["price"], strict=True))[sku] > products["price"].min()
    layout_is_sound(out)
