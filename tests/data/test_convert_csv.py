"""The csv reader: every record of a file is a row, or is named with its line, cause and remedy."""

from __future__ import annotations

import codecs
import gzip
import re
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError
from shop_files import HEADER, rows, sources

from kit.data.convert import csv_exact, dialect, read_csv, stream
from kit.data.convert.dialect import Dialect, count_records, regular_records
from kit.data.convert.mapping import SourceFile
from kit.errors import KitError

STRAY = [("1", "a", "t1"), ("2", "b", "t2"), ("3", "c", "t3"), ("4", "d", "t4"), ("5", "e", "t5")]


def noted(*notes: str, end: str = "\n") -> str:
    """A log of five rows whose unused column holds the notes."""
    return (
        HEADER.strip() + end + "".join(f"{u},{p},{note},{t}{end}" for (u, p, t), note in zip(STRAY, notes, strict=True))
    )


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        (noted("ok", '15" tv', "ok", '17" tv', "ok"), ""),
        (noted("ok", '15"', "ok", '17"', "ok"), ""),
        (noted("ok", '15" tv', "ok", "ok", "ok"), ""),
        (noted("ok", '"15 tv', "ok", 'tv 17"', "ok"), 'quote = ""'),
        (noted("ok", '"ok', "ok", "ok", "ok"), 'quote = ""'),
        (noted("ok", '"a,b"', '""', '"he said ""no"", twice"', '"a\nb"'), ""),
        (noted("ok", "'a,b'", "a''b", "'it''s'", "it's"), 'quote = "\'"'),
        (noted("a", "b", "c", "d", "e", end="\r\n"), ""),
        (noted("a", "b", "c", "d", "e", end="\r"), ""),
        (noted("a", '"x, y"', "c", "d", "e", end="\r\n"), ""),
        (noted("a", '"x\r\ny"', "c", "d", "e", end="\r\n"), ""),
        (noted("a", "b", "c", "d", "e").rstrip("\n"), ""),
        (noted("a", "b", "c", "d", '"e').replace("t5\n", 't5"').replace('"e,t5"', '"e,",t5'), ""),
        (noted("a", "b", "c", "d", "e").replace("t2\n", "t2\r\n").replace("t4\n", "t4\r"), ""),
        ("\n\n" + noted("a", "b", "c", "d", "e").replace("\n", "\n\n") + "  \n", ""),
        ("\ufeff" + noted("a", "b", "c", "d", "e"), ""),
        (noted("a", "b", "c", "d", "e").replace(",", ";"), "separator = ';'"),
        (noted("é", "ü", "\u2028", "\u0085", "x\x0cy"), ""),
        (noted("# no comment", "\\", "NULL", " ", "\t"), ""),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_five_rows_are_five_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, settings: str, packed: bool
) -> None:
    """Whole, and in chunks of seven bytes, which end amid fields, line ends and characters."""
    files = {"log.csv.gz": gzip.compress(data.encode())} if packed else {"log.csv": data}
    whole = sources(tmp_path, files, settings)
    assert rows(whole) == STRAY
    assert [(count.records, count.read, count.rows) for count in whole.counts("log")] == [(5, 5, 5)]
    monkeypatch.setattr(stream, "CHUNK", 7)
    assert rows(sources(tmp_path, files, settings, work="again")) == STRAY


