"""The benchmark that kills submissions: what it kills, and when."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

from killed import START, Kill, call

SPEAKS = "import time\nfor word in ('one', 'two'):\n    print(word, flush=True)\n    time.sleep({})"


def test_a_call_is_killed_after_the_line_that_was_asked_for(tmp_path: Path):
    seen = call([sys.executable, "-c", SPEAKS.format(60)], Kill.of("^on.$+0.3"), tmp_path, 1)
    assert seen.code == -signal.SIGKILL
    assert [line for _, line in seen.lines] == ["one"]
    assert 0.3 <= seen.seconds < 60
    assert seen.peak > 2**20


def test_a_call_that_says_something_else_ends_by_itself(tmp_path: Path):
    seen = call([sys.executable, "-c", SPEAKS.format(0)], Kill.of("three+0"), tmp_path, 1)
    assert (seen.code, [line for _, line in seen.lines]) == (0, ["one", "two"])


def test_a_kill_may_count_from_the_call(tmp_path: Path):
    seen = call([sys.executable, "-c", SPEAKS.format(60)], Kill.of(f"{START}+0.5"), tmp_path, 1)
    assert seen.code == -signal.SIGKILL


@pytest.mark.parametrize("text", ["start", "start+soon", "back\\+5"])
def test_what_is_no_kill_is_said(text: str):
    with pytest.raises(argparse.ArgumentTypeError, match="PATTERN"):
        Kill.of(text)
