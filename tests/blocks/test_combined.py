"""The combined block: labels by the slow definition, losses by hand, and what must and must not be learned."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
import torch

from kit.blocks.combined import CombinedBlock, CombinedSettings
from kit.blocks.futures import item_statistics, rewound_futures
from kit.challenge import EventType
from kit.errors import KitError
from kit.history import History
from kit.models.combined import INTENSITIES, choice_loss
from kit.tokens import TokenSettings, microseconds, tokenise

SMALL = {
    "network": {
        "width": 16,
        "events": {"width": 8, "age": True},
        "encoder": {"layers": 1, "heads": 2, "length": 16},
        "cross": {"hidden": 16, "rank": 4},
    },
    "stats": {"families": ["counts"]},
    "train": {"epochs": 1},
    "cuts": 2,
}


def small(**changes) -> CombinedSettings:
    return CombinedSettings(**{**SMALL, **changes})


def test_labels_equal_the_slow_definition(toy_history: History):
    tokens = tokenise(toy_history, TokenSettings())
    futures = rewound_futures(toy_history, tokens, cuts=3, stride=7)
    assert [future.cut for future in futures] == [
        microseconds(toy_history.cut - timedelta(days=7 * k)) for k in (1, 2, 3)
    ]
    buys = toy_history.events(EventType.BUY).collect().rows()
    carts = toy_history.events(EventType.CART).collect().rows()
    products = {sku: row for row, sku in enumerate(tokens.vocabulary.catalogue.sku.tolist())}
    for future in futures:
        cut, day = future.history.cut, timedelta(days=1)
        for row, client in enumerate(tokens.clients.tolist()):
            mine = [(at, sku) for owner, at, sku, *_ in buys if owner == client]
            near = any(cut <= at < min(cut + 14 * day, toy_history.cut) for at, _ in mine)
            far = any(cut + 14 * day <= at < cut + 28 * day for at, _ in mine)
            cart = any(cut <= at < min(cut + 14 * day, toy_history.cut) for owner, at, *_ in carts if owner == client)
            assert future.intensity[row].tolist() == [near, far and cut + 14 * day < toy_history.cut, cart, near]
            whole = cut + 14 * day <= toy_history.cut
            bought = any(at < cut for at, _ in mine)
            assert future.known[row].tolist() == [whole, cut + 28 * day <= toy_history.cut, whole, whole and bought]
            want = {products[sku] for at, sku in mine if cut <= at < min(cut + 28 * day, toy_history.cut)}
            pairs = future.positives["buy"]
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


def test_forecasts_are_log_probabilities(toy_history: History):
    output = CombinedBlock(small(), 0).fit(toy_history).transform(toy_history, toy_history.clients)
    prices = [i for i, name in enumerate(output.columns) if name.startswith("forecast_price_")]
    later = output.columns.index(f"forecast_{INTENSITIES[1]}")
    rows = ~np.isnan(output.values).any(axis=1)
    total = np.log(np.exp(output.values[rows][:, prices]).sum(axis=1))
    expected = -np.log1p(np.exp(-output.values[rows, later]))
    np.testing.assert_allclose(total, expected, atol=1e-4)


@pytest.mark.parametrize("part", ["sequence", "features"])
def test_parts_can_be_left_out(toy_history: History, part: str):
    network = {**SMALL["network"], part: False}
    output = CombinedBlock(small(network=network), 0).fit(toy_history).transform(toy_history, toy_history.clients)
    assert np.isfinite(output.values).any()


@pytest.mark.parametrize("choice", [{"numeric": "piecewise"}, {"balance": "uncertainty"}, {"balance": "gradient-norm"}])
def test_alternatives_train(toy_history: History, choice: dict):
    block = CombinedBlock(small(network={**SMALL["network"], **choice}), 0).fit(toy_history)
    assert all(np.isfinite(list(losses.values())).all() for losses in block.report.losses)


def test_a_history_without_purchases_in_the_rewound_windows_is_refused(toy_history: History):
    early = toy_history.rewind(30)[0]
    with pytest.raises(KitError, match="raise `cuts` or `stride`"):
        CombinedBlock(small(cuts=1, stride=1), 0).fit(early.rewind(2)[0])
