"""Which files a source takes in: none twice, no leftovers, and what is no such file is refused by name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import pytest
from shop_files import HEADER, rows, sources

from kit.errors import KitError

OCTOBER = HEADER + "1,a,x,t1\n"
NOVEMBER = HEADER + "2,b,x,t2\n"


def test_hidden_files_and_leftovers_are_passed_over_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = ["._10.csv", ".hidden.csv", "12.csv.part", "12.csv.tmp", "12.csv.crdownload", "12.csv~", "12.csv.bak"]
    opened = sources(tmp_path, {"10.csv": OCTOBER, "11.csv": NOVEMBER, **dict.fromkeys(left, "no csv\x00")})
    assert [path.name for path in opened.paths("log")] == ["10.csv", "11.csv"]
    assert rows(opened) == [("1", "a", "t1"), ("2", "b", "t2")]
    said = capsys.readouterr().err
    assert "passed over" in said
    assert ".hidden.csv" in said


def test_a_leftover_that_is_named_is_read(tmp_path: Path) -> None:
    assert rows(sources(tmp_path, {"log.csv.bak": OCTOBER}, path="log.csv.bak")) == [("1", "a", "t1")]


def test_only_leftovers_are_nothing(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"leftovers such as log\.csv\.part are passed over"):
        sources(tmp_path, {"log.csv.part": OCTOBER})


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"10.csv": OCTOBER, "10.csv.gz": gzip.compress(OCTOBER.encode())}, ("10.csv", "10.csv.gz", "by their names")),
        ({"10.csv": OCTOBER, "10.csv.gz": gzip.compress(b"else")}, ("10.csv", "10.csv.gz", "by their names")),
        ({"10.csv": OCTOBER, "10.csv.zip": b"PK\x03\x04"}, ("10.csv", "10.csv.zip", "by their names")),
        ({"10.csv": OCTOBER, "11.csv": NOVEMBER, "10 (1).csv": OCTOBER}, ("10 (1).csv", "10.csv", "the same bytes")),
        ({"10.csv": OCTOBER, "all.csv.gz": gzip.compress(OCTOBER.encode())}, ("10.csv", "all.csv.gz", "the same text")),
        ({"10.csv": OCTOBER, "11.csv": "\ufeff" + OCTOBER}, ("10.csv", "11.csv", "the same text")),
    ],
)
def test_a_file_and_its_copy_are_refused(tmp_path: Path, files: dict[str, str | bytes], named: tuple[str, ...]) -> None:
    with pytest.raises(KitError, match="every row would count twice") as caught:
        sources(tmp_path, files)
    assert all(word in str(caught.value) for word in named), str(caught.value)


def test_files_of_two_formats_are_no_one_source(tmp_path: Path) -> None:
    files = {"a.csv": OCTOBER, "b.jsonl": '{"user":1}\n'}
    with pytest.raises(KitError, match=r"takes in a\.csv .csv. and b\.jsonl .jsonl."):
        sources(tmp_path, files, path="*.*")


def zipped() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("log.csv", OCTOBER)
    return held.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("b.csv.bz2", bz2.compress(OCTOBER.encode()), r"b\.csv\.bz2 is a bzip2 file.*bunzip2 b\.csv\.bz2"),
        ("b.csv.xz", lzma.compress(OCTOBER.encode()), r"b\.csv\.xz is a xz file.*unxz"),
        ("b.csv.zip", zipped(), r"b\.csv\.zip is a zip file.*unzip"),
        ("b.csv", zipped(), r"b\.csv is a zip file.*unzip"),
        ("b.csv", b"PAR1....PAR1", r"b\.csv is read as csv, but it is a parquet file.*format = 'parquet'"),
        ("b.csv", b"SQLite format 3\0", r"b\.csv is read as csv, but it is a SQLite file"),
    ],
)
def test_what_is_no_text_is_named_with_the_remedy(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    """The offender is named, not the first file of the pattern."""
    with pytest.raises(KitError, match=message):
        sources(tmp_path, {"a.csv": OCTOBER, name: data})


def test_gzip_is_known_by_its_bytes(tmp_path: Path) -> None:
    assert rows(sources(tmp_path, {"log.csv": gzip.compress(OCTOBER.encode())})) == [("1", "a", "t1")]


def test_files_of_one_name_in_several_folders_are_told_apart(tmp_path: Path) -> None:
    files = {"a/log.csv": OCTOBER, "b/log.csv": NOVEMBER}
    opened = sources(tmp_path, files, path="*/log.csv")
    assert opened.place("log", 1, 1) == "b/log.csv line 2"
