"""What the user sees when something is wrong: one error class and one shape for findings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum


class KitError(Exception):
    """A problem the user can act on. The CLI prints it in two lines and exits with 2; never a traceback.

    Args:
        what: what is wrong, with the offending value in it.
        remedy: what to do about it.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} {remedy}")
        self.what = what
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[KitError], tuple[str, str]]:
        return type(self), (self.what, self.remedy)  # survives the trip home from a worker process


class Severity(StrEnum):
    """How bad a finding is: an error makes `kit data check` and `kit validate` exit with 1."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True)
class Finding:
    """One thing found in a data folder or a submission. `where` is a file, a column, a row: whatever helps to look."""

    severity: Severity
    what: str
    where: str
    remedy: str

    def as_json(self) -> dict[str, str]:
        """The shape relied on from outside: severity, what, where, remedy."""
        return {key: str(value) for key, value in asdict(self).items()}


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: `did you mean 'x'?` and the names that exist."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names) or '(none)'}"


def require_known(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """ValueError, as settings' validators raise it, at the first name that does not exist.

    Args:
        what: what a name names: `relation`.
        given: names from a recipe.
        known: names that exist.
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            raise ValueError(f"there is no {what} {name!r}; {nearest(name, names)}")
