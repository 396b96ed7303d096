"""The combined block: labels by the slow definition, losses by hand, and what must and must not be learned."""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import cloudpickle
import numpy as np
import polars as pl
import pytest
import torch
from sklearn.preprocessing import QuantileTransformer

from kit.blocks import combined as combined_room
from kit.blocks.base import BlockOutput
from kit.blocks.batches import TOUCHES, touched_products
from kit.blocks.combined import CombinedBlock, CombinedSettings
from kit.blocks.futures import ITEM_COLUMNS, item_statistics, rewound_futures
from kit.blocks.quantiles import fit_quantiles, to_quantiles
from kit.blocks.stats import Stats, StatsSettings
from kit.challenge import PRICE_BUCKETS, EventType
from kit.errors import KitError
from kit.history import History
from kit.models.batch import CombinedBatch, Touched
from kit.models.combined import Combined, NetworkSettings
from kit.models.heads.choice import choice_loss
from kit.models.heads.copies import Copies
from kit.models.heads.intensity import INTENSITIES, IntensitySettings
from kit.models.heads.published import Published
from kit.models.market import choose_candidates, make_market
from kit.recipe import parse
from kit.tasks import CATEGORY, SKU
from kit.tokens import TokenSettings, microseconds, tokenise

SMALL = {
    "network": {
        "width": 16,
        "events": {"width": 8, "age": True},
        "encoder": {"layers": 1, "heads": 2, "length": 16},
        "trunk": {"hidden": 16, "rank": 4},
    },
    "stats": {"families": ["counts"]},
    "graph": {"dim": 4, "train": {"epochs": 1}},
    "train": {"epochs": 1},
    "cuts": 2,
}


def small(**changes) -> CombinedSettings:
    return CombinedSettings(**{**SMALL, **changes})


def test_labels_equal_the_slow_definition(toy_history: History):
    tokens = tokenise(toy_history, TokenSettings())
    heads = NetworkSettings().heads
    futures = rewound_futures(toy_history, tokens, cuts=3, stride=7, heads=heads)
    assert [future.cut for future in futures] == [
        microseconds(toy_history.cut - timedelta(days=7 * k)) for k in (1, 2, 3)
    ]
    buys = toy_history.events(EventType.BUY).collect().rows()
    carts = toy_history.events(EventType.CART).collect().rows()
    products = {sku: row for row, sku in enumerate(tokens.vocabulary.catalogue.sku.tolist())}
    whole = rewound_futures(
        toy_history, tokens, cuts=3, stride=7, heads={"intensity": IntensitySettings(partial=False)}
    )
    for future, whole_windows in zip(futures, whole, strict=True):
        cut, day = future.history.cut, timedelta(days=1)
        known = (toy_history.cut - cut) / (14 * day)
        assert future.labels["intensity"].share.tolist() == [
            share := min(known, 1),
            max(known - 1, 0),
            share,
            share,
        ]
        for row, client in enumerate(tokens.clients.tolist()):
            mine = [(at, sku) for owner, at, sku, *_ in buys if owner == client]
            near = any(cut <= at < min(cut + 14 * day, toy_history.cut) for at, _ in mine)
            far = any(cut + 14 * day <= at < cut + 28 * day for at, _ in mine)
            cart = any(cut <= at < min(cut + 14 * day, toy_history.cut) for owner, at, *_ in carts if owner == client)
            assert future.labels["intensity"].values[row].tolist() == [
                near,
                far and cut + 14 * day < toy_history.cut,
                cart,
                near,
            ]
            bought = any(at < cut for at, _ in mine)
            begun = cut + 14 * day < toy_history.cut
            assert future.labels["intensity"].known[row].tolist() == [True, begun, True, bought]
            whole = whole_windows.labels["intensity"].known[row].tolist()
            over = cut + 14 * day <= toy_history.cut
            assert whole == [over, cut + 28 * day <= toy_history.cut, over, over and bought]
            want = {products[sku] for at, sku in mine if cut <= at < min(cut + 28 * day, toy_history.cut)}
            pairs = future.labels["choice"].positives["buy"]
            assert set(pairs.product[pairs.row == row].tolist()) == want
            assert (pairs.row == row).sum() == len(want)


