"""A living worker does not empty its accept queue, and another one accepts for it. Sockets and children are
real."""

import asyncio
import os
import select
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import structlog.testing

from edge.admin.health import Stage
from edge.admin.scoreboard import QUEUES, Scoreboard
from edge.demo.free_ports import free_port
from edge.net.accept.accept_queue import accept_queue
from edge.rules.settings import Settings
from edge.run.control.control_messages import (
    AcceptFor,
    AcceptingStarted,
    Ready,
    StopAcceptingFor,
    ToChild,
    Unpacker,
    packed,
)
from edge.run.processes.process_spawner import Kind, ProcessSpawner
from edge.run.processes.supervisor import Supervisor
from edge.run.sockets.accept_queue_monitor import AcceptQueueMonitor
from edge.run.sockets.listening_sockets import Held, Sockets, Spare, open_sockets
from edge.run.worker import Worker
from tests.support.processes.edges import Kept, edge
from tests.support.processes.process_verbs import DEADLINE

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
SETTINGS = Settings.model_validate(
    {
        "listeners": ({"address": "127.0.0.1:0"},),
        "core_api": {"url": "http://127.0.0.1:9"},
        "admin": {"address": "127.0.0.1:0"},
    }
)
CLIENTS = 30


def accepts_for_others(line, row):
    """A worker with a heartbeat that accepts on the sockets that it receives, until `StopAcceptingFor`."""
    row.begin(0, os.getpid(), time.monotonic() + 3600)
    line.sendall(packed(Ready()) + packed(AcceptingStarted()))
    unpacker, accepted = Unpacker(ToChild), []
    while True:
        data, came, _, _ = socket.recv_fds(line, 65536, 4)
        if not data:
            return 0
        for message in unpacker.feed(data):
            match message:
                case AcceptFor(slot, 0):
                    with socket.socket(fileno=came.pop()) as given:
                        given.setblocking(False)
                        while accept_queue(given).length:
                            client, _ = given.accept()
                            client.sendall(b"for %d" % slot)
                            accepted.append(client)
                case StopAcceptingFor(slot):
                    for client in accepted:
                        client.sendall(b", no more")
                        client.close()


class Two:
    """A supervisor with two workers, and clients that wait for the second."""

    def __init__(self, supervisor, sockets):
        self.supervisor = supervisor
        self.queues = [sockets.of_slot(slot)[0] for slot in range(2)]
        for queue in self.queues:
            queue.listen(100)
        self.now = time.monotonic()
        self.clients = [socket.create_connection(self.queues[0].getsockname()) for _ in range(CLIENTS)]
        self.served = []
        "By the first worker, on its own socket."

    def pass_time(self, seconds):
        """The master ticks every half second; the first worker serves its own clients."""
        end = self.now + seconds
        while self.now < end:
            while accept_queue(self.queues[0]).length:
                self.served.append(self.queues[0].accept()[0])
            self.supervisor.tick(self.now)
            self.now += 0.5

    def received_by_clients(self, count):
        """What clients have received, as soon as so many have received something; the others are left out."""
        ready, deadline = select.select(self.clients, [], [], 0)[0], time.monotonic() + DEADLINE
        while len(ready) < count and time.monotonic() < deadline:
            time.sleep(0.001)
            ready = select.select(self.clients, [], [], 0)[0]
        return [client.recv(100) for client in ready]


@pytest.fixture
def two():
    spawner = ProcessSpawner(Scoreboard())
    sockets = open_sockets(SETTINGS, 2, Spare([]))
    supervisor = Supervisor(spawner, spawner.board.row(0), SETTINGS, sockets, 2)
    supervisor.stop_admin()
    supervisor._stage = (Stage.READY, "")
    for slot, worker_slot in enumerate(supervisor._worker_slots):
        worker_slot.child = spawner._start(Kind.WORKER, slot, SETTINGS, [], accepts_for_others)
        while not worker_slot.child.accepting:
            supervisor.received(worker_slot.child)
    two = Two(supervisor, sockets)
    yield two
    for child in supervisor.workers:
        child.channel.close()
        os.waitpid(child.pid, 0)
    for sock in (*two.clients, *two.served, *sockets):
        sock.close()
    spawner._control.close()


