"""Memory in use, arrays in files, pieces that fit, and the watchdog."""

from __future__ import annotations

import mmap
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kit.errors import KitError
from kit.limits import memory as limits
from kit.limits import watchdog
from kit.limits.memory import in_use, memory, within
from kit.limits.watchdog import doing, watched

MB = 10**6


def test_memory_in_use_follows_what_is_held_and_leaves_mapped_files_out(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.ones(60 * MB, dtype=np.uint8))
    before = in_use()
    # Straight from the system: what earlier tests freed may still be counted, and malloc would give it out again.
    held = mmap.mmap(-1, 60 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held.write(b"x" * (60 * MB))
    assert 50 * MB < in_use() - before < 100 * MB
    held.close()
    freed = in_use()
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert int(mapped.sum(dtype=np.int64)) == 60 * MB
    assert in_use() - freed < 10 * MB
    here = memory()
    assert 0 < here.available <= here.total


def test_arrays_that_do_not_fit_lie_in_files_that_leave_nothing_behind(tmp_path: Path):
    with within(in_use() + 200 * MB, tmp_path / "scratch"):
        small = limits.empty((1000, 10), np.float32)
        large = limits.empty((50_000_000, 1), np.float32)
        assert small.base is None
        assert large.base is not None
        before = in_use()
        large[:] = 3
        assert in_use() - before < 20 * MB
        assert float(large[12_345_678, 0]) == 3
        assert list((tmp_path / "scratch").iterdir()) == []
        assert limits.at_once(MB, 1000, 4) < 1000
        assert limits.at_once(1000 * MB, 1000, 4) == 4
    assert limits.empty((50_000_000,), np.float32).base is None
    assert limits.at_once(1000 * MB, 1000, 4) == 1000


def test_a_control_groups_limit_counts_without_what_it_can_drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    own = Path("/proc/self/cgroup")
    if not own.exists():
        pytest.skip("no control groups here")
    line = next((line for line in own.read_text().splitlines() if line.split(":")[1] in ("", "memory")), None)
    if line is None:
        pytest.skip("no memory group here")
    _, names, path = line.split(":", 2)
    folder = tmp_path / names / path.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    first, second = ("memory.limit_in_bytes", "memory.usage_in_bytes") if names else ("memory.max", "memory.current")
    (folder / first).write_text(f"{500 * MB}\n")
    (folder / second).write_text(f"{450 * MB}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {100 * MB}\n")
    monkeypatch.setattr(limits, "GROUPS", tmp_path)
    assert memory().total == 500 * MB
    assert memory().available == 150 * MB
    (folder / first).write_text("max\n")
    assert memory().total > 500 * MB


def test_the_watchdog_stops_a_stage_and_names_it():
    held = []
    with (
        pytest.raises(KitError, match=r"block greedy.*above the limit"),
        watched(in_use() + 50 * MB),
        doing("block greedy"),
    ):
        while True:
            held.append(np.ones(10 * MB, dtype=np.uint8))
            time.sleep(0.02)
    assert len(held) < 200


def test_an_interrupt_of_the_users_stays_one():
    with pytest.raises(KeyboardInterrupt), watched(in_use() + 10_000 * MB):
        raise KeyboardInterrupt


def test_the_watchdog_lets_what_fits_alone():
    with watched(in_use() + 500 * MB) as look:
        held = np.ones(40 * MB, dtype=np.uint8)
        time.sleep(3 * watchdog.EVERY)
    assert look.peak > held.nbytes
    assert look.stage is None


DEAF = """
import signal, time
import numpy as np
from kit.limits import watchdog
from kit.limits.memory import in_use
signal.signal(signal.SIGINT, signal.SIG_IGN)
watchdog.GRACE = 0.3
with watchdog.watched(in_use() + 20_000_000), watchdog.doing("block deaf"):
    held = np.ones(80_000_000, dtype=np.uint8)
    time.sleep(60)
"""


def test_a_run_that_does_not_listen_is_ended():
    done = subprocess.run([sys.executable, "-c", DEAF], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "block deaf took" in done.stderr
