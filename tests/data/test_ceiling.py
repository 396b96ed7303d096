"""The ceiling: calibrated, near-optimal, and blind to what history does not show."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kit.challenge import EventType
from kit.data import shop
from kit.data.layout import DataFolder
from kit.data.scan import scan_events, scan_products
from kit.data.shop.behaviour import BEHAVIOUR, Behaviour
from kit.data.shop.belief import Belief, believe
from kit.data.shop.clients import Clients, build_clients
from kit.data.shop.expect import ExpectedFuture
from kit.data.shop.family import member
from kit.data.shop.predict import Targets, predict
from kit.data.shop.presets import CUT_DAY, DAYS, PRESETS, VALIDATION_DAY, Preset, sized
from kit.data.shop.simulate import simulate, simulate_day
from kit.data.shop.truth import Truth, load_truth
from kit.data.shop.world import World, build_world
from kit.data.split import split_folder
from kit.errors import KitError
from kit.scoring.ceiling import write_ceiling
from kit.tasks import CATEGORY, CHALLENGE, CHURN, CONVERSION
from kit.tasks.labels import load_targets, load_task
from kit.tasks.metrics import auroc_multilabel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    root = tmp_path_factory.mktemp("ceiling") / "tiny"
    shop.synth(root, "tiny", seed=3)
    split_folder(root)
    write_ceiling(root)
    return DataFolder(root)


@pytest.fixture(scope="module")
def state() -> tuple[World, Clients, Clients]:
    """A world, its clients at the cut, and the same with every hidden fact still in it."""
    return state_of(dataclasses.replace(PRESETS["tiny"], relevant=3_000, other=10), BEHAVIOUR)


def state_of(preset: Preset, behaviour: Behaviour) -> tuple[World, Clients, Clients]:
    world = build_world(preset, np.random.default_rng(1), behaviour)
    rng = np.random.default_rng(2)
    _, at_cut = simulate(build_clients(world, preset, np.arange(preset.clients), rng), world, rng)
    return world, at_cut, at_cut.take(np.flatnonzero(at_cut.last_day >= 0))


def hidden_flipped(clients: Clients) -> Clients:
    return dataclasses.replace(
        clients,
        here=np.where(clients.here <= CUT_DAY, DAYS, 0),
        follow_on=~clients.follow_on,
        wanted_on=~clients.wanted_on,
    )


def test_silence_lowers_the_belief_in_presence(state: tuple[World, Clients, Clients]) -> None:
    one = state[2].take(np.zeros(CUT_DAY - 20, dtype=np.int64))
    one = dataclasses.replace(
        one,
        last_day=np.arange(20, CUT_DAY),
        birth=np.full(len(one), 5),
        rate=np.full(len(one), 0.3),
        follow=np.full(len(one), -1),
        wanted=np.full(len(one), -1),
        restock=np.full(len(one), -1),
    )
    present = believe(one).present
    assert np.all(np.diff(present) > 0)  # the later the last session, the likelier
    assert present[-1] > 0.9
    assert present[0] < 0.1
    rare = believe(dataclasses.replace(one, rate=np.full(len(one), 0.01))).present
    assert np.all(rare[:100] > present[:100])  # silence says less about somebody who seldom comes


def test_belief_in_presence_is_calibrated(state: tuple[World, Clients, Clients]) -> None:
    seen = state[2]
    belief, truth = believe(seen), seen.here <= CUT_DAY
    assert belief.present.mean() == pytest.approx(truth.mean(), abs=0.03)
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = (belief.present >= low) & (belief.present < low + 0.25)
        assert belief.present[inside].mean() == pytest.approx(truth[inside].mean(), abs=0.09)
    pending = float((belief.follow * belief.present).mean())
    assert pending == pytest.approx((seen.follow_on & truth).mean(), abs=0.015)


def test_hidden_facts_change_nothing(state: tuple[World, Clients, Clients]) -> None:
    world, at_cut, _ = state
    for field in dataclasses.fields(Belief):
        ours, other = getattr(believe(at_cut), field.name), getattr(believe(hidden_flipped(at_cut)), field.name)
        assert np.array_equal(ours, other, equal_nan=True)
    some = at_cut.take(np.arange(200))
    ours, other = (predict(truth_of(world, c), targets_of(world)) for c in (some, hidden_flipped(some)))
    assert all(np.array_equal(ours[task.name], other[task.name]) for task in CHALLENGE)


def truth_of(world: World, clients: Clients) -> Truth:
    return Truth(world.preset, 0, world, clients)  # type: ignore[arg-type]  # a World has all fields of a Catalogue


def targets_of(world: World) -> Targets:
    few = np.arange(50)
    return Targets(category=few, sku=few, new_sku=np.flatnonzero(world.launch > CUT_DAY)[:20], price=np.arange(100))


@pytest.mark.parametrize("number", [None, 2, 3])
def test_expectation_equals_many_replays_of_the_future(
    state: tuple[World, Clients, Clients], number: int | None
) -> None:
    """Oracle: the simulation itself, run 300 times from the cut with hidden facts drawn from the belief. Also of two members of
    the family, of which the second has latent tastes."""
    if number is not None:
        preset, behaviour = member(sized(PRESETS["tiny"], 3_000), number)
        state = state_of(dataclasses.replace(preset, other=10, bots=0), behaviour)
    world, _, seen = state
    chosen, copies = np.linspace(0, len(seen) - 1, 60).astype(int), 300
    clients = seen.take(np.repeat(chosen, copies))
    b = world.behaviour
    belief, rng = believe(clients, b=b), np.random.default_rng(4)
    away = rng.random(len(clients)) >= belief.present
    clients.here = np.where(away, CUT_DAY + rng.geometric(b.comeback, len(clients)), 0)
    clients.follow_on = rng.random(len(clients)) < belief.follow
    clients.wanted_on = rng.random(len(clients)) < belief.wanted
    bought = np.zeros(len(clients), dtype=bool)
    orders, in_category = 0, np.zeros(len(world.popularity))
    for day in range(CUT_DAY, DAYS):
        s = simulate_day(clients, world, day, rng)
        if day >= VALIDATION_DAY:
            bought[s.client[s.ordered]] = True
            orders += int(s.ordered.sum())
            in_category += np.bincount(s.category[s.ordered], minlength=len(in_category))
    some = seen.take(chosen)
    chance = 1 - predict(truth_of(world, some), targets_of(world))[CONVERSION.name][:, 0]
    replayed = bought.reshape(len(chosen), copies).mean(axis=1)
    assert chance.mean() == pytest.approx(replayed.mean(), rel=0.08)
    assert np.corrcoef(chance, replayed)[0, 1] > 0.97
    expected, future = np.zeros_like(in_category), ExpectedFuture(world, some, believe(some, b=b))  # type: ignore[arg-type]
    for day in future:
        if day.day >= VALIDATION_DAY:
            presence = future.present * day.here + (1 - future.present) * day.back
            expected += (presence[:, None] * day.orders).sum(axis=0)
    assert expected.sum() * copies == pytest.approx(orders, rel=0.08)
    assert np.corrcoef(expected, in_category)[0, 1] > 0.95


def test_probabilities_are_calibrated(folder: DataFolder) -> None:
    kept = np.load(folder.root / "truth" / "ceiling_probabilities.npz")
    for task in CHALLENGE:
        data = load_task(task, kept["client_ids"], folder)
        chances = kept[task.name][data.rows]
        assert chances.shape == data.validation.shape
        assert chances.min() >= 0
        assert chances.max() <= 1
        events = data.validation if task.column is not None else 1 - data.validation.toarray()
        said = chances if task.column is not None else 1 - chances
        assert said.sum() == pytest.approx(float(events.sum()), rel=0.3), task


def test_ceiling_file_has_the_agreed_shape(folder: DataFolder) -> None:
    ceiling = json.loads(folder.ceiling.read_text())
    assert ceiling["preset"] == "tiny"
    assert ceiling["seed"] == 3
    assert ceiling["clients"] == PRESETS["tiny"].relevant
    assert set(ceiling["tasks"]) == {task.name for task in CHALLENGE}
    fields = {"score", "auroc", "novelty", "diversity", "auroc_defined", "labels_without_positives"}
    assert all(set(entry) == fields for entry in ceiling["tasks"].values())


def test_the_ceiling_beats_what_history_counts_say(folder: DataFolder) -> None:
    ceiling = json.loads(folder.ceiling.read_text())["tasks"]
    ids = folder.clients()
    row = pl.DataFrame({"client_id": ids, "row": np.arange(len(ids))})
    visits = scan_events(folder.input(EventType.VISIT), EventType.VISIT).collect().join(row, on="client_id")
    churn = load_task(CHURN, ids, folder)
    active = np.bincount(visits["row"], minlength=len(ids))[churn.rows, None]
    assert ceiling["churn"]["auroc"] > np.nanmean(auroc_multilabel(-active.astype("f4"), churn.validation)) + 0.05

    targets = load_targets(folder.targets(CATEGORY.name))
    category = scan_products(folder.products).select("sku", "category")
    carts = scan_events(folder.input(EventType.CART), EventType.CART).join(category, on="sku").collect()
    carts = carts.join(row, on="client_id").filter(pl.col("category").is_in(targets.tolist()))
    label = {int(target): place for place, target in enumerate(targets)}
    counts = np.zeros((len(ids), len(targets)), np.float32)
    np.add.at(counts, (carts["row"].to_numpy(), [label[c] for c in carts["category"].to_list()]), 1)
    own = np.nanmean(auroc_multilabel(counts, load_task(CATEGORY, ids, folder).validation))
    assert ceiling["propensity_category"]["auroc_defined"] > own + 0.1


def test_clients_without_history_share_one_prediction(folder: DataFolder) -> None:
    truth = load_truth(folder.root)
    kept = np.load(folder.root / "truth" / "ceiling_probabilities.npz")
    unseen = np.isin(kept["client_ids"], truth.clients.id[truth.clients.last_day < 0])
    assert 0.1 < unseen.mean() < 0.2
    for task in CHALLENGE:
        assert len(np.unique(kept[task.name][unseen], axis=0)) == 1


def test_other_folders_have_no_ceiling(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="no data folder"):
        write_ceiling(tmp_path / "none")
    with pytest.raises(KitError, match="no truth"):
        load_truth(tmp_path)
