"""Conversions with known answers: the four ready mappings, own mappings, and what a wrong mapping is told."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from kit.challenge import CODES, EventType
from kit.cli.data import app
from kit.data.check import check_folder
from kit.data.convert import convert, ready_mappings
from kit.data.convert.codes import hashed_codes, text_codes
from kit.data.convert.mapping import Attribute, mapping_path, read_mapping
from kit.data.convert.products import _gather, price_buckets
from kit.data.layout import DataFolder
from kit.data.scan import scan_events, scan_products
from kit.data.split import split_folder
from kit.errors import KitError, Severity
from kit.history import History
from kit.store import Store

RETAIL = Path(__file__).parents[3] / "shared" / "data" / "online-retail"


def rows(root: Path, kind: EventType) -> list[tuple[object, ...]]:
    return pl.read_parquet(root / f"{kind.value}.parquet").rows()


def layout_is_sound(root: Path) -> None:
    """All six files can be scanned, and no finding concerns their form (the logs here are too short to be split)."""
    for kind in EventType:
        scan_events(root / f"{kind.value}.parquet", kind).collect()
    products = scan_products(root / "product_properties.parquet").collect()
    assert products["sku"].is_unique().all()
    assert [f for f in check_folder(root) if f.severity is Severity.ERROR and "span" not in f.what] == []


# --- ready mappings -------------------------------------------------------------------------------------------------

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
    assert rows(out, EventType.VISIT) == [
        (257597, "2015-06-02 05:02:12", 355908),
        (111016, "2015-06-02 05:13:19", 318965),
        (111016, "2015-06-02 05:13:19", 318965),
    ]
    assert rows(out, EventType.CART) == [(992329, "2015-06-02 05:50:14", 248676)]
    assert rows(out, EventType.BUY) == [(599528, "2015-06-02 05:17:56", 356475)]
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
    assert rows(out, EventType.VISIT) == [(11, "2022-07-31 22:00:00", 59625)]
    assert rows(out, EventType.CART) == [(11, "2022-07-31 22:01:44", 59625)]
    assert rows(out, EventType.BUY) == [(12, "2022-07-31 22:03:08", 1142000)]
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


# --- own mappings ---------------------------------------------------------------------------------------------------

SHOP = """when;who;what;did;label;cost
02.06.2022 23:30;bob;A-1;buy;red mug;2.0
03.06.2022 10:00;amy;A-1;buy;red mug large;4.0
03.06.2022 10:05;amy;B-2;buy;blue mug;9.5
03.06.2022 10:06;amy;mugs;search;;
03.06.2022 10:07;bob;mugs;search;;
04.06.2022 11:00;;B-2;buy;blue mug;9.5
"""
OWN = """
[files.log]
path = "shop.csv"
separator = ";"
[log]
client = "who"
item = "what"
time = { column = "when", format = "%d.%m.%Y %H:%M", zone = "Europe/Berlin" }
[tables.product_buy]
keep = [{ column = "did", equals = "buy" }]
[tables.search_query]
keep = [{ column = "did", equals = "search" }]
[products]
keep = [{ column = "did", equals = "buy" }]
price = "cost"
name = "label"
"""


def own(tmp_path: Path, change: tuple[str, str] = ("", ""), data: str = SHOP) -> tuple[str, Path, Path]:
    """Writes the own shop with one change in its mapping; the arguments of convert."""
    assert change[0] in OWN
    (tmp_path / "shop.csv").write_text(data)
    (tmp_path / "my.toml").write_text(OWN.replace(change[0], change[1], 1) if change[0] else OWN)
    return str(tmp_path / "my.toml"), tmp_path, tmp_path / "out"


def prices(root: Path) -> dict[str, int]:
    """Own id → price bucket."""
    ids = pl.read_parquet(root / "ids" / "sku.parquet").rename({"id": "sku"})
    return dict(pl.read_parquet(root / "product_properties.parquet").join(ids, on="sku").select("own", "price").rows())


@pytest.mark.parametrize(("mark", "dear"), [(",", "1.854,50"), (".", "1,854.50")])
def test_prices_of_other_forms_are_read_or_refused_but_never_dropped(tmp_path: Path, mark: str, dear: str) -> None:
    """Left out in silence, the dearest product would get the middle bucket."""
    data = SHOP.replace(";2.0", f";{dear}").replace(";4.0", f";{dear}")
    mapping, src, out = own(tmp_path, data=data)
    with pytest.raises(KitError, match=re.escape(dear)):
        convert(mapping, src, out)
    text = data if mark == "." else data.replace("9.5", "9,5")
    mapping, src, out = own(tmp_path, ('price = "cost"', f'price = {{ column = "cost", decimal = "{mark}" }}'), text)
    convert(mapping, src, out)
    assert prices(out)["A-1"] > prices(out)["B-2"]


@pytest.mark.parametrize(("pick", "name"), [("last", "zeta (new name)"), ("first", "alpha (old name)")])
@pytest.mark.parametrize("order", ["text", "number"])
def test_first_and_last_go_by_numbers_or_sortable_text(order: str, pick: str, name: str) -> None:
    rows = [
        ("mid", "2024-02-01", "9"),
        ("zeta (new name)", "2024-03-01", "10"),  # a number is no text: 10 comes after 9
        ("alpha (old name)", "2024-01-01", "8"),
    ]
    frame = pl.LazyFrame(rows, schema=["label", "text", "number"], orient="row").with_columns(item=pl.lit("A"))
    attribute = Attribute(column=["label"], file="list", item="item", pick=pick, order=order)
    assert _gather("name", attribute, {"list": frame}).rows() == [("A", name)]


def test_first_and_last_want_an_order() -> None:
    with pytest.raises(ValidationError, match="needs order"):
        Attribute.model_validate({"column": "label", "pick": "last"})


def test_a_time_with_an_offset_is_told_its_format(tmp_path: Path) -> None:
    change = ('format = "%d.%m.%Y %H:%M", zone = "Europe/Berlin"', 'format = "%Y-%m-%d"')
    data = re.sub(r"(\d\d)\.(\d\d)\.(\d{4}) (\d\d:\d\d)", r"\3-\2-\1T\4:00+01:00", SHOP)
    with pytest.raises(KitError, match=re.escape("%Y-%m-%dT%H:%M:%S%z")):
        convert(*own(tmp_path, change, data))
    right = (change[0], 'format = "%Y-%m-%dT%H:%M:%S%z"')
    convert(*own(tmp_path, right, data))
    assert rows(tmp_path / "out", EventType.BUY)[0][1] == "2022-06-02 22:30:00"


def first_seen(root: Path) -> dict[str, str | None]:
    """Own id → when it was first named."""
    ids = pl.read_parquet(root / "ids" / "sku.parquet").rename({"id": "sku"})
    frame = pl.read_parquet(root / "product_properties.parquet").join(ids, on="sku")
    return dict(frame.select("own", pl.col("first_seen").dt.to_string("%Y-%m-%d %H:%M")).rows())


def test_a_catalogue_gathered_from_the_log_says_when_it_first_knew_an_item(tmp_path: Path) -> None:
    mapping, src, out = own(tmp_path)
    convert(mapping, src, out)
    assert first_seen(out) == {"A-1": "2022-06-03 01:30", "B-2": "2022-06-03 12:05"}
    assert not [f for f in check_folder(out) if "first_seen" in f.what]


def test_a_catalogue_of_the_shops_own_is_always_known(tmp_path: Path) -> None:
    (tmp_path / "catalogue.csv").write_text("what;cost\nA-1;2\nB-2;9\nC-3;4\n")
    listed = '[files.list]\npath = "catalogue.csv"\nseparator = ";"\n[files.log]'
    mapping, src, out = own(tmp_path, ("[files.log]", listed))
    text = Path(mapping).read_text()
    text = text[: text.index("[products]")] + '[products]\nfile = "list"\nitem = "what"\nprice = "cost"\n'
    Path(mapping).write_text(text.replace("[log]", '[log]\nfile = "log"', 1))
    convert(mapping, src, out)
    assert first_seen(out) == {"A-1": None, "B-2": None, "C-3": None}


def test_own_mapping_ranks_text_ids_and_leads_back(tmp_path: Path) -> None:
    mapping, src, out = own(tmp_path)
    convert(mapping, src, out)
    assert pl.read_parquet(out / "ids" / "client_id.parquet").rows() == [(0, "amy"), (1, "bob")]
    assert pl.read_parquet(out / "ids" / "sku.parquet").rows() == [(0, "A-1"), (1, "B-2")]
    assert rows(out, EventType.BUY) == [
        (1, "2022-06-03 01:30:00", 0),  # 23:30 UTC is half past one in Berlin
        (0, "2022-06-03 12:00:00", 0),
        (0, "2022-06-03 12:05:00", 1),
    ]
    queries = scan_events(out / "search_query.parquet", EventType.SEARCH).collect()
    assert queries["client_id"].to_list() == [0, 1]
    assert queries["query"][0].to_list() == queries["query"][1].to_list()
    assert (out / "mapping.toml").read_text() == Path(mapping).read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my.toml", "out", "shop.csv"]
    layout_is_sound(out)


def test_again_gives_the_same_bytes(tmp_path: Path) -> None:
    mapping, src, out = own(tmp_path)
    convert(mapping, src, out)
    convert(mapping, src, tmp_path / "again")
    for path in sorted(out.rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(out)).read_bytes(), path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ('client = "who"', 'client = "whom"'),
            r"client wants column 'whom' of shop.csv, which has \['when'.*mean 'who'",
        ),
        (('item = "what"', 'items = "what"'), r"'log.items' is unknown; did you mean 'item'"),
        (('{ column = "did", equals', '{ column = "did", equal'), r"keep.0.equal' is unknown; did you mean 'equals'"),
        (
            ("[tables.product_buy]", "[tables.product_bye]"),
            "'product_bye' is not an event table; did you mean 'product_buy'",
        ),
        (("[tables.product_buy]", "[tables.add_to_cart]"), "product_buy. is needed"),
        (('path = "shop.csv"', 'path = "store.csv"'), r"path = 'store.csv' in .*, which holds: my.toml, shop.csv"),
        (('separator = ";"', 'separator = ","'), r"has the one column 'when;who.*Say `separator = ';'`"),
        (
            ('equals = "buy"', 'equals = "bought"'),
            r"No row of shop.csv is a product_buy.*'bought'.*it holds \['buy', 'search'\]",
        ),
        (
            ("%d.%m.%Y", "%Y-%m-%d"),
            r"time: 4 values in column 'when' of shop.csv cannot be read, such as '02.06.2022 23:30'",
        ),
        (('format = "%d.%m.%Y %H:%M", zone = "Europe/Berlin"', 'zone = "Berlin"'), "'Berlin' is not a time zone"),
        (('zone = "Europe/Berlin"', 'unit = "s"'), "not both"),
        (
            ('price = "cost"', 'price = "label"'),
            r"price: 4 values in column 'label' of shop.csv are no numbers, such as '(red|blue) mug",
        ),
        (('equals = "buy"', 'matches = "("'), "is not a regular expression"),
        (('{ column = "did", equals = "buy" }', '{ column = "did" }'), "the rule on 'did' has no condition"),
        (('client = "who"', ""), "must name the client"),
        (("[log]", '[log]\nfile = "logs"'), "names the file 'logs'; did you mean 'log'"),
        (("[products]", "[products"), "is not valid TOML"),
    ],
)
def test_a_wrong_mapping_is_told_what_was_wanted_and_found(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    mapping, src, out = own(tmp_path, change)
    with pytest.raises(KitError) as caught:
        convert(mapping, src, out)
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my.toml", "shop.csv"]


def test_convert_refuses_an_existing_folder_and_unknown_names(tmp_path: Path) -> None:
    mapping, src, out = own(tmp_path)
    out.mkdir()
    (out / "keep.me").touch()
    with pytest.raises(KitError, match="exists already"):
        convert(mapping, src, out)
    with pytest.raises(KitError, match="did you mean 'retailrocket'"):
        convert("retail-rocket", src, tmp_path / "new")
    with pytest.raises(KitError, match="There is no"):
        convert(mapping, tmp_path / "nowhere", tmp_path / "new")


@pytest.mark.parametrize("name", ready_mappings())
def test_ready_mappings_are_valid_and_described(name: str) -> None:
    mapping = read_mapping(mapping_path(name))
    assert len(mapping.about) > 100
    assert EventType.BUY in mapping.tables


# --- parts ----------------------------------------------------------------------------------------------------------


def test_price_buckets_are_quantiles_and_equal_prices_share_one() -> None:
    rng = np.random.default_rng(0)
    price = rng.lognormal(size=10_000)
    buckets = price_buckets(price, np.zeros(10_000, dtype=np.int64))
    assert np.bincount(buckets, minlength=100).tolist() == [100] * 100
    assert (np.diff(buckets[np.argsort(price)]) >= 0).all()
    same = price_buckets(np.array([1.0, 1.0, 5.0, 5.0, np.nan]), np.array([0, 0, 1, 1, 1]))
    assert same[0] == same[1] < same[2] == same[3] == same[4]
    assert price_buckets(np.full(3, np.nan), np.zeros(3, dtype=np.int64)).tolist() == [0, 0, 0]


def test_close_texts_share_codes() -> None:
    """Texts of one family agree in more places than texts of different families."""
    things, colours = (
        ["mug", "lantern", "cushion cover", "cake tin"],
        ["red", "blue", "white", "green", "pink", "black"],
    )
    sizes = [
        "small",
        "medium",
        "large",
        "extra large",
        "tiny",
        "huge",
        "boxed",
        "striped",
        "spotted",
        "vintage",
        "retro",
        "plain",
    ]
    texts = [f"{size} {colour} {thing}" for thing in things for colour in colours for size in sizes]
    codes = text_codes(texts)
    assert codes.shape == (len(texts), CODES)
    assert codes.dtype == np.uint8
    family = np.repeat(np.arange(len(things) * len(colours)), len(sizes))
    agree = (codes[:, None, :] == codes[None, :, :]).mean(axis=2)
    same = family[:, None] == family[None, :]
    np.fill_diagonal(same, False)
    apart = family[:, None] // len(colours) != family[None, :] // len(colours)
    assert agree[same].mean() > 3 * agree[apart].mean()
    assert (text_codes(texts) == codes).all()


@pytest.mark.parametrize("texts", [[], ["one"], ["a", "b"], ["same words", "words same", "?"]])
def test_few_texts_can_be_coded(texts: list[str]) -> None:
    codes = text_codes(texts)
    assert codes.shape == (len(texts), CODES)
    assert len(np.unique(codes, axis=0)) == len(texts)


def test_hashed_codes_tell_category_price_and_sku_apart() -> None:
    n = 20_000
    rng = np.random.default_rng(1)
    category, price, sku = rng.integers(0, 50, n), rng.integers(0, 100, n), np.arange(n)
    codes = hashed_codes(category, price, sku)
    assert len(np.unique(codes[:, :8], axis=0)) == 50
    assert len(np.unique(codes[:, 8:12], axis=0)) == 100
    assert len(np.unique(codes[:, 12:], axis=0)) == n
    assert abs(codes[:, 12:].mean() - 127.5) < 2


def test_command(tmp_path: Path) -> None:
    mapping, src, out = own(tmp_path)
    result = CliRunner().invoke(app, ["convert", mapping, str(src), str(out)])
    assert result.exit_code == 0, result.output
    assert (out / "product_buy.parquet").exists()
