"""What a table asks of a row of its source, as columns that are typed once and used by every count and every table."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from kit.challenge import EventType
from kit.data.convert.mapping import Keep, TableMapping


class Columns:
    """Named expressions over one source, each evaluated once however many tables ask for it."""

    def __init__(self) -> None:
        self.made: dict[str, pl.Expr] = {}
        self._names: dict[str, str] = {}

    def __call__(self, key: str, expr: pl.Expr) -> pl.Expr:
        """The column that holds `expr`; equal keys share one."""
        name = self._names.setdefault(key, f"_{len(self._names)}")
        self.made.setdefault(name, expr)
        return pl.col(name)


@dataclass(frozen=True)
class Ask:
    """What one table asks of a row of its source, in columns of the typed rows.

    Attributes:
        kind: the event table.
        table: its mapping.
        own: the table's own rules.
        verdicts: what each says, in their order.
        passes: whether all rules let a row through, the shared ones too; null where one cannot tell.
        client: the client's id as text.
        item: the item as text.
        time: Datetime("us"), before any zone.
        stated: whether a time is said.
        offset: whether it is said with its offset from UTC, where that is asked.
        inexact: whether the client's or the item's id has lost digits.
    """

    kind: EventType
    table: TableMapping
    own: list[Keep]
    verdicts: list[pl.Expr]
    passes: pl.Expr
    client: pl.Expr
    item: pl.Expr
    time: pl.Expr
    stated: pl.Expr
    offset: pl.Expr | None
    inexact: dict[str, pl.Expr]

    @property
    def missing(self) -> dict[str, pl.Expr]:
        """What a row of the table may lack: the first counts."""
        holds = {"client": self.client.is_not_null(), "item": self.item.is_not_null(), "time": self.stated}
        found: dict[str, pl.Expr] = {}
        before = self.passes
        for what, held in holds.items():
            found[what] = before & ~held
            before = before & held
        return found

    @property
    def kept(self) -> pl.Expr:
        """Rows that become events."""
        return self.passes & pl.all_horizontal(
            self.client.is_not_null(), self.item.is_not_null(), self.time.is_not_null()
        )
