"""Sizes as people write them: `12GB`, `12 GiB`, `800MB`."""

from __future__ import annotations

import re

from kit.errors import KitError

POWERS = ("", "K", "M", "G", "T")
PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B\s*", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes: KB, MB, GB, TB are powers of 1000, KiB, MiB, GiB, TiB powers of 1024; case and spaces do not matter.

    Raises:
        KitError: no number, no unit, an unknown unit, or less than a byte.
    """
    found = PATTERN.fullmatch(text)
    value = 0
    if found is not None:
        number, power, binary = found.groups()
        value = int(float(number) * (1024 if binary else 1000) ** POWERS.index(power.upper()))
    if value < 1:
        raise KitError(f"{text!r} is not a size.", "Write a number and a unit: 12GB, 12GiB or 800MB.")
    return value


def shown(size: float) -> str:
    """`10.3 GB`, `830 MB`: decimal units, as `parse_size` reads them back."""
    for power, name in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if size >= 1000**power * 0.9995:
            value = size / 1000**power
            return f"{value:.0f} {name}" if value >= 99.95 or power < 3 else f"{value:.1f} {name}"
    return f"{size:.0f} B"
