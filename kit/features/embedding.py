"""A vector space of name and query codes, fitted on the catalogue alone: which codes, categories and prices occur together.

A raw code is the number of a codebook entry, so averaging codes says little. Here every (position, code) pair is a token, as
is every frequent category and every price decile; the positive pointwise mutual information of their co-occurrence within
products, factorised, gives each token a vector. A name or a query is the mean of its 16 code tokens, centred and scaled to
length 1: products never sold, queries and categories all get a place in the same space.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

from kit.challenge import CODE_VALUES, CODES
from kit.features.matrix import Vectors, on_grid, positions, unit
from kit.features.registry import Fact
from kit.features.shared import catalogue
from kit.history import History

DIMS = 24
"""Dimensions of the space."""
CATEGORY_TOKENS = 1024
"""At most so many categories (the ones with most products) are tokens."""
PRICE_TOKENS = 10
CODE_TOKENS = CODES * CODE_VALUES
ROWS_AT_ONCE = 4_096
CATEGORY_PRIOR = 5.0
"""A category's centre is drawn towards the mean of all products as if by so many of them."""


@dataclass(frozen=True)
class CodeSpace:
    """Vectors of code tokens.

    Attributes:
        tokens: float64 (CODES * CODE_VALUES, DIMS), row = position * CODE_VALUES + code.
        centre: float64 (DIMS,), the mean product.
    """

    tokens: NDArray[np.float64]
    centre: NDArray[np.float64]

    def vectors(self, codes: NDArray[np.uint8]) -> Vectors:
        """Unit vectors on the exact grid (see `on_grid`), float32 (n, DIMS), of code rows uint8 (n, CODES)."""
        found = np.empty((len(codes), DIMS), dtype=np.float32)
        for first in range(0, len(codes), ROWS_AT_ONCE):  # a block stays in the processor's cache
            block = slice(first, first + ROWS_AT_ONCE)
            found[block] = on_grid(unit(self.means(codes[block]) - self.centre))
        return found

    def means(self, codes: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Mean token vector of each row of codes."""
        total = np.zeros((len(codes), DIMS))
        for position in range(CODES):
            total += self.tokens[position * CODE_VALUES + codes[:, position].astype(np.int64)]
        return total / CODES


def code_rows(codes: pl.Series) -> NDArray[np.uint8]:
    """An Array(UInt8, 16) column as a matrix (n, CODES)."""
    return codes.to_numpy().reshape(len(codes), CODES)


def code_space(history: History) -> CodeSpace:
    """The space fitted on the catalogue; the same for every cut and chunk."""

    def fit() -> CodeSpace:
        products = catalogue(history)
        if len(products) == 0:
            return CodeSpace(np.zeros((CODE_TOKENS, DIMS)), np.zeros(DIMS))
        with threadpool_limits(limits=1):  # BLAS adds up differently with other numbers of threads
            columns, size = _token_columns(products)
            tokens = _factorise(_mutual_information(_together(columns, size)))[:CODE_TOKENS]
        occurs = np.bincount(columns[:, :CODES].ravel(), minlength=CODE_TOKENS)
        return CodeSpace(tokens, occurs @ tokens / occurs.sum())

    return history.always("embedding.space", fit)


SPACE = Fact(
    "space",
    key=lambda settings: "embedding.space",
    learn=lambda history, settings: code_space(history),
    pack=lambda space: {"tokens": space.tokens, "centre": space.centre},
    unpack=lambda arrays: CodeSpace(arrays["tokens"], arrays["centre"]),
    timeless=True,
)
"""Of the families with columns that are coordinates in it: a catalogue that has grown would turn it."""


def item_vectors(history: History) -> Vectors:
    """Unit vectors of the catalogue's products in the order of `catalogue`, float32 (items, DIMS)."""
    return history.always("embedding.items", lambda: code_space(history).vectors(code_rows(catalogue(history)["name"])))


def category_vectors(history: History, categories: NDArray[np.int64]) -> Vectors:
    """Unit vectors of the mean product of each category, shrunk to the mean of all, float32 (len(categories), DIMS)."""
    products = catalogue(history)
    order = np.argsort(categories, kind="stable")
    index = positions(products["category"], categories[order])
    inside = index >= 0
    chooser = sparse.csr_matrix(
        (np.ones(int(inside.sum())), (index[inside], np.flatnonzero(inside))), shape=(len(categories), len(products))
    )
    number = np.asarray(chooser.sum(axis=1)).reshape(-1, 1)
    sums = chooser @ item_vectors(history).astype(np.float64)
    centres = np.empty_like(sums)
    centres[order] = sums / (number + CATEGORY_PRIOR)
    return on_grid(unit(centres))


def _token_columns(products: pl.DataFrame) -> tuple[NDArray[np.int32], int]:
    """Tokens of every product, int32 (n, CODES + 2): 16 codes, the category if it is frequent, the price decile if known;
    -1 for none. And the number of tokens."""
    frequent = products.group_by("category").len().drop_nulls().sort(["len", "category"], descending=[True, False])
    known = np.sort(frequent["category"].head(CATEGORY_TOKENS).to_numpy())
    price = (products["price"] // (100 // PRICE_TOKENS)).clip(0, PRICE_TOKENS - 1).fill_null(-1).to_numpy()
    first_price = CODE_TOKENS + len(known)
    columns = np.empty((len(products), CODES + 2), dtype=np.int32, order="F")
    columns[:, :CODES] = code_rows(products["name"]) + np.arange(CODES, dtype=np.int32) * CODE_VALUES
    category = positions(products["category"], known)
    columns[:, CODES] = np.where(category >= 0, category + CODE_TOKENS, -1)
    columns[:, CODES + 1] = np.where(price >= 0, price + first_price, -1)
    return columns, first_price + PRICE_TOKENS


def _together(columns: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """In how many products two tokens of different columns occur together, symmetric int32 (size, size), diagonal 0.

    A table per pair of columns: no product needs a row of its own in a sparse matrix, which at a million products was slower
    by an order of magnitude.
    """
    counts = np.zeros((size, size), dtype=np.int32)
    spans = []
    for tokens in columns.T:
        known = tokens[tokens >= 0]
        spans.append((int(known.min()), int(known.max()) + 1) if len(known) else (0, 0))
    for one, other in combinations(range(columns.shape[1]), 2):
        (low, stop), (start, end) = spans[one], spans[other]
        both = (columns[:, one] >= 0) & (columns[:, other] >= 0)
        place = (columns[both, one] - low).astype(np.int64) * (end - start) + columns[both, other] - start
        table = np.bincount(place, minlength=(stop - low) * (end - start)).reshape(stop - low, end - start)
        counts[low:stop, start:end] = table
        counts[start:end, low:stop] = table.T
    return counts


def _mutual_information(together: NDArray[np.int32]) -> sparse.csr_matrix:
    """Positive pointwise mutual information of two tokens in one product, symmetric, zero diagonal."""
    total = together.sum(axis=1, dtype=np.float64)
    rows = []
    for first in range(0, len(together), CODE_VALUES):
        number = together[first : first + CODE_VALUES].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.log(number * total.sum() / (total[first : first + CODE_VALUES, None] * total))
            # A pair seen once or twice proves little: its information is discounted (Pantel & Lin, 2002).
            value *= number / (number + 1)
        rows.append(sparse.csr_matrix(np.where(value > 0, value, 0.0)))
    return sparse.vstack(rows, format="csr")


def _factorise(information: sparse.csr_matrix) -> NDArray[np.float64]:
    """Token vectors (tokens, DIMS) by truncated SVD; zero columns where the rank is lower."""
    vectors = np.zeros((information.shape[0], DIMS))
    if information.nnz:
        left, strength, _ = randomized_svd(information, DIMS, n_iter=7, random_state=0)
        vectors[:, : len(strength)] = left * np.sqrt(strength)
    return vectors
