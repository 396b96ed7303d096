"""Code vectors of the synthetic shop: a product quantiser, and the text in which the raw files hold its codes."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from kit.challenge import CODE_VALUES, CODES

LATENT: Final = 2 * CODES
"""Width of a product's latent vector: two numbers per code."""
GRID: Final = 16
"""Each pair of numbers falls into one of GRID x GRID = CODE_VALUES tiles of equal probability."""
BREAK_AT: Final = 12
"""Where printed vectors sometimes break their line: after this many codes."""


class Quantiser:
    """Latent vectors to 16 codes in 0..255, one per pair of coordinates; the numbering of tiles carries no order."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.names = np.stack([rng.permutation(CODE_VALUES) for _ in range(CODES)]).astype(np.uint8)

    def __call__(self, latent: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(n, LATENT) standard-normal-like coordinates to (n, CODES) codes."""
        level = np.minimum((ndtr(latent) * GRID).astype(np.int64), GRID - 1).reshape(-1, CODES, 2)
        tile = level[:, :, 0] * GRID + level[:, :, 1]
        codes: NDArray[np.uint8] = self.names[np.arange(CODES), tile]
        return codes


def as_text(codes: NDArray[np.uint8], broken: NDArray[np.bool_]) -> NDArray[np.bytes_]:
    """(n, 16) codes as printed arrays, `[ 21  21 13 …]`: padded to three places, `broken` rows over two lines."""
    digits = np.array([list(f"{value:3d}".encode()) for value in range(CODE_VALUES)], dtype=np.uint8)
    width = 4 * CODES + 1
    text = np.full((len(codes), width), ord(" "), dtype=np.uint8)
    text[:, 0], text[:, -1] = ord("["), ord("]")
    for place in range(CODES):
        text[:, 1 + 4 * place : 4 + 4 * place] = digits[codes[:, place]]
    text[broken, 4 * BREAK_AT] = ord("\n")
    return text.view(f"S{width}").ravel()
