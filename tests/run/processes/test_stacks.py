"""Stacks of a process that does not run its loop any more."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.run.processes.stacks import SIGNAL, NoStacks, handles, read_stacks
from tests.support.processes.process_verbs import ROOT

STUCK = """
import collections, itertools, threading
from edge.run.processes.stacks import write_on_signal

def goes_round_for_ever():
    print("ready", flush=True)
    while True:
        pass

def never_returns_from_a_call():
    print("ready", flush=True)
    collections.deque(itertools.repeat(1), maxlen=0)

def calls(depth=20):
    if depth:
        return calls(depth - 1)
    return [number for number in range(5)]

def has_busy_threads():
    def works():
        while True:
            calls()
    for _ in range(3):
        threading.Thread(target=works, daemon=True).start()
    goes_round_for_ever()

write_on_signal()
"""


@contextmanager
def process_that(does: str) -> Iterator[subprocess.Popen]:
    code = f"{STUCK}\n{does}()"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def stuck():
    with process_that("goes_round_for_ever") as process:
        yield process


def test_the_stacks_of_all_threads():
    with process_that("has_busy_threads") as process:
        found = read_stacks(process.pid, 10.0)
    assert found.startswith("Main thread 0x")
    assert found.count("most recent call first") == 4
    assert found.count("has_busy_threads.<locals>.works") == 3


def test_a_process_is_none_the_worse_for_the_question():
    """Also when its threads are busy, and however often it is asked."""
    with process_that("has_busy_threads") as process:
        for _ in range(3000):  # with faulthandler, a third of this ended it
            os.kill(process.pid, SIGNAL)
            time.sleep(0.0002)  # signals that come while one is pending are one with it
        assert "most recent call first" in read_stacks(process.pid, 10.0)
        assert process.poll() is None


def test_a_process_in_a_call_that_never_returns():
    with process_that("never_returns_from_a_call") as process:
        found = read_stacks(process.pid, 2.0)
        assert found.count("never_returns_from_a_call") == 1
        assert process.poll() is None


def test_a_process_in_an_endless_loop(stuck):
    for _ in range(2):  # the second time without those of the first
        found = read_stacks(stuck.pid, 10.0)
        assert found.count("goes_round_for_ever") == 1
    stuck.send_signal(signal.SIGSTOP)
    while "State:\tT" not in Path(f"/proc/{stuck.pid}/status").read_text():
        pass
    with pytest.raises(NoStacks, match="stopped by a signal"):
        read_stacks(stuck.pid, 10.0)


def test_the_signal_is_not_sent_to_a_process_that_it_would_end():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        with pytest.raises(NoStacks, match="does not write"):
            read_stacks(process.pid, 1.0)
        process.communicate(b"\n")
        assert process.returncode == 0
    with pytest.raises(NoStacks, match="No such"):
        read_stacks(process.pid, 1.0)


def test_the_mask_of_caught_signals():
    assert handles(f"Name:\tx\nSigCgt:\t{1 << (SIGNAL - 1):016x}\n", SIGNAL)
    assert not handles("Name:\tx\nSigCgt:\t0000000180004243\n", SIGNAL)
    assert not handles("Name:\tx\n", SIGNAL)
