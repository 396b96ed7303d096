"""What can be fetched: the published archives, their sizes and checksums, and the licence they come under."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BASE_URL: Final = "https://data.recsys.synerise.com/dataset/"
LICENCE_NAME: Final = "CC BY-NC 4.0"
LICENCE: Final = """\
The data are © Synerise SA, published for the ACM RecSys Challenge 2025 under the licence
Creative Commons Attribution-NonCommercial 4.0 International (CC BY-NC 4.0):
https://creativecommons.org/licenses/by-nc/4.0/

In short, and not in place of the licence: you may copy, share and adapt them if you name the source and
say what you changed; you may not use them for commercial purposes; they come without warranty.
Dataset page: https://recsys.synerise.com/data-set
"""


@dataclass(frozen=True)
class Archive:
    """A published .tar.gz.

    Attributes:
        name: file name under the base URL.
        holds: one line for the user.
        size: bytes; None if unknown.
        sha256: 64 hex digits; None if the publisher's is unknown (then size and the archive's own checksums decide).
    """

    name: str
    holds: str
    size: int | None
    sha256: str | None = None


ARCHIVES: Final = {
    "challenge": Archive(
        "challenge_dataset.tar.gz",
        "the final phase's events with the two official target windows",
        1_441_649_865,
    ),
    "raw": Archive(
        "synerise_dataset.tar.gz",
        "all events in one piece, to be split by `kit data split`",
        2_062_884_710,
        "e90b8fded8bc7a87b8c51ced7d5eead75f6deb09852ea701f5f22934e78b66e7",
    ),
}