def test_item_statistics_by_hand(toy_history: History):
    tokens = tokenise(toy_history, TokenSettings())
    catalogue = tokens.vocabulary.catalogue
    table = item_statistics(toy_history, catalogue)
    rows = {kind: toy_history.everyone(kind).collect() for kind in (EventType.BUY, EventType.CART, EventType.REMOVE)}
    for i in (0, 5, 77):
        sku = int(catalogue.sku[i + 1])
        ages = {
            kind: [(toy_history.cut - at) / timedelta(days=1) for at in frame.filter(pl.col("sku") == sku)["timestamp"]]
            for kind, frame in rows.items()
        }
        buys, carts, removes = ages.values()
        everything = buys + carts + removes
        want = [
            np.log1p(sum(0.5 ** (a / 14) for a in buys)),
            np.log1p(sum(0.5 ** (a / 14) for a in carts)),
            np.log1p(len(buys)),
            np.log1p(len(carts)),
            np.log1p(max(everything, default=0)),
            not everything,
            not buys,
            min(len(removes) / max(len(carts), 1), 1),
        ]
        np.testing.assert_allclose(table[i], want, rtol=1e-5)


def test_choice_loss_by_hand():
    logp = torch.log_softmax(torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]]), dim=1)
    target, row = torch.tensor([3, 1, 0]), torch.tensor([0, 1, 1])
    weight = torch.tensor([1.0, 0.5, 0.5])
    want = -(logp[0, 2] + 0.5 * logp[1, 0]) / 2
    torch.testing.assert_close(choice_loss(logp, target, row, weight), want)


def test_choices_are_log_probabilities_and_forecasts_multiply_them_by_the_rate(toy_history: History):
    output = CombinedBlock(small(), 0).fit(toy_history).transform(toy_history, toy_history.clients)
    rows = ~np.isnan(output.values).any(axis=1)
    values = output.values[rows]
    names = {
        start: [i for i, n in enumerate(output.columns) if n.startswith(start)] for start in ("choice_", "forecast_")
    }
    prices = [i for i in names["choice_"] if "price_" in output.columns[i]]
    np.testing.assert_allclose(np.exp(values[:, prices]).sum(axis=1), 1, rtol=1e-4)
    far = values[:, output.columns.index("forecast_far")]
    rate = -np.log1p(-1 / (1 + np.exp(-far)))  # −log P(no purchase): the mean of a Poisson count
    first = len(INTENSITIES)
    np.testing.assert_allclose(
        values[:, names["forecast_"][first:]], values[:, names["choice_"]] + np.log(rate)[:, None], atol=2e-3
    )


def touched_by(product: list[list[int]], kind: list[list[int]], days: list[list[float]]) -> Touched:
    nothing = torch.zeros(len(product), len(product[0]), dtype=torch.long)
    return Touched(torch.tensor(product), nothing, nothing, torch.tensor(kind), torch.tensor(days))


def test_copies_are_the_mean_of_a_dirichlet_distribution():
    """Two events of product 2 and one of product 3, all fresh and of weight 1, on a prior worth 20 events."""
    copies = Copies(width=4)
    prior = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))
    touched = touched_by([[2, 2, 3], [0, 0, 0]], [[1, 1, 1], [0, 0, 0]], [[0.0] * 3] * 2)
    with torch.no_grad():
        got = copies(prior, "buy", "product", torch.zeros(2, 4), touched, touched.product).exp()
    want = torch.tensor([[20 * 0.5, 20 * 0.3 + 2, 20 * 0.2 + 1], [23 * 0.1, 23 * 0.1, 23 * 0.8]]) / 23
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_older_events_weigh_less():
    copies = Copies(width=4)
    prior = torch.log(torch.full((1, 2), 0.5))
    touched = touched_by([[1, 2]], [[1, 1]], [[0.0, 60.0]])
    with torch.no_grad():
        got = copies(prior, "buy", "product", torch.zeros(1, 4), touched, touched.product)[0].exp()
    faded = (np.exp(-60 / 15) + np.exp(-60 / 120)) / 2
    np.testing.assert_allclose(got.numpy(), [11 / (21 + faded), (10 + faded) / (21 + faded)], rtol=1e-4)


