"""Numbers and names as people read them: a true minus sign, `34 %`, `a, b and c`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kit.tasks import CHALLENGE

MINUS = "−"


def number(value: float | None, digits: int = 4) -> str:
    """Fixed decimals; `–` for nothing."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float, digits: int = 4) -> str:
    """`+0.0100`, `−0.0100`."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def percent(value: float | None, digits: int = 0) -> str:
    """A share: `34 %` with a space that does not break; `–` for nothing."""
    return "–" if value is None else f"{100 * value:.{digits}f}\u00a0%".replace("-", MINUS)


def short(task: str) -> str:
    """`propensity_new_sku` → `new sku`."""
    return task.removeprefix("propensity_").replace("_", " ")


def breakable(name: str) -> str:
    """A column's name that may break behind its underscores rather than anywhere."""
    return re.sub(r"(_+)", "\\1\u200b", name)


def listed(names: Sequence[str]) -> str:
    """`a, b and c`; `none` for nothing."""
    if len(names) < 2:
        return names[0] if names else "none"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def tasks(count: int) -> str:
    """`1 task`, `3 tasks`, `six tasks` for all of them."""
    return "six tasks" if count == len(CHALLENGE) else f"{count} task{'' if count == 1 else 's'}"


def instant(text: str) -> str:
    """`2022-11-09T00:00:00` → `2022-11-09`, with the time of day only where there is one."""
    day, _, rest = str(text).partition("T")
    time = rest[:5]
    return day if time in ("", "00:00") else f"{day} {time}"
