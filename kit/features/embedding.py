"""A vector space of name and query codes, fitted on the catalogue alone: which codes, categories and prices occur together.

A raw code is the number of a codebook entry, so averaging codes says little. Here every (position, code) pair is a token, as
is every frequent category and every price decile; the positive pointwise mutual information of their co-occurrence within
products, factorised, gives each token a vector. A name or a query is the mean of its 16 code tokens, centred and scaled to
length 1: products never sold, queries and categories all get a place in the same space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

from kit.challenge import CODE_VALUES, CODES
from kit.features.matrix import Vectors, on_grid, positions, unit
from kit.features.shared import catalogue
from kit.history import History

DIMS = 24
"""Dimensions of the space."""
CATEGORY_TOKENS = 1024
"""At most so many categories (the ones with most products) are tokens."""
PRICE_TOKENS = 10
CODE_TOKENS = CODES * CODE_VALUES
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
        return on_grid(unit(self.means(codes) - self.centre))

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
            tokens = _factorise(_mutual_information(_one_hot(products)))[:CODE_TOKENS]
        space = CodeSpace(tokens, np.zeros(DIMS))
        return CodeSpace(tokens, space.means(code_rows(products["name"])).mean(axis=0))

    return history.once("embedding.space", fit)


def item_vectors(history: History) -> Vectors:
    """Unit vectors of the catalogue's products in the order of `catalogue`, float32 (items, DIMS)."""
    return history.once("embedding.items", lambda: code_space(history).vectors(code_rows(catalogue(history)["name"])))


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


def _one_hot(products: pl.DataFrame) -> sparse.csr_matrix:
    """Products × tokens: 16 codes, the category if it is frequent, the price decile if known."""
    rows = len(products)
    columns = [code_rows(products["name"]).astype(np.int64) + np.arange(CODES) * CODE_VALUES]
    frequent = (products.group_by("category").len().drop_nulls().sort(["len", "category"], descending=[True, False]))[
        "category"
    ].head(CATEGORY_TOKENS)
    category = positions(products["category"], np.sort(frequent.to_numpy()))
    columns.append(np.where(category >= 0, category + CODE_TOKENS, -1)[:, None])
    price = (products["price"] // (100 // PRICE_TOKENS)).clip(0, PRICE_TOKENS - 1).fill_null(-1).to_numpy()
    columns.append(np.where(price >= 0, price + CODE_TOKENS + len(frequent), -1)[:, None])
    index = np.concatenate(columns, axis=1)
    known = index >= 0
    pairs = (np.repeat(np.arange(rows), index.shape[1])[known.ravel()], index[known])
    shape = (rows, CODE_TOKENS + len(frequent) + PRICE_TOKENS)
    return sparse.csr_matrix((np.ones(int(known.sum()), dtype=np.float32), pairs), shape=shape)


def _mutual_information(one_hot: sparse.csr_matrix) -> sparse.csr_matrix:
    """Positive pointwise mutual information of two tokens in one product, symmetric, zero diagonal."""
    together = sparse.coo_matrix(one_hot.T @ one_hot)
    off = together.row != together.col
    row, column, count = together.row[off], together.col[off], together.data[off].astype(np.float64)
    size = together.shape[0]
    total = np.bincount(row, weights=count, minlength=size)
    value = np.log(count * total.sum() / (total[row] * total[column]))
    # A pair seen once or twice proves little: its information is discounted (Pantel & Lin, 2002).
    value *= count / (count + 1)
    keep = value > 0
    return sparse.csr_matrix((value[keep], (row[keep], column[keep])), shape=together.shape)


def _factorise(information: sparse.csr_matrix) -> NDArray[np.float64]:
    """Token vectors (tokens, DIMS) by truncated SVD; zero columns where the rank is lower."""
    vectors = np.zeros((information.shape[0], DIMS))
    if information.nnz:
        left, strength, _ = randomized_svd(information, DIMS, n_iter=7, random_state=0)
        vectors[:, : len(strength)] = left * np.sqrt(strength)
    return vectors
