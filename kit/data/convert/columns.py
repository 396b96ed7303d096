"""The columns that a mapping wants, found in what a file has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kit.errors import KitError, nearest


def require_columns(present: Sequence[str], wanted: Mapping[str, str], name: str) -> None:
    """KitError for the first column that the mapping wants and the file lacks, or has twice.

    Args:
        present: the file's columns.
        wanted: column → what the mapping wants it for.
        name: the file's, for the message.
    """
    for column, what in wanted.items():
        if column not in present:
            marks = [mark for mark in ";\t|" if len(present) == 1 and mark in present[0]]
            if marks:
                raise KitError(
                    f"{name} has the one column {present[0]!r}.",
                    f"Say `separator = {marks[0]!r}` beside the file's path.",
                )
            headless = (
                "" if any(other in present for other in wanted) else " Or has it no header? Then write one at its top."
            )
            raise KitError(
                f"{what} wants column {column!r} of {name}, which has {list(present)};",
                f"{nearest(column, present)}.{headless}",
            )
        if present.count(column) > 1:
            places = [str(at) for at, name_ in enumerate(present, 1) if name_ == column]
            raise KitError(
                f"{what} wants column {column!r} of {name}, which has several of that name (columns {' and '.join(places)}).",
                "Rename all but one of them in the file's header.",
            )
