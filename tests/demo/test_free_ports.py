"""Free ports: a port in use is not free, and a free one is not ephemeral and not returned twice."""

import subprocess
import sys
from pathlib import Path

import pytest

from edge.demo.free_ports import HELD, free_port, is_free
from tests.support.processes.process_verbs import ROOT

DRAWS = """
import sys
from edge.demo.free_ports import free_port
print(free_port(draw=lambda *_: int(sys.argv.pop(1))))
"""


LEAVES = """
import sys
from edge.demo.free_ports import free_port, release_ports
free_port()
if sys.argv[1] == "release":
    release_ports()
"""


def test_a_taken_port_is_not_free(taken_port):
    assert not is_free(taken_port)
    assert free_port(taken_port) != taken_port


def test_a_free_preferred_port_is_returned():
    port = free_port()
    assert is_free(port)
    assert free_port(port) == port


def test_not_from_the_ports_of_outgoing_connections():
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = {free_port() for _ in range(20)}
    assert len(ports) > 10
    assert max(ports) < first


def test_no_port_is_returned_twice_even_before_it_listens():
    ports = [free_port(), free_port()]
    drawn = iter([*ports, *reversed(ports), free_port() + 1, *range(20_002, 20_200)])
    assert free_port(draw=lambda low, high: next(drawn)) not in ports


def test_no_port_is_returned_by_two_processes():
    released, *_, mine = [free_port() for _ in range(HELD + 1)]
    command = [sys.executable, "-c", DRAWS, str(mine), str(released)]
    assert int(subprocess.check_output(command, cwd=ROOT)) == released
    command[2] = DRAWS.replace("(draw", "(int(sys.argv.pop(1)), draw")
    assert int(subprocess.check_output(command, cwd=ROOT)) == released, "nor as the preferred port"


@pytest.mark.parametrize(("ending", "said"), [("release", b""), ("exit", b"unclosed <socket")])
def test_claims_are_released_at_the_end(ending, said):
    command = [sys.executable, "-W", "always", "-c", LEAVES, ending]
    left = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stderr
    assert said in left
    assert bool(left) == bool(said)
