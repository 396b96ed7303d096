"""Giving way to other programs: when, by what means, and that it ends."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections import namedtuple

import psutil
import pytest

from kit.limits import crowd

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="torch brings libgomp on Linux alone")
Times = namedtuple("Times", "user system idle iowait guest guest_nice")
Own = namedtuple("Own", "user system")


class Machine:
    """Stands in for psutil: two processors whose times a test sets."""

    def __init__(self) -> None:
        self.each, self.own = [Times(0, 0, 0, 0, 0, 0)] * 2, Own(0, 0)

    def cpu_times(self, percpu: bool = False):
        return self.each if percpu else self.own


def test_others_are_what_is_busy_without_us(monkeypatch):
    fake = Machine()
    process = type("Process", (), {"cpu_affinity": lambda _: [0, 1], "cpu_times": lambda _: fake.own})
    monkeypatch.setattr(psutil, "cpu_times", fake.cpu_times)
    monkeypatch.setattr(psutil, "Process", process)
    usage = crowd.Usage()
    # In two seconds one processor was busy throughout (half a second of it for a guest, which user counts too), one for a second;
    # half a second of that was ours.
    fake.each, fake.own = [Times(1.5, 0.5, 0, 0, 0.5, 0), Times(1, 0, 0.5, 0.5, 0, 0)], Own(0.25, 0.25)
    assert usage.others() == pytest.approx((3.0 - 0.5) / 2)
    assert usage.others() == 0.0  # no time has passed


BUSY_LOOP = """
import resource, torch
from kit.limits.crowd import IdleTeams
torch.set_num_threads(2)
x = torch.ones(1 << 16)
def switches():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    for _ in range(150):
        x.mul_(1.0)
        sum(range(2000))  # the other thread has nothing to do for about 50 microseconds
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before
teams = IdleTeams()
switches()
free = switches()
teams.hold(2, 2)
held = switches()
teams.release()
print(free, held, switches())
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor has nobody to wait for")
def test_waiting_threads_sleep_while_idle_teams_are_held_and_no_longer():
    """By the voluntary switches of a process of its own: a thread that sleeps until it is woken makes one each time."""
    two = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP", "GOMP"))}
    command = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{two}}})\n{BUSY_LOOP}"]
    free, held, after = map(int, subprocess.run(command, env=plain, capture_output=True, check=True).stdout.split())
    assert held > 75
    assert free < held / 2
    assert after < held / 2


def test_gives_way_while_others_are_busy_and_stops_when_they_are_not(monkeypatch):
    import torch

    load, calls = [2.0], []
    monkeypatch.setattr(crowd, "EVERY", 0.005)
    monkeypatch.setattr(crowd.Usage, "others", lambda self: load[0])
    monkeypatch.setattr(crowd.IdleTeams, "hold", lambda self, threads, processors: calls.append("hold"))
    monkeypatch.setattr(crowd.IdleTeams, "release", lambda self: calls.append("release"))
    assert torch.get_num_threads() >= 1

    def until(what: str) -> None:
        deadline = time.monotonic() + 20
        while what not in calls and time.monotonic() < deadline:
            time.sleep(0.005)
        assert what in calls

    with crowd.give_way():
        until("hold")
        assert "release" not in calls
        load[0] = -100.0
        until("release")
        with crowd.give_way():  # nested: one watch
            assert sum(thread.name == "kit-crowd" for thread in threading.enumerate()) == 1
        assert any(thread.name == "kit-crowd" for thread in threading.enumerate())
    assert not any(thread.name == "kit-crowd" for thread in threading.enumerate())


def test_one_thread_waits_for_nobody():
    teams = crowd.IdleTeams()
    teams.hold(1, 2)
    assert not any(thread.name == "kit-idle-team" for thread in threading.enumerate())


@pytest.mark.parametrize(("threads", "processors", "count"), [(2, 2, 1), (4, 4, 1), (2, 4, 3), (3, 4, 1)])
def test_as_many_teams_as_exceed_the_processors(threads, processors, count):
    teams = crowd.IdleTeams()
    teams.hold(threads, processors)
    try:
        assert sum(thread.name == "kit-idle-team" for thread in threading.enumerate()) == count
        assert threads + count * (threads - 1) > processors
    finally:
        teams.release()
    assert not any(thread.name == "kit-idle-team" for thread in threading.enumerate())


def test_memory_of_an_idle_team_is_small():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    teams = crowd.IdleTeams()
    teams.hold(2, 2)
    teams.release()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB
