"""Block `als`: implicit-feedback matrix factorisation of client × category, sku or url.

Hu, Koren & Volinsky 2008, "Collaborative Filtering for Implicit Feedback Datasets", solved by the `implicit` library.
An entry's confidence is 1 + alpha · log(1 + w), w = Σ over the client's events of weight[type] · 2^(−age / half_life); the
logarithm keeps a wholesaler's thousand orders from making the equations singular in float32. Clients are embedded by one
least-squares step on the fitted item factors, so new clients and other cuts need no refit.

Technique C4.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator
from scipy import sparse

from kit.arrays import read_array
from kit.blocks.base import Block, BlockOutput, block
from kit.challenge import EventType
from kit.claims import Claim
from kit.errors import require_known
from kit.history import History
from kit.limits.need import Counts, Need, matrix
from kit.recipe import Strict

if TYPE_CHECKING:
    from implicit.cpu.als import AlternatingLeastSquares

SECONDS_PER_DAY = 86_400
LEAST_ITEMS = 2
CHUNK = 50_000
"""Clients whose events are added up at a time."""


class ALSSettings(Strict):
    """Settings of the factorisation."""

    items: Literal["category", "sku", "url"] = "category"
    factors: int = Field(64, ge=1, le=1024)
    iterations: int = Field(15, ge=1)
    regularization: float = Field(0.01, gt=0)
    alpha: float = Field(10.0, gt=0, description="Confidence of an entry = 1 + alpha · log(1 + its weight).")
    half_life: float = Field(30.0, gt=0, description="Days for an event's weight to halve.")
    min_clients: int = Field(2, ge=1, description="Items touched by fewer clients are left out.")
    weights: dict[str, float] = Field(
        {"buy": 3.0, "cart": 1.0, "remove": 0.0, "visit": 1.0}, description="Weight per event type; 0 leaves it out."
    )

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: dict[str, float]) -> dict[str, float]:
        require_known("event type", weights, [kind.short for kind in EventType])
        return weights


@block
class ALS(Block):
    """Client factors of an implicit-feedback factorisation, float32 (n, factors); NaN for clients without entries."""

    kind = "als"
    description = "Matrix factorisation (ALS) of client × category, sku or url."
    Settings: ClassVar[type[Strict]] = ALSSettings
    solves: ClassVar[tuple[Claim, ...]] = (
        Claim("communities", margin=0.3, twin={"factors": 1}, given={"items": "sku", "factors": 8}),
        Claim("drift", margin=0.1, twin={"half_life": 10_000.0}, given={"factors": 8, "half_life": 3.0}),
    )

    def fit(self, history: History) -> ALS:
        """Factorise the history's client × item matrix. With fewer than two items there is nothing to tell clients apart by:
        the rows come out NaN, and the assembler leaves the block out.
        """
        from threadpoolctl import threadpool_limits

        settings = cast(ALSSettings, self.settings)
        entries = self._entries(history)
        touched = entries.group_by("item").agg(pl.len()).filter(pl.col("len") >= settings.min_clients)
        self.items: NDArray[np.int64] = np.sort(touched["item"].to_numpy())
        self.model: AlternatingLeastSquares | None = None
        if len(self.items) < LEAST_ITEMS:
            return self
        with threadpool_limits(1, "blas"):  # implicit runs its own threads and asks for this
            self.model = self._unfitted()
            self.model.fit(self._matrix(entries, history.clients), show_progress=False)
        return self

    def transform(self, history: History, clients: NDArray[np.int64]) -> BlockOutput:
        """One least-squares step per client on the fitted item factors."""
        settings = cast(ALSSettings, self.settings)
        columns = tuple(f"{settings.items}_{i}" for i in range(settings.factors))
        values = np.full((len(clients), settings.factors), np.nan, dtype=np.float32)
        if self.model is None:
            return BlockOutput(values, columns)
        matrix = self._matrix(self._entries(history.among(clients)), clients)
        filled = np.flatnonzero(np.diff(matrix.indptr))
        if len(filled):
            values[filled] = self.model.recalculate_user(filled, matrix[filled])
        return BlockOutput(values, columns)

    def need(self, counts: Counts) -> Need:
        """The touched pairs: client, item and weight (24) of ranges of clients, then together, as a sparse matrix with a
        transposed copy (2 · 8) and the index that makes it (16); and the factors of clients and items."""
        settings = cast(ALSSettings, self.settings)
        rows = counts.visits if settings.items == "url" else counts.touches
        items = counts.urls(settings.min_clients) if settings.items == "url" else counts.products
        factors = matrix(counts.clients + items, settings.factors)
        values = matrix(counts.clients, settings.factors)
        memory = rows * (2 * 24 + 16 + 16) + factors + 2 * values
        helps = 'a `weights` table without visits, or `items = "category"`'
        return Need(memory, memory, factors + 8 * items, settings.factors, helps)

    def save(self, folder: Path) -> None:
        """items.npy int64 (m,) and item_factors.npy float32 (m, factors)."""
        np.save(folder / "items.npy", self.items)
        if self.model is not None:
            np.save(folder / "item_factors.npy", self.model.item_factors)

    def load(self, folder: Path) -> ALS:
        """The item factors; a client's are solved for anew, as `transform` always does."""
        self.items = read_array(folder / "items.npy", mapped=False)
        self.model = None
        if len(self.items) >= LEAST_ITEMS:
            self.model = self._unfitted()
            self.model.item_factors = read_array(folder / "item_factors.npy", mapped=False)
        return self

    def _unfitted(self) -> AlternatingLeastSquares:
        """The library's model."""
        from implicit.als import AlternatingLeastSquares

        settings = cast(ALSSettings, self.settings)
        return AlternatingLeastSquares(
            factors=settings.factors,
            regularization=settings.regularization,
            alpha=1.0,  # `_matrix` delivers confidences already
            iterations=settings.iterations,
            random_state=self.seed,
            use_gpu=False,
            dtype=np.float32,
        )

    def _entries(self, history: History) -> pl.DataFrame:
        """client_id, item, weight: one row per touched pair, sorted, so that equal input gives equal bytes."""
        schema = pl.Schema({"client_id": pl.Int64, "item": pl.Int64, "weight": pl.Float64})
        parts = [self._pairs(view) for view in history.chunks(CHUNK)]  # a client's events lie in one range
        return pl.concat([pl.DataFrame(schema=schema), *parts])

    def _pairs(self, history: History) -> pl.DataFrame:
        """`_entries` of few clients."""
        settings = cast(ALSSettings, self.settings)
        decay = settings.half_life * SECONDS_PER_DAY
        frames = [pl.LazyFrame(schema={"client_id": pl.Int64, "item": pl.Int64, "weight": pl.Float64})]
        for kind in EventType:
            weight = settings.weights.get(kind.short, 0.0)
            carries = (kind is EventType.VISIT) if settings.items == "url" else kind.value_column == "sku"
            if weight <= 0 or not carries:
                continue
            age = (pl.lit(history.cut) - pl.col("timestamp")).dt.total_seconds() / decay
            frames.append(
                history.events(kind)
                .drop_nulls(settings.items)
                .select("client_id", pl.col(settings.items).alias("item"), (weight * 0.5**age).alias("weight"))
            )
        pairs = pl.concat(frames).sort("client_id", "item", "weight").group_by("client_id", "item", maintain_order=True)
        return pairs.agg(pl.col("weight").sum()).collect()

    def _matrix(self, entries: pl.DataFrame, clients: NDArray[np.int64]) -> sparse.csr_matrix:
        """Confidences, float32 CSR (len(clients), len(items)); entries of other clients or items are left out."""
        rows = np.searchsorted(clients, entries["client_id"].to_numpy())
        columns = np.searchsorted(self.items, entries["item"].to_numpy())
        known = np.isin(entries["item"].to_numpy(), self.items)
        confidence = 1.0 + cast(ALSSettings, self.settings).alpha * np.log1p(
            entries["weight"].to_numpy().astype(np.float32)
        )
        shape = (len(clients), len(self.items))
        return sparse.csr_matrix((confidence[known], (rows[known], columns[known])), shape=shape)
