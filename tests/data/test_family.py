"""The family of shops: what is drawn is what happens, other numbers of clients, and tastes that are positions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from kit.challenge import EventType
from kit.cli.main import app
from kit.data import shop
from kit.data.layout import DataFolder
from kit.data.shop.behaviour import BEHAVIOUR, Behaviour
from kit.data.shop.clients import build_clients
from kit.data.shop.family import BY_FACTOR, EVEN, SHARPNESS, buyers, drawn_for, member
from kit.data.shop.presets import CUT_DAY, PRESETS, sized
from kit.data.shop.simulate import simulate
from kit.data.shop.truth import load_truth
from kit.data.shop.world import build_world
from kit.errors import KitError

SMALL = sized(PRESETS["tiny"], 1_500)


def test_members_are_drawn_from_their_ranges_and_are_the_same_at_every_size() -> None:
    drawn = {number: drawn_for(SMALL, number)[:2] for number in range(1, 7)}
    for number, (_, behaviour) in drawn.items():
        for name, (low, high) in {**EVEN, **BY_FACTOR}.items():
            assert low <= getattr(behaviour, name) <= high
        assert (SHARPNESS[0] <= behaviour.latent <= SHARPNESS[1]) if number % 3 == 0 else behaviour.latent == 0
    for name in (*EVEN, *BY_FACTOR):
        assert len({getattr(behaviour, name) for _, behaviour in drawn.values()}) == len(drawn)
    assert drawn_for(sized(PRESETS["tiny"], 3_000), 4)[1] == drawn[4][1] == member(SMALL, 4)[1]
    assert len({size.skus for size, _ in drawn.values()}) == len(drawn)


@pytest.mark.parametrize("number", [1, 3])
def test_as_many_buy_as_was_drawn(number: int) -> None:
    """In a shop of another seed and size than the pilot's."""
    share = drawn_for(SMALL, number)[2]
    size, behaviour = member(SMALL, number)
    found = buyers(replace(size, relevant=6_000, bots=0), behaviour, seed=77)
    assert found == pytest.approx(share, abs=4 * np.sqrt(share / 3_000) + 0.01)


def interests(behaviour: Behaviour) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (n, K), and how often each of n clients bought in each category before and after the cut, (n, C) both."""
    size = replace(sized(PRESETS["tiny"], 4_000), bots=0, density=6.0)
    world = build_world(size, np.random.default_rng(0), behaviour)
    rng = np.random.default_rng(1)
    clients = build_clients(world, size, np.arange(4_000), rng)
    place = clients.position.copy()
    sessions, _ = simulate(clients, world, rng)
    counts = [np.zeros((4_000, size.categories)) for _ in range(2)]
    for late, table in enumerate(counts):
        chosen = sessions.ordered & ((sessions.day >= CUT_DAY) == bool(late))
        np.add.at(table, (sessions.client[chosen], sessions.category[chosen]), 1)
    return place, counts[0], counts[1]


def likeness(place: np.ndarray, before: np.ndarray, after: np.ndarray) -> float:
    """How much likelier what clients buy later was bought before by their 20 nearest in taste than by strangers."""
    rows = np.flatnonzero(after.any(axis=1))[:400]
    alike = place[rows] @ place.T
    alike[np.arange(len(rows)), rows] = -np.inf  # not the client itself
    near = np.argsort(-alike, axis=1)[:, :20]
    strangers = np.random.default_rng(2).integers(len(place), size=near.shape)
    shares = []
    for others in (near, strangers):
        bought = before[others].sum(axis=1)
        shares.append(float((bought / np.maximum(bought.sum(axis=1, keepdims=True), 1) * (after[rows] > 0)).sum()))
    return shares[0] / shares[1]


def test_who_resembles_whom_says_what_will_be_bought_where_tastes_are_latent() -> None:
    sharp = likeness(*interests(replace(BEHAVIOUR, latent=2.0)))
    assert sharp > 1.8
    twin = likeness(*interests(replace(BEHAVIOUR, latent=1e-6, style=1.0)))  # the same, but places mean nothing
    assert twin == pytest.approx(1, abs=0.25)


def test_codes_tell_of_places() -> None:
    """Products of near categories have likelier equal codes than those of far ones."""
    world = build_world(PRESETS["tiny"], np.random.default_rng(0), replace(BEHAVIOUR, latent=2.0))
    code = world.quantiser(world.latent)[:, :4]
    place = world.places.category[world.category]
    rng = np.random.default_rng(3)
    one, two = rng.integers(len(code), size=(2, 200_000))
    apart = world.department[world.category[one]] != world.department[world.category[two]]
    near = np.sum(place[one] * place[two], axis=1)
    same = (code[one] == code[two]).mean(axis=1)
    assert same[apart & (near > 6)].mean() > 1.5 * same[apart & (near < -6)].mean()


def test_a_shop_of_any_size_and_member_goes_down_the_road(tmp_path: Path) -> None:
    run = CliRunner().invoke(
        app, ["data", "synth", str(tmp_path / "m"), "--preset", "tiny", "--clients", "700", "--vary", "3"]
    )
    assert run.exit_code == 0, run.output
    folder, truth = DataFolder(tmp_path / "m"), load_truth(tmp_path / "m")
    assert len(folder.clients()) == 700 == truth.preset.relevant
    assert (truth.vary, truth.catalogue.behaviour) == (3, member(sized(PRESETS["tiny"], 700), 3)[1])
    assert truth.clients.position.shape == (700, truth.catalogue.places.dimensions) != (700, 0)
    assert folder.ceiling.exists()
    assert not shop.is_unfinished(folder.root, "tiny", 0, clients=700, vary=3)
    folder.ceiling.unlink()
    assert shop.is_unfinished(folder.root, "tiny", 0, clients=700, vary=3)
    assert not shop.is_unfinished(folder.root, "tiny", 0, clients=700, vary=2)
    assert not shop.is_unfinished(folder.root, "tiny", 0)


def test_equal_members_are_equal_and_others_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.data.shop.family.density_for", lambda *_: 3.0)
    made = {}
    for name, vary, seed in (("a", 2, 0), ("b", 2, 0), ("c", 4, 0), ("d", 2, 1)):
        shop.synth(tmp_path / name, "tiny", seed, clients=400, vary=vary)
        made[name] = pl.read_parquet(DataFolder(tmp_path / name).raw(EventType.BUY))
    assert made["a"].equals(made["b"])
    assert not made["a"].equals(made["c"]) and not made["a"].equals(made["d"])


def test_sizes_follow_the_clients() -> None:
    sizes = [sized(PRESETS["small"], clients) for clients in (2_000, 8_000, 32_000, 128_000, 1_000_000)]
    assert sizes[1].categories == PRESETS["small"].categories
    for name in ("relevant", "other", "skus", "categories", "departments", "tail_urls"):
        found = [getattr(size, name) for size in sizes]
        assert found == sorted(found) and len(set(found)) == len(found)
    assert sizes[-1].categories == pytest.approx(PRESETS["official"].categories, rel=0.01)
    assert all(size.skus >= 4 * size.categories and size.density == PRESETS["small"].density for size in sizes)
    assert PRESETS["city"].relevant == 128_000


@pytest.mark.parametrize(
    ("options", "words"),
    [({"clients": 20}, "--clients 20 is too few"), ({"vary": 0}, "--vary 0 is no member")],
)
def test_what_makes_no_shop_is_refused(options: dict[str, int], words: str, tmp_path: Path) -> None:
    with pytest.raises(KitError, match=words):
        shop.synth(tmp_path / "x", "tiny", 0, **options)
    assert not (tmp_path / "x").exists()
