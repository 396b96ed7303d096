"""Progress: bars with rate and remaining time on a terminal, few plain lines elsewhere, never a word on stdout."""

from __future__ import annotations

import io
import multiprocessing
import re
import subprocess
import sys
import threading

import pytest
from torch import Tensor, nn, tensor

from kit import progress
from kit.models.training import TrainSettings, train
from kit.progress import Cost, outlook, say, stage, track

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        """What was written, without colours and cursor movements."""
        return ESCAPES.sub("", self.getvalue())


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "now", clock)
    return clock


def plug_in(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal as stderr; called by the test itself, since pytest swaps the streams between fixtures and tests."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "110")
    return stream


def test_a_terminal_gets_a_bar_with_rate_and_remaining_time(clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys):
    terminal = plug_in(monkeypatch)
    for item in track(range(100), "reading [red]", 100, "files"):
        clock.seconds += 0.5
        if item == 49:
            print("a result")
            say("a word in between")
    shown = terminal.text()
    assert "reading [red]" in shown  # a name is no markup
    assert re.search(r" 40/100 +2\.0 files/s, about 30 s left", shown)  # 60 files at 2 a second
    assert "a word in between\n" in shown
    assert capsys.readouterr().out == "a result\n"
    assert not progress._drawn and sys.stderr is terminal


def test_work_inside_work_has_a_bar_below(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    terminal = plug_in(monkeypatch)
    for outer in track(range(3), "blocks", 3):
        for _ in track(range(4), f"epoch of {outer}", 4):
            clock.seconds += 1
    together = [drawing for drawing in terminal.text().split("blocks") if "epoch of 1" in drawing]
    assert any("1/3" in drawing and "2/4" in drawing for drawing in together)
    assert terminal.text().count("left") > 8


def test_an_error_takes_the_bar_away(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    terminal = plug_in(monkeypatch)
    with pytest.raises(ZeroDivisionError), progress.progress("dividing", 3) as advance:
        advance(1)
        1 / 0  # noqa: B018
    assert not progress._drawn and sys.stderr is terminal
    assert terminal.getvalue().endswith("\r\x1b[2K\x1b[?25h\r")  # the line is wiped and the cursor shown again


def test_elsewhere_there_is_a_plain_line_every_few_seconds(clock: Clock, capsys):
    for _ in track(range(12), "reading", 12, "files"):
        clock.seconds += 2.0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "  reading: 3 of 12 files, 2.0 s each, about 18 s left",
        "  reading: 6 of 12 files, 2.0 s each, about 12 s left",
        "  reading: 9 of 12 files, 2.0 s each, about 6 s left",
    ]


def test_quick_work_says_nothing_elsewhere(clock: Clock, capsys):
    assert list(track("abc", "spelling", 3)) == ["a", "b", "c"]
    with progress.progress("waiting", 2) as advance:
        clock.seconds += 60
        advance(0)  # nothing is known yet
    assert capsys.readouterr() == ("", "")


def _write(stream: Terminal) -> None:
    for _ in track(range(3), "working", 3):
        pass
    assert not stream.getvalue()


def test_threads_and_dumb_terminals_get_no_bar(monkeypatch: pytest.MonkeyPatch):
    terminal = plug_in(monkeypatch)
    thread = threading.Thread(target=_write, args=(terminal,))
    thread.start()
    thread.join()
    assert not terminal.getvalue()
    monkeypatch.setenv("TERM", "dumb")
    _write(terminal)


def test_worker_processes_get_no_bar(monkeypatch: pytest.MonkeyPatch):
    terminal = plug_in(monkeypatch)
    worker = multiprocessing.get_context("fork").Process(target=_write, args=(terminal,))
    worker.start()
    worker.join()
    assert worker.exitcode == 0


@pytest.mark.parametrize(
    ("done", "seconds", "words"),
    [
        (50_000, 4.0, "12,500 rows/s, about 4 s left"),
        (996, 100.0, "10.0 rows/s, about 2.8 h left"),
        (20_000, 20_000.0, "1.0 rows/s, about 22.2 h left"),
        (99_000, 247_500.0, "2.5 s each, about 42 min left"),
        (100_000, 10.0, "10,000 rows/s, about 0 s left"),
    ],
)
def test_rate_and_remaining_time_in_words(done: int, seconds: float, words: str):
    assert outlook(done, 100_000, seconds, "rows") == words


def test_a_stage_says_its_time(clock: Clock, capsys):
    with stage("sorting"):
        clock.seconds += 1.25
    assert capsys.readouterr() == ("", "  sorting: 1.2 s\n")


class Line(nn.Module):
    """y = w x, fitted to y = 2 x."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(tensor(0.0))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"square": ((self.weight - 2) * x).square().mean()}


def _trained() -> float:
    model = Line()
    settings = TrainSettings(epochs=2, accelerator="cpu")
    train(model, lambda epoch: [lambda k=k: tensor([1.0 + k, 2.0]) for k in range(8)], settings, seed=0, name="line")
    return float(model.weight.detach())


def test_training_shows_the_batches_of_an_epoch_and_learns_the_same(monkeypatch: pytest.MonkeyPatch, capsys):
    plain = _trained()
    assert "batches" not in capsys.readouterr().err
    with monkeypatch.context() as patch:
        stream = plug_in(patch)
        patch.setattr(progress, "REDRAW_SECONDS", 0.0)
        shown = _trained()
    assert shown == plain
    assert re.search(r"line: epoch 2 of 2 .*5/8 .*batches/s", stream.text())
    assert "line: epoch 2 of 2: square" in stream.text()
    assert capsys.readouterr().out == ""


def test_bars_are_loaded_when_drawn():
    code = "import sys, kit.progress; list(kit.progress.track('ab', 'x', 2)); sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_uneven_work_is_judged_by_what_it_costs_and_not_by_its_count(clock: Clock, capsys):
    """The first of six blocks takes a minute, as was known; the other five take two seconds in all."""
    costs = [Cost(60.0, measured=True), *[Cost(0.4, measured=True)] * 5]
    for number in track(range(6), "profile", 6, "blocks", costs):
        clock.seconds += 6.0 if number else 60.0
    err = capsys.readouterr().err
    assert err.splitlines()[0] == "  profile: 1 of 6 blocks, about 2 s left"
    assert err.splitlines()[3] == "  profile: 4 of 6 blocks, about 1 s left"


def test_what_was_only_reckoned_is_corrected_by_the_pace_of_this_machine(clock: Clock, capsys):
    """A machine three times as slow as the one of the priors; what was measured here is left alone."""
    costs = [Cost(10.0, measured=False), Cost(20.0, measured=False), Cost(5.0, measured=True)]
    for _ in track(range(3), "profile", 3, "blocks", costs):
        clock.seconds += 30.0
    assert capsys.readouterr().err.splitlines()[0] == "  profile: 1 of 3 blocks, about 65 s left"
