"""Signals: whatever falls into a clean-up does not cut it short, and Polars' own KeyboardInterrupt is not doubled."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AGAIN = """
import os, signal, sys
from kit.cli.interrupt import listen
listen()
try:
    os.kill(os.getpid(), int(sys.argv[1]))
finally:
    os.kill(os.getpid(), signal.SIGINT)
    try:
        raise OSError("a step of the clean-up that fails and is handled")
    except OSError:
        os.kill(os.getpid(), signal.SIGTERM)
    print("tidy", flush=True)
"""
QUERY = """
import os, signal, threading, time
import numpy as np, polars as pl
from kit.cli.interrupt import listen
listen()
rows = 400_000
frame = pl.LazyFrame({"a": np.random.randint(0, rows, rows), "b": np.random.rand(rows)})
query = frame.join(frame, on="a").group_by("a").agg(pl.col("b").sort().std()).sort("b")
threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    while True:
        query.collect()
finally:
    for _ in range(100):
        time.sleep(0.001)
    print("tidy", flush=True)
"""
CONSTRUCTOR = """
import os, signal, time
from kit.cli.interrupt import listen
listen()
there = {"os": os, "signal": signal}
text = "def constructor():\\n  os.kill(os.getpid(), signal.SIGINT)\\n  print('whole', flush=True)"
exec(compile(text, os.path.join("polars", "datatypes", "classes.py"), "exec"), there)
there["constructor"]()
try:
    time.sleep(30)
except KeyboardInterrupt:
    print("then stopped", flush=True)
"""
IMPATIENT = """
import os, signal
from kit.cli import interrupt
interrupt.PATIENCE = -1.0
interrupt.listen()
try:
    os.kill(os.getpid(), signal.SIGINT)
finally:
    os.kill(os.getpid(), signal.SIGINT)
    print("tidy", flush=True)
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_during_the_clean_up_do_not_cut_it_short(number: signal.Signals):
    assert run(AGAIN, str(int(number))).stdout == "tidy\n"


def test_ctrl_c_in_a_polars_query_is_one_exception():
    assert run(QUERY).stdout == "tidy\n"


def test_ctrl_c_waits_for_the_end_of_a_constructor_that_rust_calls():
    """There an exception is a panic of Polars' Rust, with a traceback and exit code 1."""
    assert run(CONSTRUCTOR).stdout == "whole\nthen stopped\n"


def test_a_clean_up_that_hangs_can_be_ended():
    done = run(IMPATIENT)
    assert (done.stdout, done.returncode) == ("", 128 + signal.SIGINT)