def test_touched_products_by_the_slow_definition(toy_history: History):
    tokens = tokenise(toy_history, TokenSettings(collapse=False))
    cut = microseconds(toy_history.cut - timedelta(days=7))
    rows = np.arange(len(tokens.clients))
    got = touched_products(tokens, rows, cut)
    products = {sku: row for row, sku in enumerate(tokens.vocabulary.catalogue.sku.tolist())}
    for row, client in enumerate(tokens.clients.tolist()):
        want = sorted(
            (round((cut - microseconds(at)) / 86_400e6, 3), products[sku])
            for kind in (EventType.BUY, EventType.CART, EventType.REMOVE)
            for owner, at, sku, *_ in toy_history.events(kind).collect().rows()
            if owner == client and microseconds(at) < cut
        )[:TOUCHES]
        mine = got.product[row] > 0
        days = [round(float(d), 3) for d in got.days[row][mine]]
        assert sorted(zip(days, got.product[row][mine].tolist(), strict=True)) == want


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("part", ["sequence", "features", "graph", "copies"])
def test_a_part_that_is_left_out_is_not_read(
    toy_history: History, part: str, used: bool, monkeypatch: pytest.MonkeyPatch
):
    """What it would have read is altered at serving: with it numbers move, without it no bit does."""
    make = combined_room.network_batch

    def altered(*arguments, **named):
        batch = make(*arguments, **named)
        if part == "sequence":
            return replace(batch, sequence={**batch.sequence, "kind": batch.sequence["kind"].flip(0)})
        if part == "copies":
            return replace(batch, touched=replace(batch.touched, product=batch.touched.product.flip(0)))
        assert (part in batch.inputs) == used
        return replace(
            batch,
            inputs={name: values.flip(0) for name, values in batch.inputs.items() if name == part}
            | {name: values for name, values in batch.inputs.items() if name != part},
        )

    choice = {"heads": {"choice": {"copies": used}}} if part == "copies" else {"parts": {part: used}}
    network = {**SMALL["network"], **choice}
    block = CombinedBlock(small(network=network), 0).fit(toy_history)
    before = block.transform(toy_history, toy_history.clients).values
    assert np.isfinite(before).any()
    monkeypatch.setattr(combined_room, "network_batch", altered)
    after = block.transform(toy_history, toy_history.clients).values
    assert np.array_equal(before, after, equal_nan=True) == (not used)


def test_all_clients_are_learned_from_where_there_is_no_epoch_to_choose(
    toy_history: History, monkeypatch: pytest.MonkeyPatch
):
    make, seen = combined_room.network_batch, set()

    def noted(length, tokens, inputs, rows, future=None):
        if future is not None and torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            seen.update(rows.tolist())
        return make(length, tokens, inputs, rows, future)

    monkeypatch.setattr(combined_room, "network_batch", noted)
    counts = {}
    for epochs in (1, 2):
        seen.clear()
        block = CombinedBlock(small(train={"epochs": epochs, "prefetch": 0}), 0).fit(toy_history)
        counts[epochs] = len(seen)
        assert len(block.report.validation) == (0 if epochs == 1 else 2)
    early = int((block.tokens.lengths(microseconds(toy_history.cut - timedelta(days=7))) > 0).sum())
    assert counts[2] < counts[1] == early


def test_a_share_of_the_clients_is_drawn_anew_at_every_cut(toy_history: History, monkeypatch: pytest.MonkeyPatch):
    make, taken = combined_room.network_batch, []

    def noted(length, tokens, known, rows, future=None):
        if future is not None:
            taken.extend((known.cut, row) for row in rows.tolist())
        return make(length, tokens, known, rows, future)

    monkeypatch.setattr(combined_room, "network_batch", noted)
    rows = {}
    for share in (1.0, 0.5):
        taken.clear()
        CombinedBlock(small(share=share, train={"epochs": 1, "prefetch": 0}), 0).fit(toy_history)
        cuts = sorted({cut for cut, _ in taken})
        rows[share] = [{row for cut, row in taken if cut == one} for one in cuts]
        assert len(taken) == sum(map(len, rows[share]))  # nobody twice
    for everyone, some in zip(rows[1.0], rows[0.5], strict=True):
        assert some < everyone and 0.3 < len(some) / len(everyone) < 0.7
    first, second = rows[0.5]
    assert first & rows[1.0][1] != second & rows[1.0][0]


@pytest.mark.parametrize(
    "choice",
    [
        {"parts": {"features": {"encoding": "piecewise"}}},
        {"balance": "uncertainty"},
        {"balance": {"kind": "gradient-norm", "decay": 0.9}},
        {"trunk": {"kind": "mlp", "hidden": 16}},
        {"trunk": {"kind": "wide_deep", "depth": 1}},
        {"heads": {"contrast": False, "intensity": False}},
        {"heads": {"choice": False}},
        {"apart": ["choice", "contrast"]},
        {"parts": {"sequence": {"readouts": ["mean"]}}, "encoder": "bag"},
    ],
)
def test_alternatives_train(toy_history: History, choice: dict):
    block = CombinedBlock(small(network={**SMALL["network"], **choice}), 0).fit(toy_history)
    assert all(np.isfinite(list(losses.values())).all() for losses in block.report.losses)


