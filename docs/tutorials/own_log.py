"""Your own log to vectors, in ten minutes. Run it cell by cell, or as a whole: `python docs/tutorials/own_log.py`."""

# %% A log: who did what to which product when. This one is made up; take your own csv, parquet or json lines.
import random
from pathlib import Path

random.seed(7)
Path("mylog").mkdir()
lines = ["user,action,product,price,category,title,when"]
for _ in range(20_000):
    user, product = f"u{int(300 * random.random() ** 1.5)}", int(60 * random.random() ** 2)
    action = random.choices(["view", "cart", "buy"], [6, 3, 2])[0]
    day, hour = random.randrange(120), random.randrange(24)
    when = f"2024-{1 + day // 30:02d}-{1 + day % 28:02d} {hour:02d}:00:00"
    lines.append(f"{user},{action},p{product},{5 + product * 3 % 40}.90,c{product % 9},Thing {product},{when}")
Path("mylog/events.csv").write_text("\n".join(lines) + "\n")

# %% A mapping says which column is what. `kit init` writes one with comments; ready ones are in kit/data/mappings.
Path("mapping.toml").write_text("""
[files.log]
path = "events.csv"

[log]
client = "user"
item = "product"
time = { column = "when" }

[tables]
page_visit = { keep = [{ column = "action", equals = "view" }] }
add_to_cart = { keep = [{ column = "action", equals = "cart" }] }
product_buy = { keep = [{ column = "action", equals = "buy" }] }

[products]
price = "price"
category = "category"
name = "title"
""")

# %% The log becomes a data folder; the split puts two target windows of 14 days at its end.
from kit.data.convert import convert
from kit.data.split import split_folder

convert("mapping.toml", Path("mylog"), Path("data/mine"))
split_folder(Path("data/mine"))

# %% A recipe: which blocks make the profile. This one is small; pipelines/blend.toml is the one to take.
Path("mine.toml").write_text("""
name = "mine"

[blocks.counts]
kind = "stats"
families = ["recency", "counts", "price"]
scale = "quantile"

[blocks.taste]
kind = "als"
items = "category"
factors = 4
""")

# %% Blocks → profile → one float16 vector per client, row by row beside its id.
import kit

data = kit.open_data("data/mine")
submission = kit.submit("mine.toml", data)
print(submission.vectors.shape, submission.ids[:3])

# %% How good are they? A probe is trained on them and asked who will buy again. (This log is drawn at random: about .5.)
report = kit.score(submission, data, "gbm", ["churn"])
print(report.tasks["churn"]["score"])

# %% Everybody's vectors at the end of the log, from the blocks as they were fitted; nothing is trained.
today = kit.embed(submission, data, "vectors/today", cut="end")
assert today.vectors.shape == submission.vectors.shape
