"""Random logs against definitions written the slow way."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from math import log
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from feature_log import built, history, product_table, value
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.challenge import EventType
from kit.features.embedding import category_vectors, code_space, item_vectors
from kit.features.matrix import exact_product, on_grid, positions, unit

PRODUCTS = product_table([(sku, sku // 3, sku * 10, list(range(sku, sku + 16))) for sku in range(9)])
AGES = st.integers(1, 60 * 1440).map(lambda minutes: minutes / 1440)
ROWS = st.lists(st.tuples(st.integers(1, 3), AGES, st.integers(0, 8)), min_size=1, max_size=25)


@settings(max_examples=20, deadline=None)
@given(ROWS, ROWS)
def test_counts_gaps_and_variety(carts: list[tuple[int, float, int]], visits: list[tuple[int, float, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        events = {EventType.CART: carts, EventType.VISIT: visits}
        frame = built(
            history(Path(folder), events, PRODUCTS, [1, 2, 3]), "counts", "gaps", "variety", "decayed", "trend"
        )
    for client in (1, 2, 3):
        for name, rows in (("cart", carts), ("visit", visits)):
            ages = sorted((age for who, age, _ in rows if who == client), reverse=True)
            now, before = sum(age <= 7 for age in ages), sum(7 < age <= 14 for age in ages)
            assert value(frame, client, f"counts__{name}_7d") == now
            assert value(frame, client, f"counts__{name}_all") == len(ages)
            assert value(frame, client, f"trend__{name}_7d_diff") == now - before
            decayed = sum(2 ** (-age / 14) for age in ages)
            assert value(frame, client, f"decayed__{name}_h14") == pytest.approx(decayed, rel=1e-5)
            gaps = [early - late for early, late in pairwise(ages)]
            same(value(frame, client, f"gaps__{name}_mean"), sum(gaps) / len(gaps) if gaps else None)
        skus = [sku for who, _, sku in carts if who == client]
        shares = [skus.count(sku) / len(skus) for sku in set(skus)]
        entropy = -sum(share * log(share) for share in shares) if skus else None
        same(value(frame, client, "variety__cart_sku_entropy"), entropy)


def same(found: float | None, expected: float | None) -> None:
    assert (found is None) == (expected is None)
    if found is not None:
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(ROWS, ROWS, ROWS)
def test_open_cart(
    carts: list[tuple[int, float, int]], buys: list[tuple[int, float, int]], removes: list[tuple[int, float, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        events = {EventType.CART: carts, EventType.BUY: buys, EventType.REMOVE: removes}
        frame = built(history(Path(folder), events, PRODUCTS, [1, 2, 3]), "open_cart")
    for client in (1, 2, 3):
        left = 0
        for sku in range(9):
            newest = [
                min((age for who, age, what in rows if (who, what) == (client, sku)), default=None)
                for rows in (carts, buys, removes)
            ]
            carted, *ended = newest
            left += carted is not None and all(age is None or age > carted for age in ended)
        assert value(frame, client, "open_cart__n") == left


def test_a_client_without_any_touch_has_no_cart_that_was_opened_just_now(tmp_path: Path) -> None:
    events = {EventType.CART: [(1, 3.0, 0)], EventType.VISIT: [(1, 9.0, 7), (2, 4.0, 7), (2, 12.5, 7)]}
    frame = built(history(tmp_path, events, PRODUCTS, [1, 2, 3]), "open_cart")
    assert [value(frame, 1, f"open_cart__{name}") for name in ("n", "newest", "oldest")] == [1, 3.0, 3.0]
    assert [value(frame, 2, f"open_cart__{name}") for name in ("n", "newest", "oldest")] == [0, 12.5, 12.5]


@given(st.integers(1, 40), st.integers(0, 10_000))
def test_products_on_the_grid_do_not_depend_on_the_rows_beside_them(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, right = (on_grid(unit(rng.normal(size=(n, 24)))) for n in (rows, 17))
    exact = left.astype(np.float64) @ right.astype(np.float64).T
    np.testing.assert_array_equal((left @ right.T).astype(np.float64), exact)
    amounts, kernel = rng.exponential(30, (rows, 50)), rng.random((50, 9))
    whole = exact_product(amounts, kernel)
    single = np.vstack([exact_product(amounts[k : k + 1], kernel) for k in range(rows)])
    np.testing.assert_array_equal(whole, single)
    np.testing.assert_allclose(whole, amounts @ kernel, rtol=1e-2)


@given(st.lists(st.integers(-5, 20)), st.sets(st.integers(-5, 20)))
def test_positions(values: list[int], known: set[int]) -> None:
    order = sorted(known)
    found = positions(pl.Series(values, dtype=pl.Int64), np.array(order, dtype=np.int64))
    assert found.tolist() == [order.index(one) if one in known else -1 for one in values]


def test_code_space_brings_a_kind_of_product_together(tmp_path: Path) -> None:
    """Two kinds of product use codes of their own; raw codes are shuffled, so their size says nothing."""
    rng = np.random.default_rng(0)
    books = [rng.permutation(256)[:40].reshape(2, 20) for _ in range(16)]
    rows = []
    for sku in range(400):
        kind = sku % 2
        rows.append((sku, kind, 50, [int(rng.choice(books[place][kind])) for place in range(16)]))
    view = history(tmp_path, {EventType.BUY: [(1, 1.0, 0)]}, product_table(rows), [1])
    vectors = item_vectors(view).astype(np.float64)
    cosines = vectors @ vectors.T
    alike = np.equal.outer(np.arange(400) % 2, np.arange(400) % 2)
    assert cosines[alike].mean() > 0.4
    assert cosines[~alike].mean() < 0
    centres = category_vectors(view, np.array([0, 1]))
    assert (np.argmax(vectors @ centres.T, axis=1) == np.arange(400) % 2).mean() > 0.99
    again = code_space(history(tmp_path, {EventType.BUY: [(1, 1.0, 0)]}, product_table(rows[::-1]), [1]))
    np.testing.assert_array_equal(again.tokens, code_space(view).tokens)