def test_a_batch_of_clients_with_nothing_to_learn_from_is_no_error(toy_history: History):
    """Before a cut of a week ago the windows of 14 days are not over; two clients may have bought nothing since."""
    block = CombinedBlock(small(clients=2, cuts=1), 0).fit(toy_history)
    assert all(np.isfinite(list(losses.values())).all() for losses in block.report.losses)


def test_a_history_without_purchases_in_the_rewound_windows_is_refused(toy_history: History):
    early = toy_history.rewind(30)[0]
    with pytest.raises(KitError, match="raise `cuts` or `stride`"):
        CombinedBlock(small(cuts=1, stride=1), 0).fit(early.rewind(2)[0])


def test_columns_that_a_cut_lacks_are_missing_there(toy_history: History):
    """With every family the columns differ between cuts; the same names must stay in the same places."""
    block = CombinedBlock(small(stats={}, cuts=3), 0).fit(toy_history)
    early = toy_history.rewind(14)[0]
    own = Stats(StatsSettings(), 0).transform(early, early.clients)
    assert own.columns != block.state.inputs["features"].columns  # or this test shows nothing
    values = block.state.inputs["features"].raw(early)
    for i, name in enumerate(block.state.inputs["features"].columns):
        want = own.values[:, own.columns.index(name)] if name in own.columns else np.full(len(values), np.nan)
        np.testing.assert_array_equal(values[:, i], want)


def test_few_learners_everyone_embedded_range_by_range(toy_history: History, monkeypatch: pytest.MonkeyPatch):
    """With fewer learners than clients all still get rows; ranges of clients change no more than the last bits."""
    block = CombinedBlock(small(learners=40), 0).fit(toy_history)
    assert len(block._learners(toy_history)[1].clients) == 40
    whole = block.transform(toy_history, toy_history.clients).values
    known = np.diff(block.tokens.offsets) > 0
    assert len(known) == len(toy_history.clients) > 40
    np.testing.assert_array_equal(np.isfinite(whole).all(axis=1), known)
    monkeypatch.setattr("kit.blocks.combined.CLIENTS_AT_ONCE", 11)
    np.testing.assert_allclose(block.transform(toy_history, toy_history.clients).values, whole, atol=1e-4)
    some = toy_history.clients[5:20]
    np.testing.assert_allclose(block.transform(toy_history, some).values, whole[5:20], atol=1e-4)


