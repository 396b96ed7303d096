"""The synthetic shop: bytes, layout, calibration bands, and the phenomena that it claims to carry."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kit.challenge import CODE_VALUES, CODES, EventType
from kit.data import shop
from kit.data.check import check_folder
from kit.data.layout import DataFolder
from kit.data.scan import codes_expr, scan_events, scan_products
from kit.data.shop import clients as people
from kit.data.shop.behaviour import BEHAVIOUR
from kit.data.shop.codes import LATENT, Quantiser, as_text
from kit.data.shop.presets import CELLS, CUT_DAY, DAYS, PRESETS, VALIDATION_DAY
from kit.data.shop.simulate import Reason, Sessions, simulate
from kit.data.shop.world import World, build_world
from kit.data.shop.write import ShopTables
from kit.data.split import split_folder
from kit.data.stats import folder_stats
from kit.errors import KitError, Severity
from kit.tasks import CHALLENGE


def digests(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    root = tmp_path_factory.mktemp("raw") / "tiny"
    shop.synth(root, "tiny", seed=1)
    return DataFolder(root)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    root = tmp_path_factory.mktemp("split") / "tiny"
    shop.synth(root, "tiny", seed=1)
    split_folder(root)
    return DataFolder(root)


@dataclasses.dataclass
class Run:
    """A simulation without files."""

    world: World
    clients: people.Clients
    before: people.Clients
    sessions: Sessions
    at_cut: people.Clients


@pytest.fixture(scope="module")
def run() -> Run:
    preset = dataclasses.replace(PRESETS["small"], relevant=6_000, other=2_000)
    world = build_world(preset, np.random.default_rng(5))
    rng = np.random.default_rng(6)
    clients = people.build_clients(world, preset, np.arange(preset.clients), rng)
    before = clients.take(np.arange(len(clients)))
    sessions, at_cut = simulate(clients, world, rng)
    return Run(world, clients, before, sessions, at_cut)


# --- bytes and refusals


def test_equal_seeds_give_equal_bytes_and_others_do_not(raw: DataFolder, tmp_path: Path) -> None:
    shop.synth(tmp_path / "again", "tiny", seed=1)
    shop.synth(tmp_path / "other", "tiny", seed=2)
    first = digests(raw.root)
    assert digests(tmp_path / "again") == first
    changed = {name for name, digest in digests(tmp_path / "other").items() if first[name] != digest}
    assert changed == set(first)  # every file depends on the seed


def test_bytes_of_a_shard_do_not_depend_on_the_other_shards(tmp_path: Path) -> None:
    preset = dataclasses.replace(PRESETS["tiny"], relevant=200, other=400, shard=200)
    world = build_world(preset, np.random.default_rng(0))
    for name, order in (("a", (0, 1, 2)), ("b", (2, 0, 1))):
        (tmp_path / name).mkdir()
        tables = ShopTables(tmp_path / name)
        for shard in order:
            shop._shard(tables, world, preset, 7, shard, CUT_DAY)
        tables.join(preset.shards)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert set(digests(tmp_path / "a")) == {f"{kind.value}.parquet" for kind in EventType}


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(KitError, match="not empty"):
        shop.synth(tmp_path, "tiny", seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_unknown_presets_and_negative_seeds_are_explained(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="did you mean 'small'"):
        shop.synth(tmp_path / "x", "smal", seed=0)
    with pytest.raises(KitError, match="-1"):
        shop.synth(tmp_path / "x", "tiny", seed=-1)
    assert not any(tmp_path.iterdir())


def test_a_failed_run_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(shop, "save_truth", fail)
    with pytest.raises(OSError, match="disk full"):
        shop.synth(tmp_path / "x", "tiny", seed=0)
    assert not any(tmp_path.iterdir())


# --- layout


def test_the_layout_is_sound(raw: DataFolder) -> None:
    errors = [f for f in check_folder(raw.root) if f.severity is Severity.ERROR]
    assert errors == []
    assert len(raw.clients()) == PRESETS["tiny"].relevant
    for kind in EventType:
        frame = scan_events(raw.raw(kind), kind).collect()
        assert frame.height > 100
        assert frame.null_count().sum_horizontal().item() == 0
        assert pl.read_parquet_schema(raw.raw(kind))["timestamp"] == pl.String
    products = scan_products(raw.products).collect()
    assert products["sku"].n_unique() == products.height == PRESETS["tiny"].skus
    assert products["price"].min() == 0
    assert products["price"].max() == 99


def test_rows_are_unordered_and_codes_irregularly_printed(raw: DataFolder) -> None:
    visits = scan_events(raw.raw(EventType.VISIT), EventType.VISIT).collect()
    assert not visits["timestamp"].is_sorted()
    assert not visits["client_id"].is_sorted()
    queries = pl.read_parquet(raw.raw(EventType.SEARCH))["query"]
    assert 0.03 < queries.str.contains("\n").mean() < 0.3  # type: ignore[operator]
    assert queries.str.contains("  ").any()


def test_the_split_falls_where_the_raw_data_has_it(split: DataFolder) -> None:
    instants = split.split()
    assert str(instants.train_start) == "2022-11-09 00:00:00"
    assert str(instants.end.date()) == "2022-12-06"
    assert DAYS - CUT_DAY == 28
    assert VALIDATION_DAY == CUT_DAY + 14


def test_every_target_list_is_full_even_at_tiny(split: DataFolder) -> None:
    for task in CHALLENGE:
        if task.column is not None:
            assert len(np.load(split.targets(task.name))) == 100, task


def test_statistics_lie_in_their_bands(raw: DataFolder) -> None:
    bands = {
        "product_buy rows that repeat another exactly": (0.12, 0.20),
        "page_visit rows that repeat another exactly": (0.07, 0.10),
        "visits to a page seen before by the client": (0.40, 0.65),
        "relevant clients without an event before the cut": (0.11, 0.20),
        "share with page_visit": (0.78, 0.90),
        "share with product_buy": (0.45, 0.68),
        "cart additions that are bought": (0.15, 0.32),
        "minutes from cart to purchase, median": (4, 12),
        "removals per cart addition": (0.25, 0.42),
        "clients active on one day": (0.5, 0.75),
        "buyers who buy on one day only": (0.6, 0.9),
        "validation: past buyers who do not buy (churn)": (0.68, 0.92),
        "validation: buyers with an event before the cut": (0.4, 0.75),
        "price bucket of products, mean": (47, 52),
    }
    here = {row.metric: row.here for row in folder_stats(raw.root)}
    outside = {name: here[name] for name, (low, high) in bands.items() if not low <= (here[name] or 0) <= high}
    assert outside == {}


def test_there_are_bots(raw: DataFolder) -> None:
    visits = scan_events(raw.raw(EventType.VISIT), EventType.VISIT).group_by("client_id").len().collect()["len"]
    assert visits.max() > PRESETS["tiny"].bot_visits  # type: ignore[operator]
    assert visits.median() < 20  # type: ignore[operator]


# --- parts


def test_the_quantiser_uses_all_codes_alike() -> None:
    codes = Quantiser(np.random.default_rng(0))(np.random.default_rng(1).standard_normal((20_000, LATENT)).astype("f4"))
    counts = np.stack([np.bincount(codes[:, place], minlength=CODE_VALUES) for place in range(CODES)])
    assert codes.shape == (20_000, CODES)
    assert counts.min() > 40
    assert counts.max() < 130


def test_printed_codes_read_back() -> None:
    codes = np.random.default_rng(0).integers(0, CODE_VALUES, (50, CODES)).astype(np.uint8)
    text = pl.Series("q", as_text(codes, np.arange(50) % 2 == 0)).cast(pl.String)
    back = text.to_frame().select(codes_expr(pl.String(), "q")).to_series().to_numpy()
    assert np.array_equal(back, codes)
    assert text.str.contains("\n").sum() == 25


def test_a_shelf_is_drawn_from_in_proportion_to_attraction_and_taste(run: Run) -> None:
    world, rows = run.world, 40_000
    category = int(np.bincount(world.category).argmax())
    taste = run.before.taste(np.zeros(rows, dtype=np.int64))
    drawn = world.shelf(10).draw(np.random.default_rng(0), np.full(rows, category), taste)
    weight, fresh = world.attraction(10)
    expected = np.where(world.category == category, weight * taste[0][world.cell + fresh], 0.0)
    expected *= rows / expected.sum()
    got = np.bincount(drawn, minlength=len(weight))
    assert np.all(np.abs(got - expected) < 6 * np.sqrt(expected + 1))


def test_products_are_never_drawn_before_their_launch(run: Run) -> None:
    sku, day = run.sessions.sku, run.sessions.day
    assert np.all(run.world.launch[sku] <= day)
    assert (run.world.launch[sku[day >= CUT_DAY]] > CUT_DAY - 7).mean() > 0.1


def test_the_calendar_lifts_the_target_windows() -> None:
    days = np.arange(DAYS)
    lift = BEHAVIOUR.sale(days)
    assert lift.argmax() == 155  # Friday, 25 November
    assert lift[:CUT_DAY].max() == 1.0
    assert lift[VALIDATION_DAY:].mean() > lift[CUT_DAY:VALIDATION_DAY].mean() > 1
    assert BEHAVIOUR.traffic(days[:140]).reshape(-1, 7).std(axis=0).max() < 1e-12  # the same every week, and not flat:
    assert BEHAVIOUR.traffic(days[:7]).std() > 0.05


# --- planted phenomena


def test_one_session_per_client_and_day(run: Run) -> None:
    s = run.sessions
    assert len(np.unique(s.client * DAYS + s.day)) == len(s.day)
    assert np.all(s.carted[s.ordered])


def test_restocks_keep_their_rhythm(run: Run) -> None:
    s = run.sessions
    bought = (run.clients.restock[s.client] == s.category) & s.ordered
    frame = pl.DataFrame({"client": s.client[bought], "day": s.day[bought], "reason": s.reason[bought]})
    gap = pl.col("day") - pl.col("day").shift(1).over("client")
    gaps = frame.sort("client", "day").with_columns(gap=gap).filter(pl.col("reason") == Reason.RESTOCK).drop_nulls()
    share = gaps["gap"].to_numpy() / run.clients.restock_period[gaps["client"].to_numpy()]
    prompt = share[share < 2]  # later ones were missed while the client was away
    assert len(prompt) > 50
    assert 0.8 < np.median(prompt) < 1.15
    assert prompt.std() / prompt.mean() < 0.35


def test_orders_make_their_complement_wanted(run: Run) -> None:
    s, k = run.sessions, len(run.world.popularity)
    orders = np.flatnonzero(s.ordered & (s.day < DAYS - 10))
    at = {(c, d) for c, d in zip((s.client * k + s.category).tolist(), s.day.tolist(), strict=True)}
    people_, days = s.client[orders], s.day[orders]

    def followed(category: np.ndarray) -> float:
        key = (people_ * k + category).tolist()
        return float(
            np.mean(
                [any((c, d + ahead) in at for ahead in range(1, 11)) for c, d in zip(key, days.tolist(), strict=True)]
            )
        )

    complement = followed(run.world.complement[s.category[orders]])
    chance = followed(np.random.default_rng(0).permutation(s.category[orders]))
    assert complement > 0.05
    assert complement > 4 * chance


def test_the_last_category_tells_the_next_beyond_the_bag(run: Run) -> None:
    s = run.sessions
    by_client = np.lexsort((s.day, s.client))
    client, category = s.client[by_client], s.category[by_client]

    def hits(order: np.ndarray) -> float:
        c = category[order]
        same = client[1:] == client[:-1]
        return float((run.world.successor[c[:-1]][same] == c[1:][same, None]).any(axis=1).mean())

    shuffled = np.lexsort((np.random.default_rng(0).random(len(client)), client))
    assert hits(np.arange(len(client))) > 0.12
    assert hits(np.arange(len(client))) > 2 * hits(shuffled)


def test_interests_move_but_slowly(run: Run) -> None:
    relevant = run.before.relevant
    kept = run.before.interest[relevant] == run.at_cut.interest
    assert 0.5 < kept.mean() < 0.8  # exp(-139/280)
    assert np.allclose(run.at_cut.weight.sum(axis=1), 1.0)
    assert np.corrcoef(run.before.weight[relevant][kept], run.at_cut.weight[kept])[0, 1] > 0.3


def test_clients_buy_at_their_price_and_in_their_style(run: Run) -> None:
    s = run.sessions
    price, style = run.world.price[s.sku], run.world.style[s.sku]
    assert np.corrcoef(price, run.clients.price[s.client])[0, 1] > 0.4
    assert (style == run.clients.style[s.client]).mean() > 0.5


def test_names_are_alike_within_a_category_also_for_new_products(run: Run) -> None:
    world, rng = run.world, np.random.default_rng(0)
    codes = world.quantiser(world.latent)
    new = np.flatnonzero(world.launch > CUT_DAY)
    old = np.flatnonzero(world.launch == 0)
    near = np.array([rng.choice(old[world.category[old] == c]) for c in world.category[new]])
    alike = (codes[new] == codes[near]).mean()
    assert alike > 5 * (codes[new] == codes[rng.permutation(near)]).mean()


def test_searches_resemble_what_the_client_then_carts(raw: DataFolder) -> None:
    names = scan_products(raw.products).select("sku", "name").collect()
    carts = scan_events(raw.raw(EventType.CART), EventType.CART).collect().join(names, on="sku").sort("timestamp")
    searches = scan_events(raw.raw(EventType.SEARCH), EventType.SEARCH).collect().sort("timestamp")
    met = searches.join_asof(
        carts, on="timestamp", by="client_id", strategy="forward", tolerance="1h", check_sortedness=False
    ).drop_nulls()
    query, name = met["query"].to_numpy(), met["name"].to_numpy()
    assert len(met) > 50
    agree = (query == name).mean()
    assert agree > 3 * (query == np.random.default_rng(0).permutation(name)).mean()


def test_tastes_weigh_every_cell() -> None:
    weights = people.taste(
        np.array([0.1, 0.9]), np.array([[5.0, 1, 1], [1, 1, 5]]), np.array([1.0, 3.0]), np.full(2, 0.17)
    )
    assert weights.shape == (2, CELLS)
    assert np.all(weights > 0)
    cheap, dear = weights.reshape(2, 5, 3, 2).sum(axis=(2, 3)).argmax(axis=1)
    assert (cheap, dear) == (0, 4)
    assert np.allclose(weights[1, 1::2] / weights[1, ::2], 3.0)
