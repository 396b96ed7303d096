"""One type for a column whose files (or parts of a file) have several: widened where no value changes, else refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from kit.errors import KitError

EXACT = 2**53
"""From here on not every whole number is a float."""
TEXT = (pl.String, pl.Categorical, pl.Enum)


@dataclass(frozen=True)
class Piece:
    """A frame of one file, or of a part of it. `name`: the file's, for messages."""

    name: str
    frame: pl.LazyFrame


def unify(pieces: Sequence[Piece], columns: Sequence[str], *, text: bool = False) -> pl.LazyFrame:
    """All pieces one after another, each column in one type.

    Args:
        pieces: frames with the same columns.
        columns: those whose types may differ.
        text: where no type holds all, write the values as text (json: 5 beside "5"), instead of refusing.

    Raises:
        KitError: no type holds the values of all files; names the file that differs from most, the column, both types.
    """
    casts: dict[str, pl.DataType] = {}
    schemas = [piece.frame.collect_schema() for piece in pieces]
    for column in columns:
        types = [schema[column] for schema in schemas]
        if len(set(types)) == 1 and not isinstance(types[0], TEXT[1:]):
            continue
        target = common_type(types)
        if target is None or not _exact(pieces, column, types, target):
            if not text:
                raise _differ(pieces, column, types)
            target = pl.String()
        casts[column] = target
    if not casts:
        return pl.concat([piece.frame for piece in pieces], how="vertical")
    frames = [
        piece.frame.with_columns(_cast(column, schema[column], target) for column, target in casts.items())
        for piece, schema in zip(pieces, schemas, strict=True)
    ]
    return pl.concat(frames, how="vertical")


def common_type(types: Sequence[pl.DataType]) -> pl.DataType | None:
    """The type that holds the values of all; None where there is none. Floats for integers need a look at the values."""
    some = list(dict.fromkeys(kind for kind in types if kind != pl.Null))
    if len(some) <= 1:
        return pl.String() if some and isinstance(some[0], TEXT) else some[0] if some else pl.Null()
    if all(isinstance(kind, TEXT) or kind.is_integer() for kind in some):
        texts = any(isinstance(kind, TEXT) for kind in some)
        return pl.String() if texts else pl.Int64()
    if all(kind.is_numeric() for kind in some):
        if any(kind.is_float() for kind in some):
            return pl.Float64()
        scale = max(kind.scale or 0 for kind in some if isinstance(kind, pl.Decimal))
        return pl.Decimal(38, scale)
    if all(kind == pl.Date or isinstance(kind, pl.Datetime) for kind in some):
        zoned = [isinstance(kind, pl.Datetime) and kind.time_zone is not None for kind in some]
        if all(zoned):
            return pl.Datetime("us", "UTC")
        return None if any(zoned) else pl.Datetime("us")
    return None


def _cast(column: str, have: pl.DataType, target: pl.DataType) -> pl.Expr:
    value = pl.col(column)
    if isinstance(target, pl.Datetime) and target.time_zone is not None and isinstance(have, pl.Datetime):
        return value.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    return value.cast(target)


def _exact(pieces: Sequence[Piece], column: str, types: Sequence[pl.DataType], target: pl.DataType) -> bool:
    """Whether every whole number of the pieces keeps its value in the target type."""
    if target == pl.Float64:
        wide = [kind for kind in types if kind.is_integer() or isinstance(kind, pl.Decimal)]
    elif target == pl.Int64:
        wide = [kind for kind in types if kind in (pl.UInt64, pl.Int128, pl.UInt128)]
    else:
        return True
    bound = EXACT if target == pl.Float64 else 2**63
    for piece, kind in zip(pieces, types, strict=True):
        if kind in wide:
            low, high = piece.frame.select(low=pl.col(column).min(), high=pl.col(column).max()).collect().row(0)
            if low is not None and not (-bound < int(low) and int(high) < bound):
                return False
    return True


def _differ(pieces: Sequence[Piece], column: str, types: Sequence[pl.DataType]) -> KitError:
    usual = Counter(str(kind) for kind in types if kind != pl.Null).most_common(1)[0][0]
    odd = next(at for at, kind in enumerate(types) if kind != pl.Null and str(kind) != usual)
    like = next(at for at, kind in enumerate(types) if str(kind) == usual)
    return KitError(
        f"{pieces[odd].name} has column {column!r} as {types[odd]}, but {pieces[like].name} has it as {usual}: no one type "
        "holds the values of both.",
        "Write the files with one type for the column, or give each form a source of its own.",
    )