def test_one_surprise_costs_its_piece_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block with surprises is cut up: what comes of it is the same for any size of the pieces."""
    notes = {3: '15" tv', 40: '"a\nb"', 77: "é"}
    data = HEADER + "".join(f"{n},p{n},{notes.get(n, 'ok')},t\n" for n in range(100))
    slow = []
    parse = csv_exact.ExactReader.parse
    monkeypatch.setattr(
        csv_exact.ExactReader, "parse", lambda self, text, **how: slow.append(text) or parse(self, text, **how)
    )
    for piece in (64, 200, 1000, 1 << 20):
        slow.clear()
        monkeypatch.setattr(read_csv, "PIECE", piece)
        opened = sources(tmp_path, {"log.csv": data}, work=f"work{piece}")
        assert rows(opened) == [(str(n), f"p{n}", "t") for n in range(100)]
        assert [opened.line_of("log", 0, record) for record in (1, 41, 42, 100)] == [2, 42, 44, 102]
        assert piece > 200 or 0 < sum(map(len, slow)) < len(data) / 2


def test_cells_stay_as_they_are_and_empty_ones_are_null(tmp_path: Path) -> None:
    data = 'user,product,note,when\n 1 ,"a ""b""\nc",x,\n"",007,"",1e5\n'
    assert rows(sources(tmp_path, {"log.csv": data})) == [(" 1 ", 'a "b"\nc', None), (None, "007", "1e5")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            noted("ok", '"15 tv', "ok", 'tv 17"', "ok"),
            'line 3 cannot be read: a quoted field runs over 3 lines.*`quote = ""`',
        ),
        (noted("ok", "ok", "ok", "ok", '"ok'), 'line 6 cannot be read: a quoted field is never closed.*`quote = ""`'),
        (
            noted("ok", '"15" tv', "ok", "ok", "ok"),
            "line 3 cannot be read: text follows the end of a quoted field.*`quote",
        ),
        (noted("a", "b,c", "d", "e", "f"), "line 3 cannot be read: 5 fields, the header has 4.*`ragged"),
        (noted("a", "b,c", "d", "e", "f").replace("d,", "", 1), "line 3 .*nor can 1 more .line 4.: 5 fields"),
        (noted("a", "b\0", "d", "e", "f"), "line 3 cannot be read: a NUL byte is in it.*utf-16"),
        (noted("a", "b", "c", "d", "e") * 2, "line 7 cannot be read: the header comes again. .*joined"),
        (noted("a", '"\n\n",b', "d", "e", "f"), "line 3 cannot be read: 5 fields"),
    ],
)
def test_what_cannot_be_read_is_named_with_line_cause_and_setting(tmp_path: Path, data: str, message: str) -> None:
    with pytest.raises(KitError) as caught:
        sources(tmp_path, {"a.csv": noted("1", "2", "3", "4", "5"), "b.csv": data})
    assert re.search(r"^b\.csv " + message + '.*unreadable = "leave out"', str(caught.value)), str(caught.value)


def test_text_of_another_encoding_names_the_line_and_is_read_by_the_setting(tmp_path: Path) -> None:
    data = noted("x", "café", "Straße", "x", "x").encode("cp1252")
    with pytest.raises(KitError, match=r"log.csv line 3 .*line 4.*byte 0xE9 is not UTF-8.*cp1252"):
        sources(tmp_path, {"log.csv": data})
    assert rows(sources(tmp_path, {"log.csv": data}, 'encoding = "cp1252"', work="two")) == STRAY


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1"])
def test_encodings_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    monkeypatch.setattr(stream, "CHUNK", 5)
    data = noted("é", '15" tv', "ß", '17"', '"a\nb"').encode(encoding)
    assert rows(sources(tmp_path, {"log.csv": data}, f'encoding = "{encoding}"')) == STRAY


def test_bytes_that_the_encoding_does_not_know_are_named(tmp_path: Path) -> None:
    data = HEADER.encode() + b"1,a,x,t\n2,b,\x81,t\n"
    with pytest.raises(KitError, match=r"log.csv line 3 is not cp1252: byte 0x81"):
        sources(tmp_path, {"log.csv": data}, 'encoding = "cp1252"')


def test_utf_16_is_told_its_setting(tmp_path: Path) -> None:
    data = noted("a", "b", "c", "d", "e").encode("utf-16-le")
    with pytest.raises(KitError, match=r'byte order mark of UTF-16.*encoding = "utf-16"'):
        sources(tmp_path, {"log.csv": codecs.BOM_UTF16_LE + data})


def test_unreadable_records_are_left_out_where_the_mapping_says_so_and_counted(tmp_path: Path) -> None:
    data = noted("a", "b,c", "d\xff", "e", "f").encode("latin-1").replace(b"4,d,", b"4,d,\0")
    opened = sources(tmp_path, {"log.csv": data}, 'unreadable = "leave out"')
    assert opened["log"].collect().rows() == [("1", "a", "t1", 0, 1), ("5", "e", "t5", 0, 5)]
    (count,) = opened.counts("log")
    assert (count.records, count.read, count.unreadable_total) == (5, 2, 3)
    assert [(bad.line, bad.why.split(" ")[0]) for bad in count.unreadable] == [(3, "5"), (4, "byte"), (5, "a")]
    assert opened.place("log", 0, 5) == "log.csv line 6"


def test_many_unreadable_records_are_counted_and_twenty_kept(tmp_path: Path) -> None:
    data = HEADER + "1,a,x,t\n" + "short\n" * 3000
    (count,) = sources(tmp_path, {"log.csv": data}, 'unreadable = "leave out"').counts("log")
    assert (count.records, count.unreadable_total, len(count.unreadable)) == (3001, 3000, 20)
    with pytest.raises(KitError, match=r"line 3 cannot be read, nor can at least [\d,]+ more"):
        sources(tmp_path, {"log.csv": data}, work="two")


def test_ragged_rows_are_filled_where_the_mapping_says_so(tmp_path: Path) -> None:
    data = HEADER + "1,a\n2,b,x,t\n3,c,x,t,\n"
    assert rows(sources(tmp_path, {"log.csv": data}, 'ragged = "fill"')) == [
        ("1", "a", None),
        ("2", "b", "t"),
        ("3", "c", "t"),
    ]
    with pytest.raises(KitError, match="line 5 cannot be read: 5 fields"):
        sources(tmp_path, {"log.csv": data + "4,d,x,t,more\n"}, 'ragged = "fill"', work="two")


def test_fields_over_lines_that_look_like_rows_are_believed_where_the_mapping_says_so(tmp_path: Path) -> None:
    data = HEADER + '1,a,"x\n9,y,z,t\n",t1\n'
    with pytest.raises(KitError, match="multiline = true"):
        sources(tmp_path, {"log.csv": data})
    assert rows(sources(tmp_path, {"log.csv": data}, "multiline = true", work="two")) == [("1", "a", "t1")]


def test_columns_are_found_by_name_in_every_file(tmp_path: Path) -> None:
    files = {"a.csv": HEADER + "1,a,x,t1\n", "b.csv": "when,extra,user,product\nt2,?,2,b\n"}
    opened = sources(tmp_path, files)
    assert opened["log"].collect().rows() == [("1", "a", "t1", 0, 1), ("2", "b", "t2", 1, 1)]
    assert opened.place("log", 1, 1) == "b.csv line 2"
    with pytest.raises(KitError, match=r"client wants column 'user' of b\.csv, which has \['when', 'product'\]"):
        sources(tmp_path, {"b.csv": "when,product\nt2,b\n"}, work="two")


def test_a_column_that_is_there_twice_is_refused_if_it_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"several of that name .columns 1 and 3.*Rename"):
        sources(tmp_path, {"log.csv": "user,product,user,when\n1,a,2,t\n"})
    twice = {"log.csv": "user,product,x,x,when\n1,a,2,3,t\n"}
    assert rows(sources(tmp_path, twice, work="two")) == [("1", "a", "t")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "log.csv is empty .0 bytes."),
        ("\n \n", "nothing but blank lines"),
        ('"user,product', "header of log.csv .line 1. cannot be read"),
        ("1,a,x,t\n2,b,x,t\n", "wants column 'user'.*Or has it no header. Then write one"),
        (
            HEADER.replace("note", "caf\xe9").encode("latin-1"),
            "header of log.csv .line 1. cannot be read: byte 0xE9.*encoding",
        ),
        (HEADER.encode("utf-16-le"), "header of log.csv .line 1. cannot be read: a NUL byte.*utf-16"),
        (HEADER.replace(",", ";") + "1;a;x;t\n", "Say `separator = ';'`"),
    ],
)
def test_a_file_without_rows_or_header_is_refused(tmp_path: Path, data: str | bytes, message: str) -> None:
    with pytest.raises(KitError, match=message):
        sources(tmp_path, {"log.csv": data})


def test_a_header_without_rows_is_no_row(tmp_path: Path) -> None:
    opened = sources(tmp_path, {"a.csv": HEADER, "b.csv": HEADER.strip(), "c.csv": HEADER})
    assert rows(opened) == []
    assert [count.records for count in opened.counts("log")] == [0, 0, 0]


def test_an_open_quote_does_not_take_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not closed for long, reading goes on with the next line."""
    for module in (csv_exact, dialect):
        monkeypatch.setattr(module, "LONGEST", 200)
    data = HEADER + '1,a,"x,t\n' + "2,b,y,t\n" * 100
    for chunk in (64, 1 << 20):
        monkeypatch.setattr(stream, "CHUNK", chunk)
        opened = sources(tmp_path, {"log.csv": data}, 'unreadable = "leave out"', work=f"work{chunk}")
        (count,) = opened.counts("log")
        assert (count.records, count.read, [bad.line for bad in count.unreadable]) == (101, 100, [2])