def test_another_accepts_until_the_queue_was_empty_for_long(two):
    waiting = accept_queue(two.queues[1]).length
    assert 0 < waiting < CLIENTS
    with structlog.testing.capture_logs() as logs:
        two.pass_time(1.5)
        assert logs == []
        two.pass_time(1.5)
        assert two.received_by_clients(waiting) == [b"for 1"] * waiting
        assert not accept_queue(two.queues[1]).length
        [stuck, stands_in] = logs
        assert (stuck["code"], stuck["process"], stuck["length"]) == ("accept_queue_stuck", "worker 1", waiting)
        assert (stands_in["process"], stands_in["slot"]) == ("worker 0", 1)
        two.pass_time(9.0)
        assert len(logs) == 2
        two.pass_time(3.0)
        assert [event["code"] for event in logs[2:]] == ["accept_queue_emptied"]
    assert two.received_by_clients(waiting) == [b", no more"] * waiting


def test_no_worker_accepts_for_others_while_all_queues_are_stuck(two):
    with structlog.testing.capture_logs() as logs:
        for _ in range(8):
            two.supervisor.tick(two.now)
            two.now += 0.5
    assert [event["code"] for event in logs] == ["accept_queue_stuck"] * 2
    assert two.received_by_clients(0) == []


def test_the_lengths_are_on_the_rows_of_the_workers(two):
    two.supervisor.tick(two.now)
    lengths = [child.cells.cells[QUEUES] for child in two.supervisor.workers]
    assert lengths == [accept_queue(queue).length for queue in two.queues]
    assert sum(lengths) == CLIENTS
    for child in two.supervisor.workers:
        child.cells.ended()
        assert child.cells.cells[QUEUES] == 0


TWO_LISTENERS = Settings.model_validate(
    {
        "admin": {"address": "127.0.0.1:0"},
        "listeners": ({"address": "127.0.0.1:0"}, {"address": "127.0.0.1:0", "backlog": 77}),
        "core_api": {"url": "http://127.0.0.1:9"},
        "access_log": {"path": ""},
    }
)


class Watched:
    """Sockets of two listeners for two workers, with a client in each; the workers are rows of the scoreboard."""

    def __init__(self, stack: ExitStack) -> None:
        self.sockets = open_sockets(TWO_LISTENERS, 2, Spare([]), admin_directories=())
        board = Scoreboard()
        self.workers = [
            SimpleNamespace(slot=slot, cells=board.row(slot + 1), title=f"worker {slot}", pid=0)
            for slot in range(2)
        ]
        for worker in self.workers:
            worker.cells.begin(worker.slot, 0, 0.0)
        for sock in self.sockets:
            stack.enter_context(sock)
            sock.listen(100)
        for held in self.sockets.listeners:
            address = held.sockets[0].getsockname()
            while not all(accept_queue(sock).length for sock in held.sockets):
                stack.enter_context(socket.create_connection(address))
        self.monitor = AcceptQueueMonitor()
        self.now = 0.0
        self.accepted: Counter[tuple[int, int]] = Counter()

    def stuck_after(self, seconds: float, rate: dict[tuple[int, int], int]) -> set[int]:
        """The slots that are stuck after so many seconds, in which workers accept connections of other clients.
        `rate`: how many in half a second, by slot and number of the listener."""
        found: set[int] = set()
        for _ in range(int(seconds * 2)):
            self.now += 0.5
            self.accepted.update(rate)
            for (slot, number), count in self.accepted.items():
                self.workers[slot].cells.publish_accepted(number, count)
            found = self.monitor.check(self.sockets, self.workers, self.now)
        return found


