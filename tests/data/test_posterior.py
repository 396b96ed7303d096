"""What the ceiling believes of clients who came once: what such clients do, and nothing that they hide."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kit.cli.main import app
from kit.data import shop
from kit.data.layout import DataFolder
from kit.data.shop.behaviour import BEHAVIOUR
from kit.data.shop.clients import Clients, build_clients
from kit.data.shop.evidence import seen_cells
from kit.data.shop.posterior import came_once
from kit.data.shop.predict import Targets, predict
from kit.data.shop.presets import CELLS, PRESETS, PRICE_BINS, VALIDATION_DAY
from kit.data.shop.simulate import Sessions, simulate
from kit.data.shop.truth import Truth, load_truth
from kit.data.shop.world import World, build_world
from kit.scoring.results import ceiling_note, read_ceiling
from kit.tasks import CATEGORY, CHALLENGE, CONVERSION, PRICE

SAMPLE = 800


@dataclass
class Crowd:
    """Many clients of one world who came once, and what they did after it."""

    world: World
    once: Clients
    orders: Sessions
    """Of the second window; `client` is a row of `once`."""

    @property
    def truth(self) -> Truth:
        return Truth(self.world.preset, 0, self.world, self.once)  # type: ignore[arg-type]  # a World has all of a catalogue


@pytest.fixture(scope="module", params=[0.0, 2.0])
def crowd(request: pytest.FixtureRequest) -> Crowd:
    preset = replace(PRESETS["tiny"], relevant=30_000, other=0, bots=0)
    world = build_world(preset, np.random.default_rng(1), replace(BEHAVIOUR, latent=request.param))
    rng = np.random.default_rng(2)
    sessions, at_cut = simulate(build_clients(world, preset, np.arange(preset.relevant), rng), world, rng)
    rows = np.flatnonzero(came_once(at_cut))
    place = np.full(preset.relevant, -1)
    place[rows] = np.arange(len(rows))
    chosen = sessions.ordered & (sessions.day >= VALIDATION_DAY) & (place[sessions.client] >= 0)
    names = Sessions.__dataclass_fields__
    orders = Sessions(**{name: getattr(sessions, name)[chosen] for name in names})
    orders.client = place[orders.client]
    return Crowd(world, at_cut.take(rows), orders)


def asked(world: World) -> Targets:
    none = np.zeros(0, dtype=np.int64)
    return Targets(category=np.arange(len(world.popularity)), sku=none, new_sku=none, price=np.arange(100))


def test_it_is_what_clients_with_such_a_visit_do(crowd: Crowd) -> None:
    """Brute force: everybody is simulated, and those whose visit is alike are counted."""
    some = np.arange(0, len(crowd.once), len(crowd.once) // SAMPLE)
    said = predict(replace(crowd.truth, clients=crowd.once.take(some)), asked(crowd.world))
    bought = np.zeros(len(crowd.once), dtype=bool)
    bought[crowd.orders.client] = True
    chance = 1 - said[CONVERSION.name][:, 0]
    assert chance.mean() == pytest.approx(bought.mean(), rel=0.15)
    late = crowd.once.last_day > 100
    assert chance[late[some]].mean() == pytest.approx(bought[late].mean(), rel=0.2)
    assert chance[~late[some]].mean() == pytest.approx(bought[~late].mean(), rel=0.2)
    again = np.zeros(len(crowd.once), dtype=bool)
    again[crowd.orders.client[crowd.orders.category == crowd.once.last[crowd.orders.client]]] = True
    same = said[CATEGORY.name][np.arange(len(some)), crowd.once.last[some]]
    assert same.mean() == pytest.approx(again.mean(), rel=0.3)
    assert same.mean() > 4 * said[CATEGORY.name].mean()  # the one category that was seen says much


def test_nothing_is_read_that_one_visit_does_not_show(crowd: Crowd) -> None:
    few = crowd.once.take(np.arange(60))
    others = crowd.once.take(np.arange(60, 120))
    names = (
        "rate",
        "order",
        "interest",
        "weight",
        "price",
        "style",
        "liking",
        "position",
        "fresh",
        "here",
        "follow_on",
    )
    swapped = replace(few, **{name: getattr(others, name) for name in names})
    ours, theirs = (predict(replace(crowd.truth, clients=c), asked(crowd.world)) for c in (few, swapped))
    assert all(np.array_equal(ours[task.name], theirs[task.name]) for task in CHALLENGE)
    often = replace(few, birth=few.birth - 1)  # of those who came more than once tastes are known
    knowing, other = (
        predict(replace(crowd.truth, clients=c), asked(crowd.world))[CATEGORY.name]
        for c in (often, replace(often, interest=others.interest, position=others.position))
    )
    assert not np.allclose(knowing, other, rtol=0.2)


def test_dear_products_that_were_seen_say_that_dear_ones_will_be_bought(crowd: Crowd) -> None:
    few = crowd.once.take(np.arange(40))
    seen = [np.zeros((40, PRICE_BINS, CELLS // PRICE_BINS), np.float32) for _ in range(2)]
    seen[0][:, 0], seen[1][:, -1] = 1, 1
    cheap, dear = (
        predict(replace(crowd.truth, clients=few), asked(crowd.world), s.reshape(40, CELLS))[PRICE.name] for s in seen
    )
    upper = [float(chances[:, 80:].sum() / chances.sum()) for chances in (cheap, dear)]
    assert upper[1] > 2 * upper[0]


def test_what_was_seen_is_read_from_the_folder(tmp_path: Path) -> None:
    shop.synth(tmp_path / "shop", "tiny", 3)
    from kit.data.split import split_folder

    split_folder(tmp_path / "shop")
    truth = load_truth(tmp_path / "shop")
    seen = seen_cells(DataFolder(tmp_path / "shop"), truth)
    once = came_once(truth.clients)
    assert 0.15 < once.mean() < 0.6
    assert not seen[~once].any()
    assert (seen[once].sum(axis=1) > 0).mean() > 0.5
    by_price = seen.reshape(len(seen), PRICE_BINS, -1).sum(axis=2)
    level = by_price @ (np.arange(PRICE_BINS) + 0.5) / PRICE_BINS / np.maximum(by_price.sum(axis=1), 1)
    rows = once & (by_price.sum(axis=1) >= 3)
    assert np.corrcoef(level[rows], truth.clients.price[rows])[0, 1] > 0.5


def test_a_ceiling_of_an_earlier_version_is_not_shown_and_made_anew(tmp_path: Path) -> None:
    command = ["data", "synth", str(tmp_path / "shop"), "--preset", "tiny", "--clients", "400"]
    assert CliRunner().invoke(app, command).exit_code == 0
    folder = DataFolder(tmp_path / "shop")
    now = folder.ceiling.read_bytes()
    assert read_ceiling(folder)
    old = {key: value for key, value in json.loads(now).items() if key != "version"}
    folder.ceiling.write_text(json.dumps(old))
    assert "earlier version" in str(ceiling_note(folder))
    assert read_ceiling(folder) == {}
    assert CliRunner().invoke(app, command).exit_code == 0
    assert folder.ceiling.read_bytes() == now
