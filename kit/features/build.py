"""Run feature families over a History, chunk of clients by chunk of clients, into one table keyed by client."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import polars as pl

from kit.features.registry import FAMILIES, Family, FeatureSettings
from kit.history import History
from kit.progress import track
from kit.store import write_atomically

CHUNK = 50_000
"""Clients per pass: bounds the memory of a full-size build."""
AT_ONCE = 2
"""Chunks at work together, on as many threads at most as Polars has: much of a family is NumPy and SciPy, which use one."""


def build_features(
    history: History, families: Sequence[str] = (), settings: FeatureSettings | None = None, *, chunk: int = CHUNK
) -> Iterator[pl.DataFrame]:
    """Frames of client_id (sorted) and Float32 columns `<family>__<column>`; together exactly history.clients.

    Args:
        history: events before its cut.
        families: names; all registered families when empty.
        settings: windows, half-lives …; defaults when None.
        chunk: clients per frame.

    Raises:
        KitError: unknown family.
        ValueError: a family returned a client twice or a column that is not numeric (a programming error).
    """
    known = FAMILIES.loaded()
    chosen = [known[name] for name in (families or list(known))]
    settings = settings or FeatureSettings()

    def build(part: History) -> pl.DataFrame:
        spine = pl.DataFrame({"client_id": part.clients})
        columns = [_aligned(item, spine, run_family(item, part, settings)) for item in chosen]
        return pl.concat([spine, *columns], how="horizontal")

    at_once = min(AT_ONCE, pl.thread_pool_size())
    with ThreadPoolExecutor(at_once) as pool:
        waiting: deque[Future[pl.DataFrame]] = deque()
        try:
            for part in history.chunks(chunk):
                waiting.append(pool.submit(build, part))
                if len(waiting) >= at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()


def run_family(item: Family, history: History, settings: FeatureSettings) -> pl.DataFrame:
    """One family's frame, as it returned it.

    The in-memory engine is part of the contract: it adds up every client's rows in table order within one thread, so sums
    of floats are bit-identical whatever the chunk and the number of threads. The streaming engine's are not.
    """
    return item.build(history, settings).collect(engine="in-memory")


def write_features(
    history: History, plans: Mapping[str, tuple[Sequence[str], FeatureSettings]], out: Path, *, chunk: int = CHUNK
) -> tuple[int, int]:
    """Write client_id and features as one parquet file, chunk by chunk; returns (rows, feature columns).

    Args:
        history: events before its cut.
        plans: block name → (families, settings). With several blocks, `<block>.` goes before their columns' names.
        out: the file; it appears when it is whole.
        chunk: clients held in memory at a time.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    width = 0
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        parts = []
        total = -(-len(history.clients) // chunk)
        for number, part in enumerate(track(history.chunks(chunk), "features", total)):
            frames = [pl.DataFrame({"client_id": part.clients})]
            for name, (families, settings) in plans.items():
                prefix = f"{name}." if len(plans) > 1 else ""
                (frame,) = build_features(part, families, settings, chunk=len(part.clients))
                features = frame.drop("client_id")
                frames.append(features.rename({column: f"{prefix}{column}" for column in features.columns}))
            parts.append(Path(folder) / f"{number:05d}.parquet")
            whole = pl.concat(frames, how="horizontal")
            whole.write_parquet(parts[-1])
            width = whole.width - 1
        write_atomically(out, lambda path: pl.scan_parquet(parts).sink_parquet(path, maintain_order=True))
    return len(history.clients), width


def _aligned(item: Family, spine: pl.DataFrame, frame: pl.DataFrame) -> pl.DataFrame:
    """The family's columns on the spine's rows, prefixed, Float32, absent rows filled as the family says."""
    if frame["client_id"].is_duplicated().any():
        raise ValueError(f"feature family {item.name!r} returned a client more than once")
    wrong = [name for name, dtype in frame.schema.items() if not (dtype.is_numeric() or dtype == pl.Boolean)]
    if wrong:
        raise ValueError(f"feature family {item.name!r} returned columns that are not numeric: {wrong}")
    aligned = spine.join(frame, on="client_id", how="left", maintain_order="left").drop("client_id")
    floats = aligned.select(pl.all().cast(pl.Float32).fill_nan(None))
    if item.absent is not None:
        # Only rows without any event of the family: a null inside a present row stays missing.
        here = spine["client_id"].is_in(frame["client_id"].implode())
        floats = floats.select(pl.when(here).then(pl.all()).otherwise(pl.lit(item.absent, dtype=pl.Float32)))
    return floats.rename(lambda name: f"{item.name}__{name}")
