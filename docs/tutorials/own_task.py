"""A task of your own: who buys again within 7 days? Needs data/tiny (`kit data synth data/tiny --preset tiny`).

Run it as a script: a task belongs into a file, so that scores are made anew when it is edited.
"""

# %% A task is one class: a name, a question, the labels of a window. The window is the only thing that it sees.
import polars as pl

import kit
from kit.tasks import Task, TaskWindow, register


class Again(Task):
    """One label: 1 for clients with purchases on two days of the first seven."""

    name = "again"
    question = "Does a client buy on two days of the next seven?"
    days = 7
    words = ("bought once at most", "bought again")

    def labels(self, window: TaskWindow) -> pl.LazyFrame:
        """Those who did."""
        days = pl.col("timestamp").dt.date().n_unique()
        return window.purchases().group_by("client_id").agg(days.alias("days")).filter(pl.col("days") > 1)


register(Again())

# %% Vectors are the same for every task: they were made without knowing this one.
from pathlib import Path

Path("few.toml").write_text("""
name = "few"

[blocks.counts]
kind = "stats"
families = ["recency", "counts"]
scale = "quantile"
""")
data = kit.open_data("data/tiny")
submission = kit.submit("few.toml", data)

# %% Every probe can ask it. The sum and the board stay those of the challenge's six.
report = kit.score(submission, data, "gbm", ["again", "conversion"])
print({task: entry["score"] for task, entry in report.tasks.items()})
assert report.tasks["again"]["score"] > 0.5
