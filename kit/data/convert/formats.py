"""Forms of times in text: which directives the reader understands, and which form would read a given text."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl

DIRECTIVE = re.compile(r"%(?:[-_0]?[A-Za-z]|\.[0-9]?f|[0-9]f|:{1,3}z|#z|[+%])")
_KNOWN = frozenset("YyCmdejbBhaAHkIlMSpPTDFRsznTGVuUWwt")
_SEEN = datetime(2024, 11, 23, 17, 48, 59, 123456)
"""A moment without two equal numbers: a form that writes it must read it again."""
INSTEAD = {
    "%Z": "the reader skips a zone's name without heeding it; write the name itself into the form (%H:%M:%S UTC), with "
    "`zone` if the shop's wall clock is wanted, or use %z for offsets such as +02:00 and Z",
    "%f": "the reader takes its digits for nanoseconds; write %.f right after %S, without a point of its own (10:00:00.25), or "
    "%3f for three digits after another mark (10:00:00,250)",
    "%::z": "write %z: it reads +02:00, +0200, +02 and Z",
    "%:::z": "write %z: it reads +02:00, +0200, +02 and Z",
}
_DAYS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%Y%m%d", "%d %b %Y", "%b %d, %Y", "%Y-%m-%d")
_CLOCKS = (" %H:%M:%S%.f", " %H:%M", " %I:%M:%S %p", " %I:%M %p", "T%H:%M:%S%.f", "%H%M%S")
CANDIDATES = (
    *(f"{day}{clock}{end}" for day in _DAYS for clock in _CLOCKS for end in ("", "%z", " %z", " UTC")),
    *_DAYS,
    *(
        f"{day}{clock}"
        for day in ("%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%y-%m-%d")
        for clock in (" %H:%M:%S", " %H:%M", "")
    ),
    "%Y%m%dT%H%M%S%z",
    "%Y%m%dT%H%M%S",
    "%Y-%m-%d %H:%M:%S,%3f",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a %b %d %H:%M:%S %Y",
    "%d/%b/%Y:%H:%M:%S %z",
)
"""Forms that are tried for a hint; the first that read a text are named."""
_ISO_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
OFFSET = r"(?:Z|z| ?UTC| ?[+-][0-9]{2}(?::?[0-9]{2})?)$"
"""How ISO 8601 text says that it is no wall clock."""


def working(form: str) -> str:
    """The form as the reader needs it: %z reads every offset and Z, and .%f is the fraction of a second."""
    return re.sub(r"%:?z", "%#z", form.replace(".%f", "%.f"))


def has_offset(form: str) -> bool:
    """Whether times in this form are instants rather than a wall clock."""
    return bool(re.search(r"%[:#]?z|%\+", form)) or "%s" in form


def parse_form(text: pl.Expr, form: str) -> pl.Expr:
    """Text → Datetime("us") by a form, in UTC where the form has an offset; null where it does not fit."""
    parsed = text.str.to_datetime(working(form), time_unit="us", strict=False)
    if re.search(r"%[:#]?z|%\+", form):
        parsed = parsed.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return parsed


def parse_iso(text: pl.Expr) -> pl.Expr:
    """ISO 8601 text → Datetime("us"): T or a space, to the day, the minute, the second or finer; an offset makes it UTC."""
    spaced = text.str.replace(rf"^({_ISO_DAY})[Tt]", "${1} ")
    fits = spaced.str.contains(rf"^{_ISO_DAY}( [0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}}([.,][0-9]+)?)?({OFFSET})?)?$")
    plain = pl.when(fits).then(spaced.str.replace(",", ".", literal=True))
    aware = pl.when(plain.str.contains(rf"[0-9]{OFFSET}") & plain.str.contains(":")).then(
        plain.str.replace(r" ?(?:UTC|z)$", "Z").str.replace(r" ([+-][0-9:]+)$", "${1}")
    )
    forms = [
        parse_form(plain, "%Y-%m-%d %H:%M:%S%.f"),
        parse_form(plain, "%Y-%m-%d %H:%M"),
        parse_form(plain, "%Y-%m-%d"),
        parse_form(aware, "%Y-%m-%d %H:%M:%S%.f%z"),
        parse_form(aware, "%Y-%m-%d %H:%M%z"),
    ]
    return pl.coalesce(forms)


def read_text(text: str, form: str | None) -> datetime | None:
    """One text by one form (None: ISO 8601); for messages. None too where the form itself cannot be used."""
    value = pl.Series("text", [text])
    try:
        parsed = parse_iso(pl.lit(value)) if form is None else parse_form(pl.lit(value), form)
        with warnings.catch_warnings(action="ignore"):
            return pl.select(parsed).item()  # type: ignore[no-any-return]
    except pl.exceptions.PolarsError:
        return None


def require_readable(form: str) -> None:
    """ValueError for a directive that the reader does not know or heed, and for a form that cannot read what it writes."""
    rest = DIRECTIVE.sub("", form.replace("%%", "").replace(".%f", "%.f"))
    for directive in DIRECTIVE.findall(form.replace("%%", "").replace(".%f", "%.f")):
        if directive in INSTEAD:
            raise ValueError(f"{directive} in format {form!r}: {INSTEAD[directive]}")
        if directive[-1] not in _KNOWN and not re.fullmatch(r"%(\.[369]?f|[369]f|\+)", directive):
            raise ValueError(
                f"{directive} in format {form!r} is not read; known: {_listed(_KNOWN)}, %.f, %3f, %6f, %9f, %+"
            )
    if "%" in rest:
        raise ValueError(f"format {form!r} has a % that begins no directive; a percent sign is %%")
    if re.fullmatch(r"[^%]*", form.replace("%%", "")):
        raise ValueError(f"format {form!r} has no directive; write it like %Y-%m-%d %H:%M:%S")
    if "%+" in form:
        return
    problem = "it cannot read what it writes"
    try:
        shown = re.sub(r"%[:#]?z", "%z", form.replace(".%f", "%.f"))
        written = pl.Series([_SEEN.replace(tzinfo=UTC)]).dt.strftime(shown).item()
        back = pl.select(parse_form(pl.lit(pl.Series([written])), form)).item()
    except pl.exceptions.PolarsError as error:
        back, problem = None, str(error).strip().splitlines()[0].rstrip(".")
    if back is None:
        raise ValueError(f"the reader cannot use format {form!r}: {problem}; write it like %Y-%m-%d %H:%M:%S")
    if back.date() != _SEEN.date() or back.hour not in (0, _SEEN.hour):
        raise ValueError(f"format {form!r} loses the day or the hour: it reads {written!r} as {back}")


def fitting(text: str, tried: str | None, plausible: tuple[datetime, datetime]) -> Sequence[str]:
    """Up to three forms that read `text` as a plausible moment, never the one that was tried."""
    found: list[str] = []
    for form in CANDIDATES:
        moment = read_text(text, form)
        if form != tried and moment is not None and plausible[0] <= moment < plausible[1]:
            found.append(form)
        if len(found) == 3:
            break
    return found


def _listed(letters: frozenset[str]) -> str:
    return ", ".join(f"%{letter}" for letter in sorted(letters, key=str.lower))
