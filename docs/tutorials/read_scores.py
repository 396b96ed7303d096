"""Is one submission better than another, or is it noise? Needs data/tiny (`kit data synth data/tiny --preset tiny`)."""

# %% Two recipes: one that knows when and how much, one that knows when.
from pathlib import Path

import kit

TEXT = """
name = "{name}"

[blocks.hand]
kind = "stats"
families = {families}
scale = "quantile"
"""
Path("more.toml").write_text(TEXT.format(name="more", families='["recency", "counts", "price"]'))
Path("less.toml").write_text(TEXT.format(name="less", families='["calendar"]'))
data = kit.open_data("data/tiny")
more, less = (kit.submit(f"{name}.toml", data) for name in ("more", "less"))

# %% Scores: what is known for the same bytes is not computed again.
for submission in (more, less):
    kit.score(submission, data, "gbm", ["churn", "conversion"])
assert kit.score(more, data, "gbm", ["churn"]).reused

# %% A difference comes with its interval, paired over clients, and a verdict: better, worse, or cannot tell.
for task, row in kit.compare(more, less, "gbm").items():
    low, high = row.interval
    print(f"{task}: {row.difference:+.4f} [{low:+.4f}, {high:+.4f}] {row.verdict}")

# %% Which block is which column? `kit report submissions/more --data data/tiny` shows all of it on one page.
names, blocks = more.columns(more.vectors.shape[1])
print(names[:5], blocks)
