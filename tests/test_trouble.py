"""Errors in words: what the system and readers raise, with a remedy; a mistake of our own keeps its traceback in a file."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kit.blocks.base import BLOCKS
from kit.errors import KitError
from kit.submission.recipes import check_recipe
from kit.submission.reference import _rows
from kit.trouble import sentence, unforeseen


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "The disk is full: {path} could not be written ("),
        (errno.EDQUOT, "The disk quota is used up: {path}"),
        (errno.EROFS, "{path} cannot be written: the file system at / is read-only."),
        (errno.EACCES, "{path} may not be written or entered (Permission denied)."),
        (errno.ENOENT, "{path} is missing."),
        (errno.ENOTDIR, "{path} is no folder, where one is needed."),
        (errno.EISDIR, "{path} is a folder, where a file is needed."),
        (errno.ELOOP, "{path} is a link that leads back to itself."),
        (errno.EMFILE, "Too many files are open at once (the limit is "),
        (errno.EIO, "The disk failed on {path} (Input/output error)."),
        (errno.ESTALE, "{path}: the system says: Stale file handle."),
    ],
)
def test_errors_of_the_system(number: int, words: str):
    path = "/nowhere/to/be/seen.npy"
    told = sentence(OSError(number, os.strerror(number), path))
    assert told is not None and told.what.startswith(words.format(path=path)) and told.remedy


def test_a_name_that_is_too_long(tmp_path: Path):
    with pytest.raises(OSError) as caught:
        (tmp_path / ("x" * 300)).write_text("")
    told = sentence(caught.value)
    assert told is not None and told.what.endswith("xxx… is too long for a name (300 letters).")


READERS: list[tuple[str, Callable[[Path], object]]] = [
    ("rubbish.json", lambda path: json.loads(path.read_bytes().decode("latin-1"))),
    ("rubbish.toml", lambda path: tomllib.loads(path.read_bytes().decode("latin-1"))),
    ("rubbish.npy", np.load),
    ("rubbish.parquet", pl.read_parquet),
    ("rubbish.pickle", lambda path: pickle.loads(path.read_bytes())),
    ("rubbish.npz", zipfile.ZipFile),
    ("rubbish.txt", lambda path: path.read_text(encoding="utf-8")),
]


@pytest.mark.parametrize(("name", "read"), READERS)
def test_what_every_reader_says_of_rubbish_is_a_sentence(tmp_path: Path, name: str, read: Callable[[Path], object]):
    (tmp_path / name).write_bytes(b"\x93\xff\x00 rubbish \x80")
    with pytest.raises(Exception) as caught:
        read(tmp_path / name)
    assert not isinstance(caught.value, KitError)
    told = sentence(caught.value)
    assert told is not None and told.what and told.remedy


def test_a_panic_of_polars_is_a_sentence():
    told = sentence(pl.exceptions.PanicException("assertion failed: left == right"))
    assert told is not None and "assertion failed" in told.what


def test_the_disk_comes_first_also_where_the_clean_up_fails_in_turn():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/a/b")
        finally:
            raise FileNotFoundError(errno.ENOENT, "No such file", "/c")
    except OSError as error:
        told = sentence(error)
    assert told is not None and told.what.startswith("The disk is full: /a/b")


def test_a_mistake_of_our_own_keeps_its_traceback_in_a_file(tmp_path: Path):
    try:
        {}["nothing"]
    except KeyError as error:
        assert sentence(error) is None
        told = unforeseen(error, tmp_path / "errors")
    kept = next((tmp_path / "errors").iterdir())
    assert str(kept) in told.remedy and "KeyError: 'nothing'" in told.what
    assert "Traceback (most recent call last)" in kept.read_text()


ROW = re.compile(r"^\| `(?P<key>[^`]+)` \| (?P<type>.*?) \| `?(?P<default>.*?)`? \| (?:\((?P<kinds>[a-z_, -]+)\) )?")
NO_USE = {
    ("combined", "network.encoder.anchor", "true"),
    *((block, "train.patience", "1") for block in ("gcn", "sequence", "twhin")),
    ("combined", "graph.train.patience", "1"),
    *(
        (block, key, f'"{kind}"')
        for block, key in (("gcn", "objective.correction"), ("combined", "network.heads.contrast.loss.correction"))
        for kind in ("logq", "negatives", "refined")
    ),
}
"""Settings of shared parts for which these blocks say why they have no use."""
TOGETHER = {
    (block, f"{encoder}.{key}", value)
    for block, encoder in (("combined", "network.encoder"), ("sequence", "encoder"))
    for key, value in (("fine", "17"), ("coarse", "65"))
}
"""Of `kuaiformer`: the coarse group is a multiple of the fine one, so neither can be set to these alone."""


def values_of(typed: str, default: str) -> list[str]:
    """A setting's default, and values beside it that its type allows, as TOML."""
    if typed.startswith("one of "):
        return [f'"{word}"' for word in typed.removeprefix("one of ").split(", ")]
    if default in ("true", "false"):
        return ["true", "false"]
    if default == "none":
        return ["1"] if typed.startswith("int") else []
    if re.fullmatch(r"\d+", default) and "≤" not in typed:
        return [default, str(int(default) + 1)]
    return [default]


def test_every_documented_setting_can_be_set(tmp_path: Path):
    """Each setting of each kind of block, at its default and at other values that its type allows, passes the check."""
    recipe, count, refused = tmp_path / "one.toml", 0, set()
    for kind, cls in BLOCKS.loaded().items():
        uses, other = ('uses = ["b"]\n', '[blocks.b]\nkind = "stats"\n') if cls.takes else ("", "")
        for found in filter(None, (ROW.match(row) for row in _rows(cls.Settings, None))):
            key, parts = found["key"], found["key"].split(".")
            owner = ".".join([*parts[:-1], "kind"])
            for value in values_of(found["type"], found["default"]):
                of = f'{owner} = "{found["kinds"].split(", ")[0]}"\n' if found["kinds"] else ""
                block = f'kind = "{kind}"\n{uses}{of}{key} = {value}\n'
                recipe.write_text(f'name = "one"\n[blocks.a]\n{block}{other}', encoding="utf-8")
                findings = check_recipe(recipe)
                refused |= {(kind, key, value)} if findings else set()
                count += 1
    assert refused == NO_USE | TOGETHER
    assert count > 200