@pytest.mark.parametrize("cut", [4, 12, 40])
def test_a_gzip_file_that_is_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    data = gzip.compress("".join([HEADER, *(f"{i},{i * i},x,t\n" for i in range(500))]).encode())
    with pytest.raises(KitError, match=r"log.csv.gz is a gzip file that is cut short or damaged"):
        sources(tmp_path, {"log.csv.gz": data[:-cut]})


def test_a_gzip_file_of_several_members_is_read_whole(tmp_path: Path) -> None:
    data = gzip.compress((HEADER + "1,a,x,t1\n").encode()) + gzip.compress(b"2,b,x,t2\n")
    assert rows(sources(tmp_path, {"log.csv.gz": data})) == [("1", "a", "t1"), ("2", "b", "t2")]


def test_zstd_is_read(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    frame = pl.DataFrame({"user": ["1", "2"], "product": ["a", 'b "x"'], "note": ["", "é"], "when": ["t1", "t2"]})
    frame.lazy().sink_csv(tmp_path / "src" / "log.csv.zst", compression="zstd")
    assert rows(sources(tmp_path, {})) == [("1", "a", "t1"), ("2", 'b "x"', "t2")]
    whole = (tmp_path / "src" / "log.csv.zst").read_bytes()
    with pytest.raises(KitError, match="zstd file that is cut short or damaged"):
        sources(tmp_path, {"log.csv.zst": whole[:-6]}, work="two")


@pytest.mark.parametrize(
    "settings",
    [
        {"encoding": "utf-9"},
        {"encoding": "rot13"},
        {"quote": '""'},
        {"quote": ","},
        {"separator": "é"},
        {"separator": "\n"},
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        SourceFile.model_validate({"path": "x", **settings})


# --- the two counts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "count"),
    [
        (b"a,b\nc,d\n", 2),
        (b'"a,1",b\n"c""d",\n', 2),
        (b"a,b\nc\n", None),
        (b"a,b,c\nd\n", None),  # as many fields as two rows have
        (b"a,b\n\nc,d\n", None),
        (b'a,b"\nc,"d\n', None),
        (b'a,"b\nc",d\n', None),
        (b'a,"b" \n', None),
        (b"a,\xff\n", None),
        (b"a,\0\n", None),
        (b"a,b\rc,d\n", None),
    ],
)
def test_a_block_is_regular_or_it_is_not(block: bytes, count: int | None) -> None:
    assert regular_records(block, Dialect(",", '"', 2)) == count


@pytest.mark.parametrize(
    ("text", "records", "blank"),
    [
        ("a,b\nc,d", 2, 0),
        ("a,b\r\n\r\nc,d\r\n", 2, 1),
        ("a,b\rc,d\r", 2, 0),
        ('a,"b\n\nc"\n', 1, 0),
        ('a,15" b\nc,17" d\n', 2, 0),
        ('a,"b\nc,d\n', 2, 0),
        ('a,"b" c\nd,e\n', 2, 0),
        ("a,b\n  \n,\n", 2, 1),
    ],
)
def test_records_are_counted_without_a_reader(text: str, records: int, blank: int) -> None:
    assert count_records(text, Dialect(",", '"', 2)) == (records, blank)


def test_a_count_that_the_rows_do_not_meet_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that drops a row is found out: Polars' is replaced by the exact one, the exact one is refused."""
    whole = pl.read_csv
    monkeypatch.setattr(pl, "read_csv", lambda *args, **kwargs: whole(*args, **kwargs).head(-1))
    data = noted("a", "b", "c", "d", "e")
    assert rows(sources(tmp_path, {"log.csv": data})) == STRAY
    monkeypatch.setattr("kit.data.convert.read_csv.count_records", lambda text, dialect: (6, 0))
    with pytest.raises(KitError, match=r"log.csv holds 6 records up to line 6, but 5 were read"):
        sources(tmp_path, {"log.csv": data}, work="two")
