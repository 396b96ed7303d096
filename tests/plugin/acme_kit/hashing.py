"""Numbers → few buckets."""

import polars as pl

PRIME = 2_654_435_761


def buckets(column: str, count: int) -> pl.Expr:
    """Int64 in [0, count)."""
    return (pl.col(column) * PRIME) % count