def test_a_killed_run_goes_on_with_what_it_had_made_and_ends_with_equal_bytes(
    toy_history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("kit.blocks.combined.CLIENTS_AT_ONCE", 11)
    whole = CombinedBlock(small(), 0).fit(toy_history).transform(toy_history, toy_history.clients)
    made, stop = [], 4  # both rewound cuts and two ranges of clients
    build = Stats.transform

    def counted(self: Stats, history: History, clients: np.ndarray) -> BlockOutput:
        if stop and len(made) == stop:
            raise KeyboardInterrupt
        made.append(len(clients))
        return build(self, history, clients)

    monkeypatch.setattr(Stats, "transform", counted)

    def run() -> BlockOutput:
        unit = CombinedBlock(small(), 0)
        unit.scratch = tmp_path / "scratch"
        return unit.fit(toy_history).transform(toy_history, toy_history.clients)

    with pytest.raises(KeyboardInterrupt):
        run()
    stop = 0
    made.clear()
    again = run()
    assert made == [min(11, len(toy_history.clients) - first) for first in range(22, len(toy_history.clients), 11)]
    assert again.columns == whole.columns
    assert again.values.tobytes() == whole.values.tobytes()


def test_predictions_of_another_network_are_not_taken_for_ones_own(toy_history: History, tmp_path: Path):
    unit = CombinedBlock(small(), 0)
    unit.scratch = tmp_path / "scratch"
    unit.fit(toy_history)
    before = unit.transform(toy_history, toy_history.clients).values.copy()
    with torch.no_grad():
        for weights in unit.network.parameters():
            weights.mul_(1.5)
    after = unit.transform(toy_history, toy_history.clients).values
    assert not np.array_equal(before, after, equal_nan=True)


def test_scaler_rows_are_those_that_sklearn_draws(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    raw = [rng.normal(size=(n, 3)).astype(np.float32) for n in (50, 1, 80)]
    raw[0][3, 1] = np.inf
    monkeypatch.setattr("kit.blocks.quantiles.SCALER_ROWS", 60)
    monkeypatch.setattr("kit.blocks.quantiles.ROWS_AT_ONCE", 7)
    scaler = fit_quantiles(raw, 7)
    stacked = np.concatenate(raw)
    stacked[~np.isfinite(stacked)] = np.nan
    want = QuantileTransformer(n_quantiles=60, subsample=60, random_state=7).fit(stacked)
    np.testing.assert_array_equal(scaler.quantiles_, want.quantiles_)
    np.testing.assert_array_equal(to_quantiles(scaler, stacked.copy()), 2 * want.transform(stacked) - 1)


def test_a_column_that_nobody_has_stays_missing_without_a_warning():
    raw = np.column_stack([np.arange(9.0), np.full(9, np.nan)]).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = to_quantiles(fit_quantiles([raw], 0), raw.copy())
    assert np.isnan(scaled[:, 1]).all()
    np.testing.assert_allclose(scaled[:, 0], np.linspace(-1, 1, 9), atol=1e-6)


def test_candidates_are_the_popular_a_draw_and_the_published():
    items = np.zeros((1000, 8), dtype=np.float32)
    items[::2, 0] = np.log1p(np.arange(500, 0, -1))
    published = np.array([2, 4])  # rows count from 1: products 1 and 3, which nobody has touched
    rows = choose_candidates(items, published, 100, seed=0)
    assert set(range(1, 150, 2)) <= set(rows.tolist())  # 75 most popular: products 0, 2 … 148
    assert {2, 4} <= set(rows.tolist())
    assert 100 <= len(rows) <= 102
    assert (np.diff(rows) > 0).all()
    assert (rows % 2 == 0).sum() > 5  # untouched ones among the draw
    np.testing.assert_array_equal(rows, choose_candidates(items, published, 100, seed=0))
    assert choose_candidates(items, published, 1000, seed=0) is None


def test_choices_among_candidates_are_those_among_all_renormalised(toy_history: History):
    """What competes changes the denominator alone: log odds between two candidates stay, copies aside; every product as a
    candidate is the same as no candidates at all."""
    tokens = tokenise(toy_history, TokenSettings())
    catalogue = tokens.vocabulary.catalogue
    torch.manual_seed(0)
    network = Combined(tokens.vocabulary, {"features": 2, "graph": 0}, ITEM_COLUMNS, small().network).eval()
    items = item_statistics(toy_history, catalogue)
    rows = np.flatnonzero(np.arange(len(catalogue) + 1) % 3 == 1)
    z = torch.randn(4, 16)
    touched = touched_by([[0]] * 4, [[0]] * 4, [[0.0]] * 4)
    found = {}
    for name, some in {"none": None, "all": np.arange(1, len(catalogue) + 1), "some": rows}.items():
        batch = CombinedBatch(torch.zeros(4), {}, touched, {}, make_market(catalogue, items, some, 10))
        with torch.no_grad():
            found[name] = network.each_head()["choice"].choice("buy", "product", z, batch, network.shared(), [])
    torch.testing.assert_close(found["all"], found["none"])
    kept = found["none"][:, rows - 1]
    torch.testing.assert_close(found["some"], torch.log_softmax(kept, dim=1), atol=1e-4, rtol=1e-4)
    market = make_market(catalogue, items, rows, 10)
    assert market.positions(torch.tensor([rows[0], rows[0] + 1, rows[3]])).tolist() == [1, 0, 4]


def test_a_shop_with_more_products_than_candidates_trains(toy_history: History):
    block = CombinedBlock(small(candidates=100), 0).fit(toy_history)  # of 140
    output = block.transform(toy_history, toy_history.clients)
    assert np.isfinite(output.values[np.diff(block.tokens.offsets) > 0]).all()
    skus = [name for name in output.columns if name.startswith("choice_sku_")]
    assert len(skus) == len(toy_history.published_targets(SKU.name))
    assert "buy_product" in block.report.losses[0]


def test_forecasts_are_named_by_the_ids_of_the_data(toy_history: History):
    tokens = tokenise(toy_history, TokenSettings())
    catalogue = tokens.vocabulary.catalogue
    items = item_statistics(toy_history, catalogue)
    few = np.union1d(catalogue.rows(toy_history.published_targets(SKU.name)), [1, 2])
    for rows in (None, few[few > 0].astype(np.int64)):
        plan = Published.of(toy_history, tokens, make_market(catalogue, items, rows, 10))
        # Every choice of this made-up client is the raw id of what is chosen, so a column must hold the id in its name.
        competing = catalogue.sku[1:] if rows is None else catalogue.sku[rows]
        choice = {
            "product": torch.from_numpy(competing)[None].double(),
            "category": torch.from_numpy(catalogue.categories)[None].double(),
            "price": torch.arange(PRICE_BUCKETS)[None].double(),
        }
        found = dict(zip(plan.labels, plan.fill(choice)[0].tolist(), strict=True))
        for task, kind in ((SKU, "sku"), (CATEGORY, "category")):
            published = toy_history.published_targets(task.name).tolist()
            mine = [name for name in plan.labels if name.startswith(f"{kind}_")]
            assert mine == [f"{kind}_{one}" for one in published]
            assert [found[name] for name in mine] == pytest.approx(published)
        assert found["price_7"] == 7
        new = [name for name in plan.labels if name.startswith("new_")]
        category = dict(zip(catalogue.sku[1:].tolist(), catalogue.category[1:].tolist(), strict=True))
        for name in new:
            group = plan.new[new.index(name)]
            own = {catalogue.categories[category[sku] - 1] for sku in competing[group].tolist()}
            assert own == {int(name.removeprefix("new_"))}


def test_columns_are_the_heads_own_vectors_before_forecasts(toy_history: History):
    """z, then every head's vectors, then every head's forecasts; a head that is left out takes its columns along."""
    output = CombinedBlock(small(), 0).fit(toy_history).transform(toy_history, toy_history.clients)
    kinds = [name.split("_")[0] for name in output.columns]
    assert [kind for i, kind in enumerate(kinds) if i == 0 or kinds[i - 1] != kind] == [
        "z",
        "query",
        "forecast",
        "choice",
    ]
    without = small(network={**SMALL["network"], "heads": {"choice": False, "contrast": False}})
    few = CombinedBlock(without, 0).fit(toy_history).transform(toy_history, toy_history.clients)
    assert few.columns == (*(f"z_{i}" for i in range(16)), *(f"forecast_{name}" for name in INTENSITIES))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"cross": {"hidden": 16}}, "the key 'cross' is now `trunk`"),
        ({"weights": {"near": 2.0}}, "is now `heads.intensity.weights`"),
        ({"graph": False}, "is now `parts.graph`"),
        ({"trunk": {"kind": "mlp", "rank": 3}}, "'network.trunk.rank' is unknown.*known: depth, dropout, hidden, kind"),
        ({"heads": {"intensity": {"weights": {"nears": 1}}}}, "no loss term 'nears'; did you mean 'near'"),
        ({"heads": {"intensities": True}}, "'network.heads.intensities' is unknown; did you mean 'intensity'"),
        ({"balance": "fix"}, "no balance called 'fix'; did you mean 'fixed'"),
        ({"parts": {"sequence": {"readouts": ["lats"]}}}, "no readout 'lats'; did you mean 'last'"),
    ],
)
def test_settings_that_have_moved_or_do_not_exist_name_the_right_place(network: dict, words: str):
    with pytest.raises(KitError, match=words):
        parse(CombinedSettings, {"network": network}, "[blocks.rate]")


def test_naming_one_setting_of_the_network_resets_no_other():
    changed = {"heads": {"intensity": {"weights": {"far": 2.0}}}, "encoder": "gru", "trunk": {"rank": 0}}
    network = parse(CombinedSettings, {"network": changed}, "recipe").network
    before = NetworkSettings()
    assert network.heads["intensity"].weights == {**before.heads["intensity"].weights, "far": 2.0}
    assert (network.heads["choice"], network.parts) == (before.heads["choice"], before.parts)
    assert (network.encoder.kind, network.encoder.length) == ("gru", 96)
    assert network.trunk.model_dump() == {**before.trunk.model_dump(), "rank": 0}


def test_what_transform_needs_is_one_state_that_can_be_written_and_read(toy_history: History):
    block = CombinedBlock(small(), 0).fit(toy_history)
    before = block.transform(toy_history, toy_history.clients).values
    block.state = cloudpickle.loads(cloudpickle.dumps(block.state))
    assert block.transform(toy_history, toy_history.clients).values.tobytes() == before.tobytes()
