"""Random small logs with nasties in every format: what `convert` keeps is what was written, row by row.

KIT_ORACLE_EXAMPLES sets how many logs are tried (40 by default).
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from log_oracle import BUY, VIEW, Broken, Event, File, Log, account_given, accounts, converted, expected

from kit.data.convert import convert, stream
from kit.errors import KitError

NUMBERS = ["1", "2", "17850", "123456789012"]
WORDS = ["A-1", "a b", "007", "NULL", "é", '15"', "x,y", "o'clock", "u;v", "-5", "0"]
COLUMNS = ["user", "product", "when", "did", "note"]
NOTE = st.one_of(
    st.sampled_from(["", '15" tv', '17" tv', '"', '""', "'", "ok", " ", "#", "\\", "a\nb", "\r\n", "\t|;,"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6),
)


def events(ids: list[str], *, padded: bool) -> st.SearchStrategy[Event]:
    own = st.sampled_from([None, *ids, *ids])
    return st.builds(
        Event,
        client=own,
        item=own,
        seconds=st.integers(0, 10**7),
        action=st.sampled_from([BUY, BUY, VIEW]),
        note=NOTE,
        pad=st.sampled_from(["", "", " "]) if padded else st.just(""),
        pointed=st.booleans(),
        quoted=st.booleans(),
    )


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Any log that its mapping can read."""
    form = draw(st.sampled_from(["csv", "csv", "jsonl", "parquet"]))
    encoding = "utf-8" if form == "parquet" else draw(st.sampled_from(["utf-8", "utf-8", "cp1252", "utf-16"]))
    numeric = draw(st.booleans())
    line = events(NUMBERS if numeric else NUMBERS + WORDS, padded=not numeric)
    if form != "parquet" and draw(st.booleans()):
        line = st.one_of(line, line, line, st.builds(Broken, st.integers(0, 9)))
    types = ["Int64", "Float64", "UInt64"] if numeric else ["String", "Categorical"]
    file = st.builds(
        File,
        lines=st.lists(line, min_size=1, max_size=6).map(tuple),
        order=st.permutations(COLUMNS).flatmap(lambda order: st.sampled_from([tuple(order), (*order, "more")])),
        end=st.sampled_from(["\n", "\r\n", "\r"]),
        last_end=st.booleans(),
        blank=st.booleans(),
        mark=st.booleans(),
        packed=st.booleans(),
        numbers=st.sampled_from(types),
        unit=st.sampled_from(["ms", "us", "ns"]),
    )
    stamp = st.just("datetime") if form == "parquet" else st.sampled_from(["text", "text", "s", "ms", "us"])
    files = draw(st.lists(file, min_size=1, max_size=3))
    opening = draw(st.sampled_from([BUY, BUY, BUY, VIEW]))
    return Log(
        form,
        tuple(replace(each, lines=(_opening(at, opening), *each.lines)) for at, each in enumerate(files)),
        separator=draw(st.sampled_from([",", ";", "\t", "|"])),
        quote=draw(st.sampled_from(['"', '"', "'", ""])),
        encoding=encoding,
        stamp=draw(stamp),
        leftovers=draw(st.booleans()),
    )


def _opening(at: int, action: str) -> Event:
    """A row that sets the file apart: files of equal content are refused."""
    return Event("2", "1", at, action, note=f"file {at}")


@settings(
    max_examples=int(os.environ.get("KIT_ORACLE_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(log=logs(), chunk=st.sampled_from([11, 64, 1 << 20]))
def test_what_is_kept_is_what_was_written(log: Log, chunk: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "CHUNK", chunk)
        root = Path(folder)
        (root / "src").mkdir()
        log.write(root / "src")
        (root / "m.toml").write_text(log.mapping(), encoding="utf-8")
        truth = expected(log)
        event(f"{log.form}, {len(truth)} purchases")
        if not truth:
            with pytest.raises(KitError):
                convert(str(root / "m.toml"), root / "src", root / "out")
            return
        convert(str(root / "m.toml"), root / "src", root / "out")
        assert converted(root / "out") == truth
        assert account_given(root / "out") == accounts(log)
