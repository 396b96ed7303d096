"""Tokens built range by range against the same built at once in memory: equal bytes, whatever the ranges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kit.arrays import Growing, where
from kit.challenge import SKU_EVENTS, EventType
from kit.errors import KitError
from kit.history import History
from kit.store import Store
from kit.tokens import KINDS, Catalogue, Tokens, TokenSettings, Vocabulary, Words, kind_code, microseconds, tokenise
from kit.tokens.build import write_tokens


def at_once(history: History, settings: TokenSettings, vocabulary: Vocabulary | None = None) -> Tokens:
    """The whole construction in memory, from one sorted table of all events."""
    searches = history.events(EventType.SEARCH).collect()["query"].to_list()
    codes = sorted({tuple(query) for query in searches})
    row = {query: i for i, query in enumerate(codes, start=1)}
    parts = []
    for kind in KINDS:
        frame = history.events(kind).collect()
        value = [row[tuple(query)] for query in searches] if kind is EventType.SEARCH else frame[kind.value_column]
        part = {
            "client": np.searchsorted(history.clients, frame["client_id"].to_numpy()),
            "time": frame["timestamp"].cast(pl.Int64),
            "kind": np.full(len(frame), kind_code(kind), dtype=np.uint8),
            "value": np.asarray(value, dtype=np.int64),
        }
        parts.append(pl.DataFrame(part))
    merged = pl.concat(parts).sort("client", "time", "kind", "value")
    merged = merged.unique(maintain_order=True) if settings.collapse else merged
    client, time, kind_of, raw = (merged[name].to_numpy() for name in ("client", "time", "kind", "value"))
    sku = np.isin(kind_of, [kind_code(k) for k in SKU_EVENTS])
    url = kind_of == kind_code(EventType.VISIT)
    search = kind_of == kind_code(EventType.SEARCH)
    if vocabulary is None:
        skus = Words.counted(raw[sku], time[sku], settings.min_sku)
        urls = Words.counted(raw[url], time[url], settings.min_url)
        vocabulary = Vocabulary(skus, urls, Catalogue.of(history, skus))

    def placed(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
        column = np.zeros(len(mask), dtype=np.int32)
        column[mask] = values
        return column

    return Tokens(
        clients=history.clients,
        offsets=np.searchsorted(client, np.arange(len(history.clients) + 1)).astype(np.int64),
        time=time,
        kind=kind_of,
        sku=placed(sku, vocabulary.skus.index(raw[sku])),
        product=placed(sku, vocabulary.catalogue.rows(raw[sku])),
        url=placed(url, vocabulary.urls.index(raw[url])),
        query=placed(search, raw[search]),
        queries=np.array([(0,) * 16, *codes], dtype=np.uint8),
        vocabulary=vocabulary,
        cut=microseconds(history.cut),
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("collapse", [True, False])
def test_ranges_leave_no_trace_in_the_bytes(toy_history: History, collapse: bool, tmp_path: Path):
    """One client at a time, some, all; ids counted in one pass or in many: the files of the construction at once."""
    settings = TokenSettings(min_sku=2, min_url=3, collapse=collapse)
    (tmp_path / "once").mkdir()
    at_once(toy_history, settings).save(tmp_path / "once")
    expected = files(tmp_path / "once")
    assert len(expected["time.npy"]) > 10_000
    for chunk, block in ((1, 1000), (7, 64), (79, 10**6), (1000, 333)):
        folder = tmp_path / f"{chunk}"
        folder.mkdir()
        write_tokens(folder, toy_history, settings, chunk=chunk, block=block)
        assert files(folder) == expected


def test_a_given_vocabulary_in_ranges(toy_history: History, tmp_path: Path):
    settings = TokenSettings(min_sku=2, min_url=3)
    old = tokenise(toy_history.rewind(20)[0], settings).vocabulary
    some = toy_history.among(toy_history.clients[::3])
    expected = at_once(some, settings, old)
    write_tokens(tmp_path, some, settings, old, chunk=4, block=50)
    assert not (tmp_path / "sku_ids.npy").exists()
    found = Tokens.load(tmp_path, old)
    assert found.vocabulary is old
    for name in ("clients", "offsets", "time", "kind", "sku", "product", "url", "query", "queries"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_empty_tables(toy_history: History, tmp_path: Path):
    """Nothing before the cut at all, and clients of whom nothing is known among those of whom something is."""
    settings = TokenSettings()
    for name, history in (
        ("early", toy_history.rewind(400)[0]),
        ("strangers", toy_history.among(np.append(toy_history.clients[:2], [10**6, 10**6 + 1]))),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}-once").mkdir()
        write_tokens(tmp_path / name, history, settings, chunk=1)
        at_once(history, settings).save(tmp_path / f"{name}-once")
        assert files(tmp_path / name) == files(tmp_path / f"{name}-once")


def test_kept_in_the_store_and_mapped(toy, toy_history: History, tmp_path: Path):
    """A second call reads what the first wrote; other clients, another cut, another vocabulary are other files; a broken build
    leaves nothing."""
    history = History.open(toy, store=Store(tmp_path))
    settings = TokenSettings(min_sku=2)
    first = tokenise(history, settings)
    made = sorted(path.name for path in (tmp_path / "tokens").iterdir() if path.is_dir())
    again = tokenise(history, settings)
    assert len(made) == 1
    np.testing.assert_array_equal(first.url, again.url)
    assert not first.time.flags.writeable
    tokenise(history.among(history.clients[:5]), settings)
    tokenise(history.rewind(7)[0], settings)
    tokenise(history, settings, first.vocabulary)
    assert len([path for path in (tmp_path / "tokens").iterdir() if path.is_dir()]) == 4
    (record,) = [r for r in Store(tmp_path).records("tokens") if Path(r["folder"]).name == made[0]]
    assert record["parents"] == [history.artefact]
    with pytest.raises(ValueError, match="without a store"):
        History(history._source, history.cut, history.clients).keep("tokens", {}, lambda folder: None)
    with pytest.raises(KitError, match="so broken"):
        history.keep("tokens", {"x": 1}, _broken)
    assert not list((tmp_path / "tokens").rglob("half"))


def _broken(folder: Path) -> None:
    (folder / "half").write_text("written")
    raise KitError("so broken", "not")


@pytest.mark.parametrize("lengths", [(), (0,), (3, 0, 4), (99_999, 1)])
def test_a_growing_file_is_what_numpy_saves(lengths: tuple[int, ...], tmp_path: Path):
    parts = [np.arange(n, dtype=np.int32) for n in lengths]
    with Growing(tmp_path / "a.npy", "i4") as file:
        for part in parts:
            file.append(part)
    np.save(tmp_path / "b.npy", np.concatenate([np.empty(0, dtype=np.int32), *parts]))
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_touches_and_places(toy_history: History, monkeypatch: pytest.MonkeyPatch):
    tokens = tokenise(toy_history, TokenSettings())
    keep = tokens.product > 0
    touches = tokens.touches
    for i in range(len(tokens.clients)):
        mine = slice(tokens.offsets[i], tokens.offsets[i + 1])
        ours = slice(touches.offsets[i], touches.offsets[i + 1])
        np.testing.assert_array_equal(touches.time[ours], tokens.time[mine][keep[mine]])
        np.testing.assert_array_equal(touches.product[ours], tokens.product[mine][keep[mine]])
        assert (tokens.owners(np.arange(mine.start, mine.stop)) == i).all()
    monkeypatch.setattr("kit.arrays.BLOCK", 7)
    np.testing.assert_array_equal(where(tokens.product, lambda product: product > 0), np.flatnonzero(keep))
    assert len(where(np.empty(0, dtype=np.int32), lambda x: x > 0)) == 0
