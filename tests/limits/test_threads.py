"""`kit submit --threads 1` reaches every pool of every library, in the process that computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kit.data.layout import DataFolder

RECIPE = """name = "t"
[blocks.stats]
kind = "stats"
families = ["counts"]
scale = "quantile"
pca = 3
[blocks.als]
kind = "als"
items = "category"
factors = 4
[blocks.twhin]
kind = "twhin"
dim = 4
batch = 64
negatives = 8
train = { epochs = 1 }
"""
LOOK = """
import json, sys
from kit.cli.main import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
import polars as pl, torch, threadpoolctl, implicit
pools = {pool["filepath"].split("/")[-1]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
print(json.dumps({"polars": pl.thread_pool_size(), "torch": torch.get_num_threads(), **pools}))
"""
VARIABLES = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor: every pool has one thread anyway")
def test_every_pool_has_one_thread(toy: DataFolder, tmp_path: Path):
    (tmp_path / "t.toml").write_text(RECIPE)
    clean = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    environment = clean | {"KIT_STORE": ".kit", "PYTHONPATH": str(Path(__file__).parents[2])}
    call = [sys.executable, "-c", LOOK, "submit", "t.toml", "--data", str(toy.root), "--threads", "1"]
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    pools = json.loads(done.stdout.splitlines()[-1])
    assert len(pools) >= 4  # Polars, torch, a BLAS, an OpenMP
    assert set(pools.values()) == {1}, pools
