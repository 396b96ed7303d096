"""Own mappings: ids that lead back, the same bytes again, and what a wrong mapping is told."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from own_shop import layout_is_sound, own, rows
from typer.testing import CliRunner

from kit.challenge import EventType
from kit.cli.data import app
from kit.data.convert import convert
from kit.data.scan import scan_events
from kit.errors import KitError


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
            r"time: column 'when' of shop.csv: 4 values cannot be read by .*'02.06.2022 23:30' .shop.csv line 2.*%d.%m.%Y %H:%M",
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


def test_command(tmp_path: Path) -> None:
    mapping, src, out = own(tmp_path)
    result = CliRunner().invoke(app, ["convert", mapping, str(src), str(out)])
    assert result.exit_code == 0, result.output
    assert (out / "product_buy.parquet").exists()
