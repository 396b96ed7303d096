"""Every family on a log small enough to work out by hand."""

from __future__ import annotations

from math import exp, log
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from feature_log import built, history, product_table, value

from kit.challenge import EventType, TaskName
from kit.features.registry import FAMILIES
from kit.history import History

MINUTE = 1 / 1440
A, B, C, D = (list(range(k, k + 16)) for k in (0, 40, 80, 120))
PRODUCTS = product_table([(1, 10, 20, A), (2, 10, 40, B), (3, 11, 80, C), (4, 12, 5, D)])
EVENTS = {
    EventType.CART: [(1, 10.0, 1), (1, 2.0, 2), (1, 1.0, 3)],
    EventType.BUY: [(1, 10.0 - 10 * MINUTE, 1)],
    EventType.REMOVE: [(1, 0.5, 3)],
    EventType.VISIT: [(1, 10.01, 100), (1, 2.0, 100), (1, 1.0, 101), (1, 0.25, 101), (2, 40.0, 100)],
    EventType.SEARCH: [(1, 2.01, B)],
}


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> History:
    targets = {TaskName.CATEGORY: [12, 10], TaskName.SKU: [4, 1]}
    return history(tmp_path_factory.mktemp("log"), EVENTS, PRODUCTS, [1, 2, 3], targets=targets)


@pytest.fixture(scope="module")
def frame(view: History) -> pl.DataFrame:
    return built(view)


ANSWERS = {
    "counts__visit_1d": 2,  # an event exactly one day before the cut is in the window of one day
    "counts__visit_3d": 3,
    "counts__visit_14d": 4,
    "counts__cart_all": 3,
    "counts__any_all": 10,
    "decayed__buy_h7": 2 ** (-(10 - 10 * MINUTE) / 7),
    "decayed__visit_h1": sum(2**-age for age in (10.01, 2.0, 1.0, 0.25)),
    "recency__visit_last": 0.25,
    "recency__visit_first": 10.01,
    "recency__visit_span": 9.76,
    "recency__any_times": 8,  # two pairs of types share an instant
    "gaps__visit_mean": (8.01 + 1.0 + 0.75) / 3,
    "gaps__visit_last": 0.75,
    "gaps__visit_day_mean": 5,  # active days 10, 1 and 0 before the cut
    "gaps__visit_day_sd": 4,
    "gaps__visit_day_cv": 0.8,
    "gaps__visit_day_last": 0.2,
    "gaps__visit_overdue": 0.1,
    "gaps__buy_mean": None,
    "activity__any_days": 5,
    "activity__any_weeks": 2,
    "activity__sessions": 5,
    "activity__size_mean": 2,
    "activity__size_max": 3,
    "activity__with_cart": 3 / 5,
    "activity__with_buy": 1 / 5,
    "calendar__weekend": 6 / 10,  # Saturday midnight (search 23:45 on Friday is not), Sunday
    "trend__visit_7d_diff": 2,
    "trend__visit_7d_ratio": log(4 / 2),
    "presence__has_search": 1,
    "presence__several_days": 1,
    "cohort__first_visit": 1,
    "cohort__first_buy": 0,
    "cohort__last_visit": 1,
    "cohort__new_7d": 0,
    "cohort__new_14d": 1,
    "cohort__first_week": 4,
    "cohort__reach": 10.01 / 40,
    "funnel__buy_per_cart": 1.1 / 4,
    "funnel__cart_per_visit_28d": 3.1 / 5,
    "funnel__carted_bought": 1 / 3,
    "funnel__carted_removed": 1 / 3,
    "funnel__bought_uncarted": 0,
    "funnel__to_buy_logmean": log(11),
    "funnel__category_bought": 1 / 2,
    "open_cart__n": 1,
    "open_cart__n_1d": 0,
    "open_cart__n_3d": 1,
    "open_cart__value": 40,
    "open_cart__newest": 2,
    "open_cart__share": 1 / 4,
    "variety__cart_sku_n": 3,
    "variety__cart_sku_entropy": log(3),
    "variety__cart_category_hhi": 5 / 9,
    "variety__cart_category_top": 2 / 3,
    "variety__visit_url_repeat": 1 / 2,
    "variety__search_query_n": 1,
    "price__cart_mean": 140 / 3,
    "price__cart_last": 80,
    "price__cart_max": 80,
    "price__cart_trend": None,
    "price__buy_sum": 20,
    "repurchase__sku_repeats": 0,
    "top__sku_1": log(1 + 2 ** (-10 / 30) + 3 * 2 ** (-(10 - 10 * MINUTE) / 30)),
    "top__url_100": log(1 + 2 ** (-10.01 / 30) + 2 ** (-2 / 30)),
    "popularity__url_mean": (2 * log(4) + 2 * log(2)) / 4,  # url 101 has too few visits to be counted
    "popularity__sku_max": log(1 + 2),
    "novelty__pioneer": 4,
    "novelty__age_min": 0,
    "novelty__new_now": 1,
    "codes__name_last_0": 80,
    "codes__query_15": 55,
    "codes__name_0": (0 + 0 + 40 + 80 + 80) / 5,
    "taste__query_focus": 1,
    "searches__found": 1,
    "searches__found_n": 1,
    "searches__after_search": 1 / 5,
    "searches__agreement_max": 1,
    "browsing__intent_max": 2 / (3 + 10),
    "browsing__intent_mean": (2 * 2 / 13 + 2 * 1 / 12) / 4,
    "browsing__known": 1,
    "newcomers__unsold": log(1 + 2 ** (-2 / 30) + 2 ** (-1 / 30) + 0.25 * 2 ** (-0.5 / 30)),
}