@pytest.fixture
def watched() -> Iterator[Watched]:
    with ExitStack() as stack:
        yield Watched(stack)


def test_what_is_accepted_on_one_listener_is_no_progress_on_another(watched):
    busy = {(slot, number): 1000 for slot in range(2) for number in range(2)}
    with structlog.testing.capture_logs() as logs:
        assert watched.stuck_after(10.0, busy) == set()
        assert logs == []
        assert watched.stuck_after(10.0, {**busy, (1, 1): 0}) == {1}
    assert [(event["process"], event["listener"]) for event in logs] == [("worker 1", "127.0.0.1:0")]


def test_all_workers_accept_from_a_socket_that_they_share(watched):
    shared = Sockets([Held(held.address, held.sockets, by_slot=False) for held in watched.sockets.listeners], None)
    watched.sockets = shared
    with structlog.testing.capture_logs():
        assert watched.stuck_after(10.0, {(0, 0): 1000, (1, 1): 1000}) == set()
        assert watched.stuck_after(10.0, {(0, 0): 1000}) == {0, 1}


async def test_a_worker_counts_what_it_accepts_by_listener():
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
    first, second = TWO_LISTENERS.listeners
    row = Scoreboard(2).row(1)
    row.begin(0, os.getpid(), 0.0)
    worker = Worker(TWO_LISTENERS, row=row)
    await worker.accept([(first, sockets[0]), (first, sockets[1]), (second, sockets[2])])
    await worker.accept([(second, sockets[3])], for_another=True)
    clients = [
        socket.create_connection(sock.getsockname())
        for sock, n in zip(sockets, (3, 4, 2, 5), strict=True)
        for _ in range(n)
    ]
    async with asyncio.timeout(DEADLINE):
        while worker.context.counts.accepted < len(clients):  # noqa: ASYNC110 - a plain number
            await asyncio.sleep(0)
    worker.publish()
    assert [row.accepted_on(number) for number in range(3)] == [3, 2, 0]
    assert row.accepted_on(99) == len(clients), "those of a listener without a count are those of all"
    for client in clients:
        client.close()
    await worker.stop()


async def shows(styx, line):
    """Wait until /metrics has this line."""
    async with asyncio.timeout(DEADLINE):
        while line not in (await styx.ask_admin("/metrics"))[1].splitlines():  # noqa: ASYNC110 - rings no bell
            await asyncio.sleep(0.05)


async def test_metrics_have_the_queue_lengths():
    """Of stalled workers as well, because the master reads them."""
    async with edge(watchdog="60s", workers=1) as styx:
        [pid] = await styx.workers()
        address = f"127.0.0.1:{styx.port}"
        await shows(styx, f'styx_accept_queue{{listener="{address}",worker="0"}} 0.0')
        os.kill(pid, signal.SIGSTOP)
        waiting = [Kept(styx.port) for _ in range(3)]
        for kept in waiting:
            await kept.__aenter__()
        await shows(styx, f'styx_accept_queue{{listener="{address}",worker="0"}} 3.0')
        os.kill(pid, signal.SIGCONT)
        await shows(styx, f'styx_accept_queue{{listener="{address}",worker="0"}} 0.0')
        for kept in waiting:
            await kept.__aexit__()


async def test_metrics_have_the_listeners_of_the_configuration_in_force(call):
    async with edge(workers=1) as styx:
        other = free_port()
        text = styx.file.read_text()
        listener = f'{{address: "127.0.0.1:{styx.port}"}}'
        assert listener in text
        styx.file.write_text(text.replace(listener, f'{listener}, {{address: "127.0.0.1:{other}"}}'))
        assert (await call("reload", "--admin", styx.settings.admin.address)).code == 0
        for port in (styx.port, other):
            await shows(styx, f'styx_accept_queue{{listener="127.0.0.1:{port}",worker="0"}} 0.0')
