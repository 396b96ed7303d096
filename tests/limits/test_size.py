"""Sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import KitError
from kit.limits.size import parse_size, shown


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("12GB", 12 * 10**9),
        ("12GiB", 12 * 2**30),
        ("800 mb", 800 * 10**6),
        ("1.5TB", 15 * 10**11),
        ("7B", 7),
        (" 2 KiB ", 2048),
    ],
)
def test_known_sizes(text: str, size: int):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "12", "GB", "-1GB", "12XB", "1,5GB", "0GB", "0.1B", "12 GB 3", "nan GB"])
def test_what_is_no_size_is_said_with_an_example(text: str):
    with pytest.raises(KitError, match="12GiB") as caught:
        parse_size(text)
    assert repr(text) in caught.value.what


@given(st.integers(1, 10**15))
def test_what_is_shown_can_be_read_back_to_within_a_digit(size: int):
    assert parse_size(shown(size)) == pytest.approx(size, rel=0.35)
