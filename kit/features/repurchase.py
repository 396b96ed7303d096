"""Coming back for more: repeated purchases of a product or category, their gaps, and whether the next one is due."""

from __future__ import annotations

import polars as pl

from kit.challenge import DAY_US, EventType
from kit.features.registry import FeatureSettings, family
from kit.features.shared import catalogue, join_all, table
from kit.history import History

PRIOR = 3.0
"""The shop's usual gap counts as much as this many of the client's own."""


@family(
    "repurchase", "Repeated purchases by sku and category: number, gaps, and whether the next one is due.", absent=0.0
)
def repurchase(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns <sku|category>_repeats (purchases on a later day), _repeated (things bought on several days), _gap_mean,
    _gap_last (days, 0 without one) and, from the expected gap (own gaps shrunk to the thing's, that to everybody's):
    _due_14, _due_28 (things whose next purchase is expected in the first/second target window after the cut; named after its
    last day, so _due_7, _due_14 where windows have 7 days), _overdue (expected
    before the cut), _timing (sum of exp(-|log(age / expected gap)|): things at just the right age).
    """
    return join_all([_of(history, "sku"), _of(history, "category")])


def usual_gaps(history: History, thing: str) -> tuple[pl.DataFrame, float]:
    """Days between purchase days of the same client and thing, over everybody: (thing, gaps i64, days i64) and the mean."""

    def measure() -> tuple[pl.DataFrame, float]:
        bought = history.everyone(EventType.BUY)
        if thing == "category":
            bought = bought.join(catalogue(history).lazy().select("sku", "category"), on="sku", how="inner")
        dates = bought.select("client_id", thing, date=pl.col("timestamp").dt.date()).drop_nulls().unique()
        summed = _with_gaps(dates, thing).group_by(thing).agg(gaps=pl.col("gap").count(), days=pl.col("gap").sum())
        found = summed.filter(pl.col("gaps") > 0).sort(thing).collect(engine="streaming")
        number = int(found["gaps"].sum())
        return found, (int(found["days"].sum()) / number if number else 30.0)

    return history.once(f"repurchase.{thing}", measure)


def _with_gaps(dates: pl.LazyFrame, thing: str) -> pl.LazyFrame:
    """Adds gap (i64 days since the purchase day before of the same client and thing) to distinct purchase dates."""
    same = (pl.col("client_id") == pl.col("client_id").shift(1)) & (pl.col(thing) == pl.col(thing).shift(1))
    since = pl.col("date").diff().dt.total_days()
    return dates.sort("client_id", thing, "date").with_columns(gap=pl.when(same).then(since))


def _of(history: History, thing: str) -> pl.LazyFrame:
    usual, overall = usual_gaps(history, thing)
    bought = table(history, EventType.BUY).lazy()
    dates = bought.select("client_id", thing, date=pl.col("timestamp").dt.date()).drop_nulls(thing).unique()
    folded = (
        _with_gaps(dates, thing)
        .group_by("client_id", thing)
        .agg(
            n=pl.col("gap").count(),
            total=pl.col("gap").sum(),
            last_gap=pl.col("gap").last(),
            last=pl.col("date").max(),
        )
        .join(usual.lazy(), on=thing, how="left")
        .sort("client_id", "last", thing)
    )
    theirs = (pl.col("days").fill_null(0) + PRIOR * overall) / (pl.col("gaps").fill_null(0) + PRIOR)
    expected = ((pl.col("total") + PRIOR * theirs) / (pl.col("n") + PRIOR)).clip(1.0)
    age = (pl.lit(history.cut) - pl.col("last").cast(pl.Datetime("us"))).dt.total_microseconds() / DAY_US
    dated = folded.with_columns(wait=expected - age, timing=(-(age / expected).log().abs()).exp())
    wait, n, days = pl.col("wait"), pl.col("n"), history.days
    columns = {
        "repeats": n.sum(),
        "repeated": (n > 0).sum(),
        "gap_mean": (pl.col("total").sum() / n.sum()).fill_nan(0.0),
        "gap_last": pl.col("last_gap").drop_nulls().last().fill_null(0),
        f"due_{days}": wait.is_between(0, days, closed="left").sum(),
        f"due_{2 * days}": wait.is_between(days, 2 * days, closed="left").sum(),
        "overdue": (wait < 0).sum(),
        "timing": pl.col("timing").sum(),
    }
    return dated.group_by("client_id").agg(**{f"{thing}_{key}": expr for key, expr in columns.items()})
