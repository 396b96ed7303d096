"""The table of techniques: keys are readable, marks and docstrings name what exists, R is paired."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kit.blocks.base import make_block
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.recipe import Recipe, parse
from kit.techniques.catalogue import catalogue, rows_named
from kit.techniques.keys import dotted
from kit.techniques.measure import PLAIN, measure, over, pair_of
from kit.techniques.named import homes, techniques_in
from kit.techniques.table import exact_tests, keys_of, markdown, row_of

TESTS = Path(__file__).parents[1]
KEYED = [(each, keys) for each in catalogue().values() for keys in keys_of(each)]


def test_76_rows_of_the_documents_and_ten_found_since():
    ids = list(catalogue())
    assert len([each for each in ids if each[0] != "K"]) == 76
    assert [each for each in ids if each[0] == "K"] == [f"K{i}" for i in range(1, 11)]


@pytest.mark.parametrize(("technique", "keys"), [pytest.param(t, k, id=f"{t.id}-{dotted(k)}") for t, k in KEYED])
def test_every_key_is_read_by_the_schema(technique, keys):
    recipe = parse(Recipe, {"name": "x", "blocks": {"one": keys}}, technique.id)
    block = make_block("one", recipe.blocks["one"], 0)
    value, path = block.settings.model_dump(), dict(keys)
    path.pop("kind")
    while isinstance(path, dict) and path:
        ((name, path),) = path.items()
        value = value[name]
    assert value == path or path in ({}, True), "the key says nothing"


def test_docstrings_and_marks_name_techniques_that_there_are():
    assert set(homes()) <= set(catalogue())
    assert set(exact_tests(TESTS)) <= set(catalogue())
    assert techniques_in("Techniques F4, F5 and G2. Technique A1; technique B2") == ["F4", "F5", "G2", "A1"]


def test_status_follows_from_what_there_is(monkeypatch: pytest.MonkeyPatch):
    def status(of: str, tests: Path | None = TESTS) -> str:
        return row_of(catalogue()[of], tests).status

    assert (status("D1"), status("B5"), status("A5"), status("J1")) == ("works", "our variant", "in part", "context")
    assert status("I1", None) == "untested"
    monkeypatch.delitem(homes(), "D1")
    assert status("D1") == "absent"


def test_rows_of_the_page(tmp_path: Path):
    rows = [row_of(each, TESTS, tmp_path / "none.json") for each in catalogue().values()]
    lines = [line for line in markdown(rows).splitlines() if line.startswith("| ")][1:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == list(catalogue())
    assert all(line.count("not measured") == 1 for line in lines)


def test_another_kind_replaces_settings_and_the_same_kind_keeps_them():
    table = {"trunk": {"kind": "mlp", "depth": 3}, "width": 8}
    assert over(table, {"trunk": {"kind": "dlrm"}}) == {"trunk": {"kind": "dlrm"}, "width": 8}
    assert over(table, {"trunk": {"kind": "mlp"}}) == table


def test_mistakes():
    with pytest.raises(KitError, match="no technique 'B99'"):
        rows_named(["B99"])
    with pytest.raises(KitError, match="No recipe key chooses I4"):
        pair_of(catalogue()["I4"], None)
    with pytest.raises(KitError, match="is the block 'als' itself"):
        pair_of(catalogue()["C4"], None)


@pytest.mark.slow
def test_a_measurement_is_the_difference_of_two_scores(
    toy: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KIT_STORE", str(tmp_path / "store"))
    base = tmp_path / "base.toml"
    base.write_text(
        'name = "base"\n[blocks.a]\nkind = "stats"\nfamilies = ["counts"]\n[blocks.b]\nkind = "als"\nfactors = 4\n'
    )
    results = tmp_path / "techniques.json"
    measure(rows_named(["C4"]), [toy.root], ["fast"], results, base, tmp_path / "work")
    (entry,) = json.loads(results.read_text())["entries"]
    sums = [g for g in entry["gains"] if (g["task"], g["measure"]) == ("sum", "score")]
    assert len(sums) == 1
    tasks = [g["difference"] for g in entry["gains"] if g["measure"] == "score" and g["task"] != "sum"]
    assert sums[0]["difference"] == pytest.approx(sum(tasks), abs=1e-6)
    assert sums[0]["low"] <= sums[0]["difference"] <= sums[0]["high"]
    assert {PLAIN, "C4-0"} <= {each.name for each in (tmp_path / "work" / "C4").rglob("*") if each.is_dir()}
    row = row_of(catalogue()["C4"], TESTS, results)
    assert "fast on shop" in markdown([row])
