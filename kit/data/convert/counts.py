"""How many records a source file holds, and what became of them: the reader's half of "rows add up"."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kit.errors import KitError

SHOWN = 20
"""At most this many unreadable records of a file are kept for messages; all are counted."""
ENOUGH = 1000
"""A file that is refused for its unreadable records need not be read to its end to know it."""


@dataclass(frozen=True)
class Unreadable:
    """A record that cannot be read: the line it begins in (from 1), why, and the setting that would read it."""

    line: int
    why: str
    remedy: str = ""


@dataclass(frozen=True)
class FileCount:
    """Records of one file. `records` is counted without the reader that made the rows; records == read + unreadable_total.

    Attributes:
        path: the file.
        records: what the file holds: lines that are not blank, less the header, lines inside a quoted field taken together.
        read: records that were read.
        unreadable: the first of those that were not.
        unreadable_total: how many those are.
        rows: rows in the frame. As many as `read`, unless `explode` makes several of a record, or none.
        blank: lines without anything on them; they are no records.
    """

    path: Path
    records: int
    read: int
    unreadable: tuple[Unreadable, ...]
    unreadable_total: int
    rows: int
    blank: int = 0


@dataclass
class Tally:
    """A FileCount in the making. `name` is the file's, as messages call it; `refuse`: unreadable records are an error."""

    path: Path
    name: str
    refuse: bool = True
    records: int = 0
    read: int = 0
    rows: int = 0
    blank: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)
    unreadable_total: int = 0
    digest: tuple[int, int] | None = None

    def leave_out(self, found: list[Unreadable]) -> None:
        """Counts unreadable records; KitError once there are ENOUGH of them and none may be left out."""
        self.unreadable += found[: SHOWN - len(self.unreadable)]
        self.unreadable_total += len(found)
        if self.refuse and self.unreadable_total >= ENOUGH:
            self._raise(" at least")

    def done(self) -> FileCount:
        """The finished count; KitError for unreadable records that may not be left out, or numbers that do not add up."""
        if self.refuse and self.unreadable_total:
            self._raise("")
        self.check_sum("")
        return FileCount(
            self.path,
            self.records,
            self.read,
            tuple(self.unreadable),
            self.unreadable_total,
            self.rows,
            self.blank,
        )

    def check_sum(self, where: str) -> None:
        """KitError unless records == read + unreadable_total so far."""
        if self.records != self.read + self.unreadable_total:
            raise KitError(
                f"{self.name} holds {self.records:,} records{where}, but {self.read:,} were read and {self.unreadable_total:,} "
                "cannot be.",
                "This is a fault of the reader, not of the file: please report it with the lines around there.",
            )

    def _raise(self, least: str) -> None:
        first = self.unreadable[0]
        more = self.unreadable_total - 1
        others = ", ".join(f"{bad.line:,}" for bad in self.unreadable[1:6])
        dots = " …" if more > 5 else ""
        several = f", nor can{least} {more:,} more (line {others}{dots})" if more else ""
        raise KitError(
            f"{self.name} line {first.line:,} cannot be read{several}: {first.why}.",
            f'{first.remedy} `unreadable = "leave out"` beside the file\'s path leaves such records out and counts them.',
        )
