"""The second folder of the golden record: targets and profiles of a tiny synthetic shop, as they were when it was recorded.

`tiny.npz` holds what the evaluators read, so that the record outlives changes of the shop, the features and the encoder. To
make it again, `tests/probes/golden` being `HERE`:

    kit data synth tiny --preset tiny --seed 3
    kit submit HERE/learned.toml --data tiny --out learned     (and stats.toml, raw_counts.toml)
    python HERE/tiny.py pack tiny . HERE/tiny.npz

`python HERE/tiny.py write DIR` writes the folder to DIR/data and the submissions to DIR/<profile>, for the organisers' code.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl

PROFILES = ("raw_counts", "stats", "learned")
COLUMNS = ("client_id", "sku", "category", "price")
WINDOWS = ("train", "validation")
TASKS = ("category", "sku", "new_sku", "price")
FIXTURE = Path(__file__).with_name("tiny.npz")


def pack(shop: Path, submissions: Path, out: Path) -> None:
    """Collect targets of a split folder and the three submissions in one file."""
    arrays = {"relevant": np.load(shop / "input" / "relevant_clients.npy")}
    arrays["active"] = np.load(shop / "target" / "active_clients.npy")
    for task in TASKS:
        arrays[f"targets_{task}"] = np.load(shop / "target" / f"propensity_{task}.npy")
        arrays[f"popularity_{task}"] = np.load(shop / "target" / f"popularity_propensity_{task}.npy")
    for window in WINDOWS:
        frame = pl.read_parquet(shop / "target" / f"{window}_target.parquet").select(COLUMNS)
        arrays[window] = frame.to_numpy().astype(np.int64)
    for profile in PROFILES:
        arrays[f"ids_{profile}"] = np.load(submissions / profile / "client_ids.npy")
        arrays[profile] = np.load(submissions / profile / "embeddings.npy")
    np.savez_compressed(out, allow_pickle=False, **arrays)


def write_tiny(root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Write the folder to `root`; returns profile → (client_ids, vectors float16)."""
    with np.load(FIXTURE) as stored:
        arrays = {name: stored[name] for name in stored.files}
    for name in ("target", "input"):
        (root / name).mkdir(parents=True, exist_ok=True)
    np.save(root / "input" / "relevant_clients.npy", arrays["relevant"])
    np.save(root / "target" / "active_clients.npy", arrays["active"])
    for task in TASKS:
        np.save(root / "target" / f"propensity_{task}.npy", arrays[f"targets_{task}"])
        np.save(root / "target" / f"popularity_propensity_{task}.npy", arrays[f"popularity_{task}"])
    for window in WINDOWS:
        frame = pl.DataFrame(arrays[window], schema=list(COLUMNS), orient="row")
        stamped = frame.with_columns(timestamp=pl.lit("2022-11-11").str.to_datetime(), name=pl.lit("[0]"))
        stamped.write_parquet(root / "target" / f"{window}_target.parquet")
    pl.DataFrame({"sku": np.unique(arrays["train"][:, 1])}).write_parquet(root / "product_properties.parquet")
    return {profile: (arrays[f"ids_{profile}"], arrays[profile]) for profile in PROFILES}


def write_submissions(profiles: dict[str, tuple[np.ndarray, np.ndarray]], root: Path) -> None:
    """A folder with client_ids.npy and embeddings.npy per profile."""
    for profile, (clients, matrix) in profiles.items():
        (root / profile).mkdir(parents=True, exist_ok=True)
        np.save(root / profile / "client_ids.npy", clients)
        np.save(root / profile / "embeddings.npy", matrix)


if __name__ == "__main__":
    if sys.argv[1] == "pack":
        pack(*map(Path, sys.argv[2:5]))
    else:
        write_submissions(write_tiny(Path(sys.argv[2]) / "data"), Path(sys.argv[2]))
