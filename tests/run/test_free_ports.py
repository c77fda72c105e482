"""Free ports: what is taken is not free, and a free one is not soon taken by somebody's connection."""

import random
from pathlib import Path

from edge.run.free_ports import free_port, is_free


def test_a_taken_port_is_not_free(taken_port):
    assert not is_free(taken_port)
    assert free_port(taken_port) != taken_port


def test_a_wish_is_granted():
    port = free_port()
    assert is_free(port)
    assert free_port(port) == port


def test_not_from_the_ports_of_outgoing_connections():
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = {free_port() for _ in range(20)}
    assert len(ports) > 10
    assert max(ports) < first


def test_none_is_given_twice_though_nobody_listens_there_yet(monkeypatch):
    ports = [free_port(), free_port()]
    drawn = iter([*ports, *reversed(ports), 20_001, *range(20_002, 20_100)])
    monkeypatch.setattr(random, "randint", lambda low, high: next(drawn))
    assert free_port() not in ports
