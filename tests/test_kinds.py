"""Registered parts as settings: chosen by kind, defaults laid under key by key, mistakes named with their place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field

from kit.blocks.sequence import SequenceSettings
from kit.errors import KitError
from kit.kinds import Numbers, OneOf, TableOf, register
from kit.recipe import Strict, parse
from kit.registry import Registry
from kit.submission.recipes import check_recipe, json_schema


class Shape(Strict):
    kind: str
    size: int = Field(1, ge=1)


class SquareSettings(Shape):
    kind: Literal["square"] = "square"


class RingSettings(Shape):
    kind: Literal["ring"] = "ring"
    hole: float = 0.5


class Square:
    kind: ClassVar[str] = "square"
    description: ClassVar[str] = "Four sides."
    Settings: ClassVar[type[Strict]] = SquareSettings


class Ring:
    kind: ClassVar[str] = "ring"
    description: ClassVar[str] = "A hole."
    Settings: ClassVar[type[Strict]] = RingSettings


SHAPES: Registry[type] = Registry("shape")
register(SHAPES, Square)
register(SHAPES, Ring)


class Inner(Strict):
    shape: Annotated[Shape, OneOf(SHAPES)] = SquareSettings(size=5)
    weights: Annotated[dict[str, float], Numbers()] = Field({"a": 1.0, "b": 2.0})


class Outer(Strict):
    inner: Inner = Inner(shape=SquareSettings(size=7))
    table: Annotated[dict[str, Shape | Literal[False]], TableOf(SHAPES)] = Field({"ring": RingSettings(size=3)})
    moved: ClassVar[dict[str, str]] = {"old": "`inner.shape.size`"}


def read(**values: object) -> Outer:
    return parse(Outer, values, "recipe")


def test_what_is_not_named_stays_through_all_levels():
    assert read().inner.shape.size == 7
    assert read(inner={"weights": {"b": 3}}).inner.weights == {"a": 1.0, "b": 3.0}
    assert read(inner={"weights": {"b": 3}}).inner.shape.size == 7
    ring = read(inner={"shape": {"kind": "ring", "hole": 0.1}}).inner.shape
    assert ring == RingSettings(size=7, hole=0.1)  # what both kinds have stays too
    assert read(inner={"shape": "ring"}).inner.shape == RingSettings(size=7)
    assert read(table={"square": {"size": 2}}).table == {"ring": RingSettings(size=3), "square": SquareSettings(size=2)}
    assert read(table={"ring": {"hole": 0.2}}).table["ring"] == RingSettings(size=3, hole=0.2)
    assert read(table={"ring": False}).table == {"ring": False}
    assert read(table={"ring": True, "square": True}).table["ring"] == RingSettings(size=3)


def test_written_out_and_read_again_nothing_changes():
    one = read(inner={"shape": {"kind": "ring"}}, table={"ring": False, "square": {"size": 4}})
    for mode in ("python", "json"):
        assert parse(Outer, one.model_dump(mode=mode), "recipe") == one


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"inner": {"shape": {"sise": 2}}}, r"'inner.shape.sise' is unknown; did you mean 'size'\? known: kind, size"),
        ({"inner": {"shape": {"kind": "ring", "holes": 2}}}, r"'inner.shape.holes' is unknown; did you mean 'hole'"),
        ({"inner": {"shape": {"kind": "rign"}}}, "there is no shape called 'rign'; did you mean 'ring'"),
        ({"inner": {"shape": 3}}, "a table with a `kind`"),
        ({"table": {"rings": {}}}, "'table.rings' is unknown; did you mean 'ring'"),
        ({"table": {"ring": {"hols": 1}}}, "'table.ring.hols' is unknown; did you mean 'hole'"),
        ({"table": {"ring": {"size": 0}}}, "table.ring.size: Input should be greater than or equal to 1"),
        ({"table": {"ring": 3}}, "table.ring: this is a table, true or false"),
        ({"old": 3}, "recipe: .*the key 'old' is now `inner.shape.size`"),
    ],
)
def test_mistakes_are_named_with_place_and_remedy(values: dict, words: str):
    with pytest.raises(KitError, match=words):
        read(**values)


def test_settings_that_say_another_kind_are_refused():
    class Wrong(Square):
        kind: ClassVar[str] = "oval"

    with pytest.raises(ValueError, match="settings say kind = 'square'"):
        register(Registry("shape"), Wrong)


def test_a_recipe_with_several_mistakes_names_all_of_them(tmp_path: Path):
    path = tmp_path / "r.toml"
    path.write_text(
        'name = "r"\n[blocks.s]\nkind = "sequence"\n[blocks.s.encoder]\nkind = "gru"\nheads = 2\n'
        "[blocks.s.objectives]\nfates = true\n[blocks.s.objectives.timing]\nweigth = 1\n"
    )
    found = {finding.where: finding.remedy for finding in check_recipe(path)}
    assert set(found) == {
        "blocks.s.encoder.heads", "blocks.s.objectives.fates", "blocks.s.objectives.timing.weigth",
    }  # fmt: skip
    assert "layers" in found["blocks.s.encoder.heads"]
    assert found["blocks.s.objectives.fates"].startswith("did you mean 'fate'")


def test_another_encoder_keeps_the_anchor_of_the_block():
    gru = parse(SequenceSettings, {"encoder": {"kind": "gru", "layers": 1}}, "recipe").encoder
    assert gru.anchor and gru.kind == "gru"


def test_the_json_schema_lists_the_kinds():
    text = str(json_schema())
    assert "GRUSettings" in text and "UpcomingSettings" in text
