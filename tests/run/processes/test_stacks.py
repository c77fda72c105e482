"""Stacks of a process that does not run its loop any more."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.run.processes.stacks import SIGNAL, NoStacks, handles, read_stacks
from tests.support.processes.process_verbs import ROOT

STUCK = """
import sys
from edge.run.processes.stacks import write_on_signal

def goes_round_for_ever():
    print("ready", flush=True)
    while True:
        pass

write_on_signal()
goes_round_for_ever()
"""


@pytest.fixture
def stuck():
    process = subprocess.Popen([sys.executable, "-c", STUCK], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    yield process
    process.kill()
    process.communicate()


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
