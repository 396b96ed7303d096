"""Parts from outside the kit, one file each in tests/plugin: recipes name them, settings are checked, the whole road runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kit.blocks.base import make_block
from kit.errors import KitError
from kit.history import History
from kit.models.heads import HEADS
from kit.models.items import ITEMS
from kit.models.negatives import SAMPLERS
from kit.models.sequence import ENCODERS
from kit.models.trunks import TRUNKS
from kit.profile.build import run_block
from kit.recipe import BlockEntry
from kit.store import Store

PARTS = {
    "encoder": (ENCODERS, "fading"),
    "items": (ITEMS, "names"),
    "head": (HEADS, "basket"),
    "negatives": (SAMPLERS, "popular"),
    "trunk": (TRUNKS, "gate"),
}
PLUGIN = Path(__file__).parents[1] / "plugin"
NETWORK = {
    "width": 16,
    "events": {"width": 8, "items": {"kind": "names", "hidden": 4}},
    "encoder": {"kind": "fading", "keep": 0.5, "length": 16},
    "trunk": "gate",
    "heads": {"basket": {"weight": 0.5, "most": 3}},
}
COMBINED = {
    "stats": {"families": ["counts"]}, "graph": {"dim": 4, "train": {"epochs": 1}, "sampler": "popular"}, "cuts": 2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The parts are known for one test: others go through all that are registered."""
    registries = {name: (parts.loaded(), kind) for name, (parts, kind) in PARTS.items()}
    monkeypatch.syspath_prepend(str(PLUGIN))
    before = set(sys.modules)
    for name in PARTS:
        importlib.import_module(f"acme_kit.network.{name}")
    yield
    for registry, kind in registries.values():
        registry._parts.pop(kind)
    for name in set(sys.modules) - before:
        if name.startswith("acme_kit"):
            del sys.modules[name]


def combined(**network: object) -> BlockEntry:
    return BlockEntry(kind="combined", **COMBINED, network={**NETWORK, **network})


def test_the_combined_network_is_made_of_them_and_a_rerun_gives_equal_bytes(toy_history: History, tmp_path: Path):
    made = [run_block("mine", combined(), 0, toy_history, Store(tmp_path / end)) for end in ("one", "two")]
    assert made[0].record()["content"] == made[1].record()["content"]
    block = make_block("mine", combined(), 0).fit(toy_history)
    output = block.transform(toy_history, toy_history.clients)
    assert "forecast_basket" in output.columns
    seen = np.isfinite(output.values).all(axis=1)
    np.testing.assert_array_equal(seen, np.diff(block.tokens.offsets) > 0)
    assert set(block.report.losses[0]) >= {"near", "buy_product", "contrast", "basket"}
    others = make_block("mine", combined(heads={"basket": {"weight": 0.5, "most": 1}}), 0).fit(toy_history)
    assert others.report.losses[0]["basket"] != block.report.losses[0]["basket"]  # the setting reaches the labels


def test_their_code_decides_whether_stored_outputs_are_fresh():
    """The files of those parts that a recipe names are in the block's fingerprint, and no others."""
    own = BlockEntry(kind="combined", **{**COMBINED, "graph": {}}, network={"trunk": "gate", "heads": {"basket": True}})
    files = {name for name in make_block("mine", own, 0).code().files if name.startswith("acme_kit/network/")}
    assert files - {"acme_kit/network/__init__.py"} == {"acme_kit/network/trunk.py", "acme_kit/network/head.py"}
    every = make_block("mine", combined(), 0).code().files
    assert {f"acme_kit/network/{name}.py" for name in PARTS} <= set(every)


def test_sequence_and_graph_blocks_take_them(toy_history: History):
    objective = {"next_item": {"negatives": "sampled", "samples": 32, "sampler": {"kind": "popular", "among": 5}}}
    entries = [
        BlockEntry(
            kind="sequence", events={"width": 8}, encoder={"kind": "fading", "ignored": 4}, objectives=objective,
            train={"epochs": 1},
        ),
        BlockEntry(kind="gcn", dim=4, batch=64, sampler={"kind": "popular", "among": 3}, train={"epochs": 1}),
    ]  # fmt: skip
    for entry in entries:
        values = make_block("mine", entry, 0).fit(toy_history).transform(toy_history, toy_history.clients).values
        assert np.isfinite(values).any(axis=1).mean() > 0.9


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"encoder": {"kind": "fading", "keeps": 0.5}}, "'network.encoder.keeps' is unknown; did you mean 'keep'"),
        ({"trunk": {"kind": "gate", "dropout": 2}}, "network.trunk.dropout: Input should be less than 1"),
        ({"heads": {"baskets": True}}, "'network.heads.baskets' is unknown; did you mean 'basket'"),
        ({"events": {"items": "name"}}, "no item encoder called 'name'; did you mean 'names'"),
    ],
)
def test_their_settings_are_checked_when_a_recipe_is_read(network: dict, words: str):
    with pytest.raises(KitError, match=words):
        make_block("mine", combined(**network), 0)
