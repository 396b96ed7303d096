"""Statistics of a data folder beside the published ones of the real challenge data.

Unless a metric says otherwise it describes the events before the cut (what the real phase-2 input holds). Large folders
are described by a sample of clients, all of whose events are kept in memory; sums are scaled back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from kit.challenge import SKU_EVENTS, EventType
from kit.data.layout import DataFolder, Split
from kit.data.scan import empty_events, scan_events, scan_products
from kit.errors import KitError
from kit.progress import stage

SAMPLE_ROWS: Final = 20_000_000
"""With more visits than this, only one client in `visits // SAMPLE_ROWS + 1` is looked at."""
KEYS: Final = ["client_id", "timestamp"]
SIZES: Final = {
    EventType.BUY: 1_775_394,
    EventType.CART: 5_674_064,
    EventType.REMOVE: 1_937_170,
    EventType.VISIT: 156_032_014,
    EventType.SEARCH: 10_218_831,
}
PER_CLIENT: Final = {
    EventType.BUY: (0.508, 2.40, 1, 665),
    EventType.CART: (0.613, 4.33, 2, None),
    EventType.REMOVE: (0.324, None, None, None),
    EventType.VISIT: (0.845, 49.6, 18, 22_879),
    EventType.SEARCH: (0.323, None, None, None),
}
"""Published: share of relevant clients with such an event; mean, median, maximum per relevant client."""


@dataclass(frozen=True)
class Stat:
    """One figure of a folder and, where there is one, the published figure of the real data."""

    section: str
    metric: str
    here: float | None
    published: float | None

    def as_json(self) -> dict[str, str | float | None]:
        """As a plain dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class _Logs:
    """The five tables of a folder restricted to a sample of clients, with the instants of its split."""

    events: dict[EventType, pl.LazyFrame]
    products: pl.LazyFrame
    relevant: pl.LazyFrame | None
    split: Split
    share: int
    """One client in this many is looked at."""

    def past(self, kind: EventType) -> pl.LazyFrame:
        """Events before the cut."""
        return self.events[kind].filter(pl.col("timestamp") < self.split.train_start)

    def of_relevant(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Rows of relevant clients; all rows where the folder names none."""
        return frame if self.relevant is None else frame.join(self.relevant, on="client_id", how="semi")


def folder_stats(root: Path) -> list[Stat]:
    """Every figure of the folder, in sections; published values are those of CHALLENGE.md section 7.

    Raises:
        KitError: there is no purchase table, or it is empty (nothing can then be dated).
    """
    logs = _open(DataFolder(root))
    rows: list[Stat] = []
    for name, section in (
        ("sizes", _sizes),
        ("clients", _clients),
        ("per relevant client", _per_client),
        ("events", _event_quantiles),
        ("repeats", _repeats),
        ("purchases", _purchases),
        ("funnel", _funnel),
        ("windows", _windows),
        ("prices", _prices),
        ("rhythm", _rhythm),
    ):
        with stage(name):
            rows += [
                Stat(name, metric, None if v is None else float(v), published) for metric, v, published in section(logs)
            ]
    return rows


_Rows = list[tuple[str, Any, float | None]]


def _open(folder: DataFolder) -> _Logs:
    """Raw files where there are any, else the input files, and the purchases of the target windows that lie after them: an
    official archive's files end at its cut. A folder that has been split is dated by its split."""
    if not folder.root.is_dir():
        raise KitError(f"There is no data folder {str(folder.root)!r}.", "Make one with `kit data synth DIR`.")
    buys = folder.raw(EventType.BUY)
    raw = buys.exists()
    events = {}
    for kind in EventType:
        path = folder.raw(kind) if raw else folder.input(kind)
        events[kind] = scan_events(path, kind) if path.exists() else empty_events(kind)
    end = events[EventType.BUY].select(pl.col("timestamp").max()).collect(engine="streaming").item()
    if folder.is_split:
        windows = pl.concat([scan_events(folder.window(name), EventType.BUY) for name in ("train", "validation")])
        later = windows if end is None else windows.filter(pl.col("timestamp") > end)
        events[EventType.BUY] = pl.concat([events[EventType.BUY], later])
    elif end is None:
        raise KitError(
            f"{folder.root} holds no purchase.", "Without one the folder can be neither split nor described."
        )
    split = folder.split() if folder.is_split else Split.from_end(end)
    visits = events[EventType.VISIT].select(pl.len()).collect().item()
    share = visits // SAMPLE_ROWS + 1
    if share > 1:
        chosen = pl.col("client_id").hash(0) % share == 0
        events = {kind: frame.filter(chosen) for kind, frame in events.items()}
    events = {kind: frame.collect(engine="streaming").lazy() for kind, frame in events.items()}  # read and parsed once
    relevant = None
    if folder.relevant_clients.exists():
        relevant = pl.LazyFrame({"client_id": folder.clients()})
        relevant = relevant.filter(pl.col("client_id").hash(0) % share == 0) if share > 1 else relevant
    return _Logs(events, scan_products(folder.products), relevant, split, share)


def _one(frame: pl.LazyFrame) -> dict[str, float | None]:
    return frame.collect(engine="streaming").row(0, named=True)


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _sizes(logs: _Logs) -> _Rows:
    rows: _Rows = []
    for kind in EventType:
        count = logs.past(kind).select(n=pl.len()).collect(engine="streaming").item()
        rows.append((f"{kind.value} rows before the cut", count * logs.share, SIZES[kind]))
    ids = pl.concat([logs.past(kind).select("client_id") for kind in EventType]).unique()
    clients = ids.select(pl.len()).collect(engine="streaming").item() * logs.share
    products = _one(logs.products.select(sku=pl.len(), category=pl.col("category").n_unique()))
    urls = logs.past(EventType.VISIT).select(pl.col("url").n_unique()).collect(engine="streaming").item()
    rows += [
        ("clients with an event before the cut", clients, 18_700_000),
        ("products", products["sku"], 1_260_000),
        ("categories", products["category"], 6_800),
        ("pages visited" + (" (by the sample)" if logs.share > 1 else ""), urls, 12_700_000),
    ]
    return rows


def _per_client_counts(logs: _Logs) -> pl.LazyFrame:
    """client_id, one count per event type, days with an event; every client with an event before the cut."""
    tables = [
        logs.past(kind)
        .group_by("client_id")
        .agg(pl.len().alias(kind.short), pl.col("timestamp").dt.date().unique().alias("days"))
        for kind in EventType
    ]
    merged = pl.concat(tables, how="diagonal")
    counts = [pl.col(kind.short).sum() for kind in EventType]
    return merged.group_by("client_id").agg(*counts, pl.col("days").explode().n_unique())


def _clients(logs: _Logs) -> _Rows:
    total = pl.sum_horizontal(kind.short for kind in EventType)
    got = _one(
        _per_client_counts(logs).select(
            median=total.median(),
            one_day=(pl.col("days") == 1).mean(),
            buy=(pl.col("buy") > 0).mean(),
            visit=(pl.col("visit") > 0).mean(),
            most=pl.col("visit").max(),
        )
    )
    return [
        ("events per client, median", got["median"], 2),
        ("clients active on one day", got["one_day"], 0.66),
        ("clients who buy", got["buy"], 0.04),
        ("clients who visit", got["visit"], 0.985),
        ("most visits of one client", got["most"], 28_000),
    ]


def _relevant_counts(logs: _Logs) -> pl.LazyFrame:
    """Counts per event type of every relevant client, 0 where there is none."""
    counts = _per_client_counts(logs)
    if logs.relevant is None:
        return counts
    return logs.relevant.join(counts, on="client_id", how="left").with_columns(
        pl.all().exclude("client_id").fill_null(0)
    )


def _per_client(logs: _Logs) -> _Rows:
    counts = _relevant_counts(logs).collect(engine="streaming")
    rows: _Rows = [("relevant clients without an event before the cut", (counts["days"] == 0).mean(), 0.14)]
    for kind in EventType:
        column = counts[kind.short]
        names = (f"share with {kind.value}", f"{kind.value} mean", f"{kind.value} median", f"{kind.value} maximum")
        values = ((column > 0).mean(), column.mean(), column.median(), column.max())
        rows += [(name, _number(v), p) for name, v, p in zip(names, values, PER_CLIENT[kind], strict=True)]
    return rows


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _event_quantiles(logs: _Logs) -> _Rows:
    total = pl.sum_horizontal(kind.short for kind in EventType).clip(upper_bound=128)
    counts = (
        _relevant_counts(logs).select(total.alias("events")).filter(pl.col("events") > 0).collect(engine="streaming")
    )
    published = {0.05: 1, 0.25: 3, 0.5: 15, 0.75: 47, 0.9: 117}
    return [
        (f"events of relevant clients, capped at 128, quantile {q:g}", counts["events"].quantile(q), p)
        for q, p in published.items()
    ]


def _repeats(logs: _Logs) -> _Rows:
    rows: _Rows = []
    published = {EventType.BUY: 0.157, EventType.VISIT: 0.087}
    for kind in (*SKU_EVENTS, EventType.VISIT):
        got = _one(logs.past(kind).select(all=pl.len(), distinct=pl.struct(pl.all()).n_unique()))
        share = _ratio((got["all"] or 0) - (got["distinct"] or 0), got["all"])
        rows.append((f"{kind.value} rows that repeat another exactly", share, published.get(kind)))
    got = _one(logs.past(EventType.VISIT).select(all=pl.len(), distinct=pl.struct("client_id", "url").n_unique()))
    rows.append(
        (
            "visits to a page seen before by the client",
            _ratio((got["all"] or 0) - (got["distinct"] or 0), got["all"]),
            0.5,
        )
    )
    return rows


def _purchases(logs: _Logs) -> _Rows:
    buys = logs.past(EventType.BUY)
    per_buyer = buys.group_by("client_id").agg(rows=pl.len(), days=pl.col("timestamp").dt.date().n_unique())
    got = _one(
        per_buyer.select(
            one_day=(pl.col("days") == 1).mean(),
            single=pl.col("rows").filter(pl.col("rows") == 1).sum() / pl.col("rows").sum(),
        )
    )
    gaps = (
        buys.select("client_id", day=pl.col("timestamp").dt.truncate("1d"), at="timestamp")
        .group_by("client_id", "day")
        .agg(pl.col("at").min())
        .sort("client_id", "at")
        .select(gap=(pl.col("at") - pl.col("at").shift(1).over("client_id")).dt.total_minutes() / 1440)
        .drop_nulls()
    )
    quantiles = _one(gaps.select(**{f"q{round(q * 100)}": pl.col("gap").quantile(q) for q in (0.5, 0.75, 0.9)}))
    return [
        ("purchase rows of one-purchase clients", got["single"], 0.245),
        ("buyers who buy on one day only", got["one_day"], 0.77),
        ("days between purchase days, median", quantiles["q50"], 9.5),
        ("days between purchase days, quantile 0.75", quantiles["q75"], 33),
        ("days between purchase days, quantile 0.9", quantiles["q90"], 68),
    ]


def _funnel(logs: _Logs) -> _Rows:
    """A cart addition counts as bought if the client buys the sku at or after it."""
    carts = logs.past(EventType.CART).unique()
    buys = logs.past(EventType.BUY).unique().sort("timestamp").with_columns(bought=pl.col("timestamp"))
    met = carts.sort("timestamp").join_asof(
        buys, on="timestamp", by=["client_id", "sku"], strategy="forward", check_sortedness=False
    )
    minutes = (pl.col("bought") - pl.col("timestamp")).dt.total_seconds() / 60
    got = _one(met.select(share=pl.col("bought").is_not_null().mean(), minutes=minutes.median()))
    sizes = {kind: logs.past(kind).select(pl.len()).collect(engine="streaming").item() for kind in SKU_EVENTS}
    return [
        ("cart additions that are bought", got["share"], 0.203),
        ("minutes from cart to purchase, median", got["minutes"], 7),
        ("removals per cart addition", _ratio(sizes[EventType.REMOVE], sizes[EventType.CART]), 0.341),
        ("purchases per cart addition", _ratio(sizes[EventType.BUY], sizes[EventType.CART]), 0.313),
    ]


def _windows(logs: _Logs) -> _Rows:
    split, buys = logs.split, logs.events[EventType.BUY]
    past = buys.filter(pl.col("timestamp") < split.train_start).select("client_id").unique()
    known = pl.concat([logs.past(kind).select("client_id") for kind in EventType]).unique()
    relevant = None if logs.relevant is None else logs.relevant.select(pl.len()).collect().item()
    rows: _Rows = []
    for name, since, until in (
        ("train", split.train_start, split.validation_start),
        ("validation", split.validation_start, None),
    ):
        inside = pl.col("timestamp") >= since
        window = buys.filter(inside if until is None else inside & (pl.col("timestamp") < until))
        buyers = window.select("client_id").unique()
        seen = _one(
            buyers.join(known.with_columns(seen=True), on="client_id", how="left").select(
                s=pl.col("seen").count() / pl.len()
            )
        )
        stayed = _one(
            logs.of_relevant(past)
            .join(buyers.with_columns(b=True), on="client_id", how="left")
            .select(c=pl.col("b").is_null().mean())
        )
        converted = logs.of_relevant(buyers).select(pl.len()).collect(engine="streaming").item()
        count = logs.of_relevant(window).select(pl.len()).collect(engine="streaming").item()
        rows += [
            (f"{name}: past buyers who do not buy (churn)", stayed["c"], 0.94),
            (f"{name}: buyers with an event before the cut", seen["s"], 0.45),
            (f"{name}: relevant clients who buy", _ratio(converted, relevant), None),
            (f"{name}: purchase rows per relevant client", _ratio(count, relevant), None),
        ]
    return rows


def _prices(logs: _Logs) -> _Rows:
    price = pl.col("price")
    quartiles = {f"q{q}": price.quantile(q / 100) for q in (25, 50, 75)}
    got = _one(logs.products.select(mean=price.mean(), **quartiles))
    bought = _one(
        logs.past(EventType.BUY)
        .join(logs.products.select("sku", "price"), on="sku")
        .select(mean=price.mean(), **quartiles)
    )
    names = ("mean", "quartile 1", "median", "quartile 3")
    rows: _Rows = [
        (f"price bucket of products, {n}", v, p)
        for n, v, p in zip(names, got.values(), (47.9, 24, 47, 72), strict=True)
    ]
    return rows + [(f"price bucket of purchases, {n}", v, None) for n, v in zip(names, bought.values(), strict=True)]


def _rhythm(logs: _Logs) -> _Rows:
    time = pl.col("timestamp")
    visits = (
        logs.past(EventType.VISIT)
        .group_by(weekday=time.dt.weekday(), hour=time.dt.hour())
        .agg(n=pl.len())
        .collect(engine="streaming")
    )
    week = np.zeros((7, 24))
    week[visits["weekday"].to_numpy() - 1, visits["hour"].to_numpy()] = visits["n"].to_numpy()
    total = week.sum()
    if not total:
        return [("visits at the weekend", None, None)]
    days = [
        (f"visits on {day}", float(share), None)
        for day, share in zip(("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"), week.sum(1) / total, strict=True)
    ]
    return [
        *days,
        ("busiest hour of the day", int(week.sum(0).argmax()), None),
        ("visits in the busiest six hours", float(np.sort(week.sum(0))[-6:].sum() / total), None),
        ("busiest hour of the week against the mean", float(week.max() / week.mean()), None),
    ]