@pytest.mark.technique("A3")
@pytest.mark.parametrize("column", ANSWERS)
def test_answer(frame: pl.DataFrame, column: str) -> None:
    expected = ANSWERS[column]
    found = value(frame, 1, column)
    if expected is None:
        assert found is None
    else:
        # Vectors in code space are kept on a grid of 1/1024, timestamps in microseconds.
        close = 5e-3 if column.startswith(("taste", "searches")) else 1e-5
        assert found == pytest.approx(expected, rel=close, abs=close)


def test_a_client_who_looked_once(frame: pl.DataFrame) -> None:
    assert value(frame, 2, "recency__buy_last") == 40  # never, for as long as the log reaches
    assert value(frame, 2, "calendar__hour_0") == 1
    assert value(frame, 2, "calendar__weekday_3") == 1
    assert value(frame, 2, "calendar__weekday_entropy") == 0
    assert value(frame, 2, "gaps__visit_mean") is None
    place = np.log1p(39.5) / np.log1p(180) * 10
    assert value(frame, 2, "rhythm__visit_7") == pytest.approx(
        np.log1p(exp(-0.5 * ((place - 7) / 0.75) ** 2)), rel=1e-5
    )


def test_a_client_without_events(frame: pl.DataFrame) -> None:
    for name, item in FAMILIES.loaded().items():
        if item.absent is not None:
            row = frame.filter(pl.col("client_id") == 3).select(pl.col(f"^{name}__.*$"))
            assert set(row.row(0)) == {item.absent}, name
    assert value(frame, 3, "targets__category_10") is None
    assert value(frame, 3, "price__cart_mean") is None


def test_price_bands(frame: pl.DataFrame) -> None:
    amount = sum(
        weight * 2 ** (-age / 45) for age, weight in ((10, 1), (2, 1), (1, 1), (10 - 10 * MINUTE, 3), (0.5, 0.25))
    )
    row = frame.filter(pl.col("client_id") == 1)
    bands = row.select(pl.col("^price_affinity__at_.*$")).to_numpy()
    shares = row.select(pl.col("^price_affinity__share_.*$")).to_numpy()
    assert np.expm1(bands).sum() == pytest.approx(amount, rel=1e-3)
    assert shares.sum() == pytest.approx(amount / (amount + 0.5), rel=1e-3)
    names = [name for name in frame.columns if name.startswith("price_affinity__at")]
    assert names[int(bands.argmax())] == "price_affinity__at_21"  # bought at 20


def test_targets_follow_interest(frame: pl.DataFrame) -> None:
    row = frame.filter(pl.col("client_id") == 1).row(0, named=True)
    assert row["targets__category_10"] > row["targets__category_12"]
    assert row["targets__sku_1"] > row["targets__sku_4"]
    # A url that leads to category 10 speaks for it even to a client who never touched a product.
    looker = frame.filter(pl.col("client_id") == 2).row(0, named=True)
    assert looker["targets__category_10"] > looker["targets__category_12"]
    assert row["targets__category_10"] > looker["targets__category_10"]


def test_repurchases_that_are_due(tmp_path: Path) -> None:
    bought = [(1, age, 1) for age in (30.0, 20.0, 10.0)] + [(2, 3.0, 1)]
    frame = built(history(tmp_path, {EventType.BUY: bought}, PRODUCTS, [1, 2]), "repurchase")
    answers = {"repeats": 2, "repeated": 1, "gap_mean": 10, "gap_last": 10, "due_14": 1, "due_28": 0, "overdue": 0}
    for name, expected in answers.items():
        assert value(frame, 1, f"repurchase__sku_{name}") == expected
        assert value(frame, 1, f"repurchase__category_{name}") == expected
    assert value(frame, 1, "repurchase__sku_timing") == pytest.approx(1)
    assert value(frame, 2, "repurchase__sku_due_14") == 1  # expected after ten days like everybody else's
    assert value(frame, 2, "repurchase__sku_timing") == pytest.approx(3 / 10)
