"""Tokens against their slow definition; prefixes at rewound cuts; padded batches; buckets of similar length."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.challenge import EventType
from kit.errors import KitError
from kit.history import History
from kit.tokens import (
    KINDS,
    Tokens,
    TokenSettings,
    Words,
    kind_code,
    length_buckets,
    microseconds,
    sequence_batch,
    tokenise,
)
from kit.tokens.vocabulary import index_in

SETTINGS = TokenSettings(min_sku=2, min_url=3)
DAY = 86_400 * 1_000_000


@pytest.fixture(scope="module")
def tokens(toy_history: History) -> Tokens:
    return tokenise(toy_history, SETTINGS)


def slow_events(history: History, collapse: bool) -> dict[int, list[tuple]]:
    """client → (time, kind, value) in order, one event at a time."""
    found: dict[int, list[tuple]] = defaultdict(list)
    for code, kind in enumerate(KINDS, start=1):
        for row in history.events(kind).collect().iter_rows(named=True):
            value = row[kind.value_column]
            value = tuple(value) if kind is EventType.SEARCH else value
            found[row["client_id"]].append((microseconds(row["timestamp"]), code, value))
    return {client: sorted(set(rows) if collapse else rows) for client, rows in found.items()}


def slow_words(events: dict[int, list[tuple]], codes: list[int], threshold: int) -> dict[int, int]:
    """raw id → instant at which its count reached the threshold."""
    times = defaultdict(list)
    for rows in events.values():
        for time, kind, value in rows:
            if kind in codes:
                times[value].append(time)
    return {value: sorted(t)[threshold - 1] for value, t in times.items() if len(t) >= threshold}


@pytest.mark.technique("A2")
@pytest.mark.parametrize("collapse", [True, False])
def test_equals_the_slow_definition(toy_history: History, collapse: bool):
    tokens = tokenise(toy_history, TokenSettings(min_sku=2, min_url=3, collapse=collapse))
    events = slow_events(toy_history, collapse)
    skus, urls = slow_words(events, [1, 2, 3], 2), slow_words(events, [4], 3)
    words = tokens.vocabulary
    for known, slow in ((words.skus, skus), (words.urls, urls)):
        assert dict(zip(known.ids.tolist(), known.known_at.tolist(), strict=True)) == slow
        assert (np.diff(known.known_at) >= 0).all()
    products = {row["sku"]: row for row in toy_history.products().collect().iter_rows(named=True)}
    for i, client in enumerate(tokens.clients.tolist()):
        mine = slice(tokens.offsets[i], tokens.offsets[i + 1])
        expected = events.get(client, [])
        assert list(zip(tokens.time[mine].tolist(), tokens.kind[mine].tolist(), strict=True)) == [
            e[:2] for e in expected
        ]
        for at, (_, code, value) in enumerate(expected, start=int(tokens.offsets[i])):
            if code == kind_code(EventType.SEARCH):
                assert tuple(tokens.queries[tokens.query[at]]) == value
                assert tokens.sku[at] == tokens.product[at] == tokens.url[at] == 0
            elif code == kind_code(EventType.VISIT):
                assert tokens.url[at] == (words.urls.ids.tolist().index(value) + 1 if value in urls else 0)
                assert tokens.product[at] == tokens.category[at] == tokens.price[at] == tokens.query[at] == 0
            else:
                assert tokens.sku[at] == (words.skus.ids.tolist().index(value) + 1 if value in skus else 0)
                product = products[value]
                assert words.catalogue.sku[tokens.product[at]] == value
                assert words.catalogue.categories[tokens.category[at] - 1] == product["category"]
                assert tokens.price[at] == product["price"] + 1
                assert words.catalogue.codes[tokens.product[at]].tolist() == product["name"]
    assert len(tokens) == sum(map(len, events.values()))
    assert len(np.unique(tokens.queries, axis=0)) == len(tokens.queries)


@pytest.mark.parametrize("days", [1, 9, 20])
def test_a_rewound_history_is_a_prefix(toy_history: History, tokens: Tokens, days: int):
    """One tokenisation at the last cut serves all earlier ones: prefixes of tokens, of words, and of what is live."""
    past, _ = toy_history.rewind(days)
    earlier = tokenise(past, SETTINGS)
    cut = microseconds(past.cut)
    rows = np.arange(len(tokens.clients))
    stops = tokens.stops(rows, cut)
    np.testing.assert_array_equal(stops - tokens.offsets[:-1], np.diff(earlier.offsets))
    keep = np.concatenate([np.arange(a, b) for a, b in zip(tokens.offsets[:-1], stops, strict=True)])
    for name in ("time", "kind", "product", "category", "price"):
        np.testing.assert_array_equal(getattr(tokens, name)[keep], getattr(earlier, name))
    np.testing.assert_array_equal(tokens.queries[tokens.query[keep]], earlier.queries[earlier.query])
    for name in ("skus", "urls"):
        words, before = getattr(tokens.vocabulary, name), getattr(earlier.vocabulary, name)
        live = int(words.live(cut))
        assert 0 < len(before) == live
        np.testing.assert_array_equal(words.ids[:live], before.ids)
        column = name[:-1]
        index = getattr(tokens, column)[keep]
        np.testing.assert_array_equal(np.where(index <= live, index, 0), getattr(earlier, column))


@pytest.mark.parametrize("days", [0, 9])
def test_batches_at_a_cut_equal_batches_of_the_rewound_history(toy_history: History, tokens: Tokens, days: int):
    past = toy_history.rewind(days)[0] if days else toy_history
    rows = np.array([5, 0, 17, 5])
    one = sequence_batch(tokens, rows, microseconds(past.cut), 12)
    two = sequence_batch(tokenise(past, SETTINGS), rows, None, 12)
    for key in set(one) - {"position"}:
        np.testing.assert_array_equal(one[key], two[key], err_msg=key)


@pytest.mark.technique("A2", "A4")
def test_a_batch_by_hand(toy_history: History, tokens: Tokens):
    events = slow_events(toy_history, True)
    cuts = tokens.cut - DAY * np.array([0, 3, 10, 59])
    rows = np.array([4, 4, 30, 8])
    batch = sequence_batch(tokens, rows, cuts, 7)
    assert batch["kind"].shape == (4, 7)
    place = 0
    for b, (row, cut) in enumerate(zip(rows, cuts, strict=True)):
        past = [e for e in events[int(tokens.clients[row])] if e[0] < cut]
        mine = past[-7:]
        assert batch["size"][b] == len(mine) == batch["mask"][b].sum()
        assert batch["kind"][b].tolist() == [e[1] for e in mine] + [0] * (7 - len(mine))
        for t, (time, kind, value) in enumerate(mine):
            index = len(past) - len(mine) + t
            seconds = (time - past[index - 1][0]) // 10**6 if index else None
            expected = 1 if seconds is None else min(2 + int(2 * np.log2(1 + seconds)), 55)
            assert batch["gap"][b, t] == expected
            monday = pl.Series([time]).cast(pl.Datetime("us")).dt
            assert batch["hour"][b, t] == 1 + (monday.weekday().item() - 1) * 24 + monday.hour().item()
            assert batch["age"][b, t] == min(1 + int(2 * np.log2(1 + (cut - time) / 3.6e9)), 31)
            assert batch["time"][b, t] == time
            if kind != kind_code(EventType.VISIT):
                assert batch["coded"][place] == b * 7 + t
                assert batch["asked"][place] == (kind == kind_code(EventType.SEARCH))
                if kind == kind_code(EventType.SEARCH):
                    assert tuple(batch["codes"][place]) == value
                place += 1
    assert place == len(batch["coded"])


def test_edges_of_batches(tokens: Tokens):
    nobody = sequence_batch(tokens, np.empty(0, dtype=np.int64))
    assert nobody["kind"].shape == (0, 1)
    before = sequence_batch(tokens, np.array([1, 2]), int(tokens.time.min()))
    assert before["size"].tolist() == [0, 0] and not before["mask"].any() and len(before["codes"]) == 0
    assert sequence_batch(tokens, np.array([1]), length=3, width=9)["kind"].shape == (1, 9)
    with pytest.raises(ValueError, match="after that of the tokens"):
        sequence_batch(tokens, np.array([1]), tokens.cut + 1)


def test_a_given_vocabulary_is_kept(toy_history: History, tokens: Tokens):
    past, _ = toy_history.rewind(20)
    old = tokenise(past, SETTINGS).vocabulary
    later = tokenise(toy_history, SETTINGS, old)
    assert later.vocabulary is old
    assert later.sku.max() <= len(old.skus) < len(tokens.vocabulary.skus)
    np.testing.assert_array_equal(later.time, tokens.time)


def test_a_view_of_some_clients_has_their_tokens(toy_history: History, tokens: Tokens):
    some = toy_history.clients[[3, 7, 20]]
    part = tokenise(toy_history.among(some), SETTINGS, tokens.vocabulary)
    rows = tokens.rows(some)
    for key, value in sequence_batch(part, np.arange(3)).items():
        if key != "position":
            np.testing.assert_array_equal(value, sequence_batch(tokens, rows)[key])
    with pytest.raises(ValueError, match="do not cover"):
        part.rows(toy_history.clients[:1])


def test_saved_and_mapped(tokens: Tokens, tmp_path: Path):
    tokens.save(tmp_path)
    back = Tokens.load(tmp_path)
    rows = np.arange(20)
    for key, value in sequence_batch(back, rows, tokens.cut - DAY).items():
        np.testing.assert_array_equal(value, sequence_batch(tokens, rows, tokens.cut - DAY)[key])
    np.testing.assert_array_equal(back.vocabulary.urls.known_at, tokens.vocabulary.urls.known_at)
    (tmp_path / "url.npy").unlink()
    with pytest.raises(KitError, match=r"url\.npy"):
        Tokens.load(tmp_path)


def test_a_history_without_events(toy_history: History):
    past, _ = toy_history.rewind(400)
    empty = tokenise(past, SETTINGS)
    assert len(empty) == 0 and not empty.lengths().any()
    assert sequence_batch(empty, np.arange(3))["mask"].tolist() == [[False]] * 3
    assert length_buckets(empty.lengths(), 100) == []


@given(st.lists(st.integers(-5, 5), max_size=30), st.integers(1, 4))
def test_words_become_known_with_the_event_that_completes_their_count(values: list[int], threshold: int):
    """Slow definition: replay the events; indices follow the order of becoming known."""
    words = Words.counted(np.array(values, dtype=np.int64), np.arange(len(values), dtype=np.int64), threshold)
    counts: dict[int, int] = defaultdict(int)
    order = []
    for time, value in enumerate(values):
        assert int(words.live(time)) == len(order)
        counts[value] += 1
        if counts[value] == threshold:
            order.append(value)
    assert words.ids.tolist() == order
    assert words.index(np.arange(-6, 7)).tolist() == [order.index(v) + 1 if v in order else 0 for v in range(-6, 7)]


@given(st.lists(st.integers(-9, 9), unique=True, max_size=12))
def test_index_in_sorted_and_unsorted(ids: list[int]):
    values = np.arange(-10, 11)
    plain = np.array(ids, dtype=np.int64)
    expected = [ids.index(v) + 1 if v in ids else 0 for v in values.tolist()]
    assert index_in(plain, values, np.argsort(plain)).tolist() == expected


@given(st.lists(st.integers(0, 40), max_size=200), st.integers(40, 400), st.integers(0, 3))
def test_buckets_hold_every_row_once_within_the_budget(sizes: list[int], budget: int, seed: int):
    lengths = np.array(sizes, dtype=np.int64)
    for rng in (None, np.random.default_rng(seed)):
        batches = length_buckets(lengths, budget, rng)
        rows = np.concatenate(batches) if batches else np.empty(0, dtype=np.int64)
        np.testing.assert_array_equal(np.sort(rows), np.flatnonzero(lengths))
        assert all(len(batch) * lengths[batch].max() <= budget for batch in batches)


def padding_share(sizes: np.ndarray, batches: list[np.ndarray]) -> float:
    """Share of the padded tokens B · T that is padding, over all batches."""
    padded = sum(len(rows) * int(sizes[rows].max()) for rows in batches)
    return 1.0 - sum(int(sizes[rows].sum()) for rows in batches) / padded


def test_buckets_waste_little_and_repeat_by_seed():
    sizes = np.minimum(np.random.default_rng(0).geometric(0.03, 8000), 128)
    one, two, other = (length_buckets(sizes, 8192, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert padding_share(sizes, one) < 0.1
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=False))
    shuffled = [np.arange(i, i + 80) for i in range(0, 8000, 80)]
    assert padding_share(sizes, shuffled) > 0.5


def test_microseconds_match_polars(toy_history: History):
    frame = (
        toy_history.events(EventType.BUY).select("timestamp", us=pl.col("timestamp").cast(pl.Int64)).head(5).collect()
    )
    assert [microseconds(t) for t in frame["timestamp"]] == frame["us"].to_list()
    assert microseconds(toy_history.cut + timedelta(microseconds=7)) - microseconds(toy_history.cut) == 7
