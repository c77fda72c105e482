"""Listening sockets: which worker accepts on which, and how they are opened, passed on and closed."""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from edge.demo.free_ports import free_port
from edge.rules.settings.file import parse
from edge.run.sockets.listening_sockets import Spare, from_descriptors, spare_of, take_over
from edge.run.sockets.listening_sockets import open_sockets as open_sockets_in
from tests.support.processes.process_verbs import ROOT


def open_sockets(chosen, workers, spare):
    """Without an admin socket: test_admin_socket.py is about that."""
    return open_sockets_in(chosen, workers, spare, admin_directories=())


def settings(*addresses, admin="127.0.0.1:0"):
    listeners = ", ".join(f'{{address: "{address}"}}' for address in addresses)
    text = f'listeners: [{listeners}]\ncore_api: {{url: "http://a"}}\nadmin: {{address: "{admin}"}}\n'
    return parse(text, name="f", environ={})


@pytest.fixture
def opened():
    """open_sockets, and all of them are closed after the test."""
    every = []

    def open_them(chosen, workers, spare=None):
        every.append(open_sockets(chosen, workers, spare or Spare([])))
        return every[-1]

    yield open_them
    every[-1].close_all_but()


def numbers(sockets, slot, workers, chosen):
    """The numbers of the sockets of the first listener that this slot gets."""
    first = sockets.listeners[0].sockets
    accepting = sockets.for_worker(slot, workers, chosen.listeners)
    return [first.index(sock) for _, sock in accepting if sock in first]


def test_each_slot_has_its_own_and_shares_those_of_removed_slots(opened):
    chosen = settings("127.0.0.1:0")
    three = opened(chosen, 3)
    assert [numbers(three, slot, 3, chosen) for slot in range(3)] == [[0], [1], [2]]
    two = opened(chosen, 2, spare_of(three))
    assert [numbers(two, slot, 2, chosen) for slot in range(2)] == [[0, 2], [1, 2]]
    five = opened(chosen, 5, spare_of(two))
    assert [numbers(five, slot, 5, chosen) for slot in range(5)] == [[0], [1], [2], [3], [4]]
    assert five.listeners[0].sockets[:3] == three.listeners[0].sockets
    assert len({sock.getsockname() for sock in five.listeners[0].sockets}) == 1, "port 0 is chosen once"


def test_a_unix_socket_is_shared_by_all_workers(opened, tmp_path):
    chosen = settings(f"unix:{tmp_path}/a", admin=f"unix:{tmp_path}/admin")
    sockets = opened(chosen, 3)
    assert [numbers(sockets, slot, 3, chosen) for slot in range(3)] == [[0], [0], [0]]
    assert os.stat(tmp_path / "admin").st_mode & 0o777 == 0o600
    kept = opened(settings("127.0.0.1:0", admin=f"unix:{tmp_path}/admin"), 1, spare_of(sockets))
    sockets.close_all_but(kept)
    assert sorted(os.listdir(tmp_path)) == ["admin"], "the file of what is served no more is gone"


def test_two_listeners_on_any_port(opened):
    chosen = settings("127.0.0.1:0", "127.0.0.1:0")
    sockets = opened(chosen, 2)
    ports = [{sock.getsockname()[1] for sock in held.sockets} for held in sockets.listeners]
    assert [len(each) for each in ports] == [1, 1]
    assert ports[0] != ports[1]


@pytest.mark.parametrize("shares", [True, False])
def test_an_address_in_use_is_not_shared_silently(shares):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            open_sockets(settings("127.0.0.1:0", f"127.0.0.1:{port}"), 2, Spare([]))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody who is not")
def test_a_port_without_permission():
    low = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) - 1
    if low < 1:
        pytest.skip("this machine has no privileged ports")
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.setuid(65534)
        try:
            open_sockets(settings(f"127.0.0.1:{low}"), 1, Spare([]))
        except OSError as error:
            os.write(writing, error.strerror.encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as told:
        said = told.read()
    assert said.startswith(
        f"cannot listen on 127.0.0.1:{low}: Permission denied (low ports need root or CAP_NET_BIND"
    )


def test_nothing_stays_open_when_one_address_fails(tmp_path):
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="No such file or directory"):
        open_sockets(settings("127.0.0.1:0", f"unix:{tmp_path}/a", f"unix:{tmp_path}/b/c"), 3, Spare([]))
    assert os.listdir("/proc/self/fd") == before
    assert os.listdir(tmp_path) == []


def test_the_kernel_spreads_connections_over_the_slots(opened):
    [held] = opened(settings("127.0.0.1:0"), 3).listeners
    for sock in held.sockets:
        sock.listen(128)
    clients = [socket.create_connection(held.sockets[0].getsockname()) for _ in range(90)]
    accepted = Counter()
    for number, sock in enumerate(held.sockets):
        while True:
            try:
                sock.accept()[0].close()
            except BlockingIOError:
                break
            accepted[number] += 1
    for client in clients:
        client.close()
    assert accepted.total() == 90
    assert min(accepted.values()) >= 10


TAKER = """
import os, sys
from edge.rules.settings.file import parse
from edge.run.sockets.listening_sockets import open_sockets, take_over

spare = take_over(os.environ["TOLD"])
settings = parse(sys.argv[1], name="f", environ={})
sockets = open_sockets(settings, 3, spare, admin_directories=())
print([len(held.sockets) for held in sockets.listeners], spare.close())
print(sockets.listeners[0].sockets[0].getsockname()[1])
sockets.leave_files()
sockets.close_all_but()
"""


def test_handed_over_through_an_exec(opened, tmp_path):
    port = free_port()
    chosen = settings(f"127.0.0.1:{port}", f"unix:{tmp_path}/a", "127.0.0.1:0")
    sockets = opened(chosen, 2)
    text = (
        f'listeners: [{{address: "127.0.0.1:{port}"}}, {{address: "unix:{tmp_path}/a"}}]\n'
        'core_api: {url: "http://a"}\nadmin: {address: "127.0.0.1:0"}\n'
    )
    ran = subprocess.run(
        [sys.executable, "-c", TAKER, text],
        cwd=ROOT,
        env={**os.environ, "TOLD": sockets.handed_over()},
        pass_fds=[sock.fileno() for sock in sockets],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["[3, 1] ['127.0.0.1:0']", str(port)]
    assert os.path.exists(tmp_path / "a")
    assert [told["by_slot"] for told, _ in json.loads(sockets.handed_over())] == [True, False, True, True]


def test_handed_in_by_systemd(opened):
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("::", 0), family=socket.AF_INET6) as two,
    ):
        ports = one.getsockname()[1], two.getsockname()[1]
        spare = from_descriptors([one.detach(), two.detach()])
        chosen = settings(f"127.0.0.1:{ports[0]}", f":{ports[1]}")
        sockets = opened(chosen, 2, spare)
        assert spare.close() == []
        assert [len(held.sockets) for held in sockets.listeners] == [1, 1]
        assert [numbers(sockets, slot, 2, chosen) for slot in range(2)] == [[0], [0]]


def test_the_text_from_the_previous_master():
    assert take_over("[]").close() == []
