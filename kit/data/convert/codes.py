"""Text → 16 codes of 0 .. 255: hashed n-gram features, compressed, then quantised part by part (a product quantiser).

Close texts get codes that agree in many places, as the challenge's codes do; a code means something only beside the
others of the same conversion. Names and search queries of one shop share one quantiser, so they can be compared.
Products without any text get codes from a hash of what is known of them, see `hashed_codes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from kit.challenge import CODE_VALUES, CODES

if TYPE_CHECKING:
    from sklearn.cluster import MiniBatchKMeans

FEATURES = 2**15
"""Hash buckets of character and word n-grams."""
PART = 8
"""Numbers per code: texts are compressed to CODES x PART numbers."""
FIT_TEXTS = 100_000
"""At most this many distinct texts train the compression and the quantiser; all are coded."""
CHUNK = 50_000

Codes = NDArray[np.uint8]


def text_codes(texts: Sequence[str], seed: int = 0) -> Codes:
    """Codes of distinct texts, uint8 (len(texts), 16). Deterministic: equal texts and seed give equal codes."""
    codes = np.zeros((len(texts), CODES), dtype=np.uint8)
    if not len(texts):
        return codes
    sample = list(texts)
    if len(texts) > FIT_TEXTS:
        rows = np.random.default_rng(seed).choice(len(texts), FIT_TEXTS, replace=False)
        sample = [texts[row] for row in np.sort(rows)]
    quantiser = TextQuantiser(seed)  # loads libraries: a limit holds for those only that are loaded before it
    with threadpool_limits(1):  # sums in one order: the same codes on any number of cores
        quantiser.fit(sample)
        for start in range(0, len(texts), CHUNK):
            codes[start : start + CHUNK] = quantiser.transform(texts[start : start + CHUNK])
    return codes


class TextQuantiser:
    """Character and word n-grams, hashed and weighted by tf-idf → 128 numbers by a truncated SVD → 16 k-means codes."""

    def __init__(self, seed: int) -> None:
        import sklearn.cluster
        import sklearn.decomposition  # noqa: F401  for `fit`
        from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
        from sklearn.pipeline import make_pipeline, make_union

        shared = {"n_features": FEATURES, "alternate_sign": False, "norm": None}
        chars = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), **shared)
        words = HashingVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", **shared)
        self.seed = seed
        self.features = make_pipeline(make_union(chars, words), TfidfTransformer(sublinear_tf=True))

    def fit(self, texts: Sequence[str]) -> TextQuantiser:
        """Learn weights, directions and centroids from distinct texts."""
        from sklearn.decomposition import TruncatedSVD

        counted = self.features.fit_transform(texts)
        self.used = np.flatnonzero(counted.getnnz(axis=0))  # most hash buckets stay empty in a small shop
        width = CODES * PART
        components = max(1, min(width, len(texts), len(self.used)))
        with np.errstate(invalid="ignore"):  # a single text has no variance to explain
            self.svd = TruncatedSVD(components, random_state=self.seed).fit(counted[:, self.used])
        # The leading components carry most of the variance; a rotation shares it among the sixteen parts.
        random = np.random.default_rng(self.seed).standard_normal((width, width))
        self.rotation = np.linalg.qr(random)[0][:components]
        dense = self._compress(counted)
        self.means = [self._fit_part(dense, part) for part in range(CODES)]
        return self

    def transform(self, texts: Sequence[str]) -> Codes:
        """Codes uint8 (len(texts), 16)."""
        dense = self._compress(self.features.transform(texts))
        parts = [means.predict(dense[:, part * PART : (part + 1) * PART]) for part, means in enumerate(self.means)]
        return np.stack(parts, axis=1).astype(np.uint8)

    def _compress(self, counted: csr_matrix) -> NDArray[np.float32]:
        dense = self.svd.transform(counted[:, self.used])
        dense /= np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-12)
        return np.asarray(dense @ self.rotation, dtype=np.float32)

    def _fit_part(self, dense: NDArray[np.float32], part: int) -> MiniBatchKMeans:
        from sklearn.cluster import MiniBatchKMeans

        rows = dense[:, part * PART : (part + 1) * PART]
        centroids = min(CODE_VALUES, len(np.unique(rows.round(6), axis=0)))
        means = MiniBatchKMeans(
            centroids,
            random_state=self.seed + part,
            batch_size=2048,
            init_size=2048,
            n_init=1,
            max_iter=8,
            reassignment_ratio=0.0,
        )
        return means.fit(rows)


def hashed_codes(category: NDArray[np.int64], price: NDArray[np.int64], sku: NDArray[np.int64]) -> Codes:
    """Codes of products without text, uint8 (n, 16): 8 from the category, 4 from the price bucket, 4 from the sku."""
    sources = [category] * 8 + [price] * 4 + [sku] * 4
    with np.errstate(over="ignore"):
        mixed = [_mix(source.astype(np.uint64) * np.uint64(CODES) + np.uint64(at)) for at, source in enumerate(sources)]
    return np.stack([(column & np.uint64(CODE_VALUES - 1)).astype(np.uint8) for column in mixed], axis=1)


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele et al. 2014): every input bit moves every output bit."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def print_codes(codes: Codes) -> pl.Series:
    """Codes as the raw files hold them: `[ 21  21  13 168 …]`."""
    frame = pl.DataFrame(codes, schema=[f"c{at}" for at in range(CODES)], orient="row")
    padded = [pl.col(name).cast(pl.String).str.pad_start(3) for name in frame.columns]
    return frame.select(codes=pl.format("[{}]", pl.concat_str(padded, separator=" ")))["codes"]
