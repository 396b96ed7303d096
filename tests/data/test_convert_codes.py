"""Codes of texts and of products without any."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from kit.challenge import CODES
from kit.data.convert.codes import hashed_codes, text_codes


def test_close_texts_share_codes() -> None:
    """Texts of one family agree in more places than texts of different families."""
    things, colours = (
        ["mug", "lantern", "cushion cover", "cake tin"],
        ["red", "blue", "white", "green", "pink", "black"],
    )
    sizes = [
        "small",
        "medium",
        "large",
        "extra large",
        "tiny",
        "huge",
        "boxed",
        "striped",
        "spotted",
        "vintage",
        "retro",
        "plain",
    ]
    texts = [f"{size} {colour} {thing}" for thing in things for colour in colours for size in sizes]
    codes = text_codes(texts)
    assert codes.shape == (len(texts), CODES)
    assert codes.dtype == np.uint8
    family = np.repeat(np.arange(len(things) * len(colours)), len(sizes))
    agree = (codes[:, None, :] == codes[None, :, :]).mean(axis=2)
    same = family[:, None] == family[None, :]
    np.fill_diagonal(same, False)
    apart = family[:, None] // len(colours) != family[None, :] // len(colours)
    assert agree[same].mean() > 3 * agree[apart].mean()
    assert (text_codes(texts) == codes).all()


def test_codes_are_the_same_on_any_number_of_cores() -> None:
    """Also the first of a process, whose libraries are loaded only then."""
    words = "red blue white green pink black mug lantern cushion tin"
    script = (
        "from kit.data.convert.codes import text_codes; import itertools;"
        f"print(text_codes([' '.join(three) for three in itertools.permutations({words!r}.split(), 3)]).tobytes().hex())"
    )
    many = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "3")
    one = dict.fromkeys(many, "1")
    found = {
        subprocess.run([sys.executable, "-c", script], env=os.environ | env, capture_output=True, check=True).stdout
        for env in (one, many)
    }
    assert len(found) == 1


@pytest.mark.parametrize("texts", [[], ["one"], ["a", "b"], ["same words", "words same", "?"]])
def test_few_texts_can_be_coded(texts: list[str]) -> None:
    codes = text_codes(texts)
    assert codes.shape == (len(texts), CODES)
    assert len(np.unique(codes, axis=0)) == len(texts)


def test_hashed_codes_tell_category_price_and_sku_apart() -> None:
    n = 20_000
    rng = np.random.default_rng(1)
    category, price, sku = rng.integers(0, 50, n), rng.integers(0, 100, n), np.arange(n)
    codes = hashed_codes(category, price, sku)
    assert len(np.unique(codes[:, :8], axis=0)) == 50
    assert len(np.unique(codes[:, 8:12], axis=0)) == 100
    assert len(np.unique(codes[:, 12:], axis=0)) == n
    assert abs(codes[:, 12:].mean() - 127.5) < 2
