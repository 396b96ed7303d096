"""What codes are: planted product and residual quantisers, and queries that do or do not share the names' tables."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kit.data.codes import code_information, describe_codes, mutual_information
from kit.errors import KitError


def text(codes: np.ndarray) -> list[str]:
    return ["[" + " ".join(map(str, row)) + "]" for row in codes]


def write(root: Path, codes: np.ndarray, category: np.ndarray, queries: np.ndarray) -> Path:
    """One search and, 10 minutes later, one cart add per client: client i carts product i."""
    root.mkdir()
    n = len(codes)
    start = datetime(2022, 7, 1)
    at = [start + timedelta(hours=int(i)) for i in range(n)]
    stamp = "%Y-%m-%d %H:%M:%S"
    pl.DataFrame({"sku": range(n), "category": category, "price": 5, "name": text(codes)}).write_parquet(
        root / "product_properties.parquet"
    )
    pl.DataFrame(
        {"client_id": range(n), "timestamp": [t.strftime(stamp) for t in at], "query": text(queries)}
    ).write_parquet(root / "search_query.parquet")
    carted = [(t + timedelta(minutes=10)).strftime(stamp) for t in at]
    pl.DataFrame({"client_id": range(n), "timestamp": carted, "sku": range(n)}).write_parquet(
        root / "add_to_cart.parquet"
    )
    return root


def product_quantised(rng: np.random.Generator, category: np.ndarray) -> np.ndarray:
    """Every position is a noisy copy of the category."""
    noise = rng.integers(0, 256, (len(category), 16))
    return np.where(rng.random((len(category), 16)) < 0.4, category[:, None] * 7, noise)


def residual_quantised(rng: np.random.Generator, category: np.ndarray) -> np.ndarray:
    """The first positions tell the category, the rest nothing."""
    codes = rng.integers(0, 256, (len(category), 16))
    codes[:, 0], codes[:, 1] = category * 5, category // 4
    return codes


@pytest.mark.technique("E1")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_quantisers_are_told_apart_and_sharing_is_found(tmp_path: Path, seed: int):
    rng = np.random.default_rng(seed)
    category = rng.integers(0, 20, 800)
    shared = product_quantised(rng, category)
    report = describe_codes(write(tmp_path / "a", shared, category, shared))
    assert (report.kind, report.shared, report.pairs) == ("product", True, 800)
    assert report.agreeing == 16
    other = residual_quantised(rng, category)
    report = describe_codes(write(tmp_path / "b", other, category, rng.integers(0, 256, (800, 16))))
    assert (report.kind, report.shared) == ("residual", False)
    assert report.interval[0] < 0 and report.interval[1] < 0.05


def test_information_by_hand():
    code = np.array([0, 0, 9, 9], dtype=np.uint8)
    assert mutual_information(code, np.array([0, 0, 1, 1])) == pytest.approx(1.0)
    assert mutual_information(code, np.array([0, 1, 0, 1])) == pytest.approx(0.0)


def test_codes_without_a_message_carry_no_information():
    rng = np.random.default_rng(0)
    bits = code_information(rng.integers(0, 256, (2000, 16)).astype(np.uint8), rng.integers(0, 30, 2000), rng)
    assert abs(bits).max() < 0.1


def test_few_or_no_events_conclude_nothing(tmp_path: Path):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (20, 16))
    root = write(tmp_path / "few", codes, np.arange(20), codes)
    assert describe_codes(root).shared is None
    (root / "search_query.parquet").unlink()
    report = describe_codes(root)
    assert (report.pairs, report.agreeing, report.kind) == (0, None, "unknown")


def test_a_missing_catalogue_is_named(tmp_path: Path):
    with pytest.raises(KitError, match="product_properties"):
        describe_codes(tmp_path)
