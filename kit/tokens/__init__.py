"""Histories as flat arrays of tokens, and batches of them. NumPy and polars only: models turn the arrays into tensors."""

from kit.tokens.batch import (
    AGE_BUCKETS,
    GAP_BUCKETS,
    HOUR_BUCKETS,
    SequenceBatch,
    length_buckets,
    sequence_batch,
)
from kit.tokens.build import tokenise
from kit.tokens.table import (
    CUT_KIND,
    KINDS,
    Tokens,
    TokenSettings,
    kind_code,
    microseconds,
    vocabulary_arrays,
    vocabulary_of,
)
from kit.tokens.vocabulary import Catalogue, Vocabulary, Words

__all__ = [
    "AGE_BUCKETS",
    "CUT_KIND",
    "GAP_BUCKETS",
    "HOUR_BUCKETS",
    "KINDS",
    "Catalogue",
    "SequenceBatch",
    "TokenSettings",
    "Tokens",
    "Vocabulary",
    "Words",
    "kind_code",
    "length_buckets",
    "microseconds",
    "sequence_batch",
    "tokenise",
    "vocabulary_arrays",
    "vocabulary_of",
]
