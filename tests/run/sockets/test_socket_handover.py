"""A draining edge hands its sockets over to another edge with the same addresses."""

import asyncio
import contextlib
import os
import select
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from structlog.testing import capture_logs

from edge.demo.free_ports import free_port
from edge.demo.styx_process import StyxProcess
from edge.rules.settings.file import parse
from edge.rules.settings.values import Address
from edge.run.processes.upgrade import SERVING
from edge.run.sockets.listening_sockets import Sockets, Spare, open_sockets
from edge.run.sockets.socket_handover import SocketHandover, _connect, inherit
from tests.support.processes.edges import CLOSED
from tests.support.processes.process_verbs import DEADLINE

TEXT = """\
listeners: [{{address: "127.0.0.1:{port}"}}, {{address: "unix:{path}"}}]
core_api: {{url: "{core_api}"}}
admin: {{address: "127.0.0.1:{admin}"}}
workers: 2
drain: {{delay: {delay}, timeout: 5s}}
"""


@pytest.fixture
def text(tmp_path):
    return TEXT.format(port=free_port(), path=tmp_path / "clients", admin=free_port(), core_api=CLOSED, delay="10m")


async def asks_on(port, responses):
    """One request after the other, each on a new connection, until cancelled; records the responses."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
            responses.append((await reader.read())[:12])
        finally:
            writer.close()
        await writer.wait_closed()


async def test_a_second_edge_takes_over_from_one_that_drains(text, until):
    responses = []
    first = StyxProcess(text)
    await first.start()
    asking = asyncio.create_task(asks_on(first.port, responses))
    try:
        await until(lambda: len(responses) > 20)
        first.send_signal(signal.SIGTERM)
        await until(lambda: "stopping" in first.log.read_text())
        async with StyxProcess(text) as second:
            await until(first.ended.is_set)  # long before drain.delay
            assert first.code == 0
            seen = len(responses)
            await until(lambda: len(responses) > seen + 20)
            assert await second.ask_admin("/readyz") == (200, "ready\n")
            reader, writer = await asyncio.open_unix_connection(second.settings.listeners[1].address.path)
            writer.write(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
            writer.close()
            await writer.wait_closed()
            asking.cancel()
    finally:
        asking.cancel()
        outcome = (await asyncio.gather(asking, return_exceptions=True))[0]
        await first.stop()
    assert isinstance(outcome, asyncio.CancelledError), outcome
    assert set(responses) == {b"HTTP/1.1 503"}


async def test_files_stay_for_an_edge_that_has_the_sockets_and_does_not_serve_yet(text, until):
    """It is still starting when the first one's delay ends."""
    async with StyxProcess(text) as first:
        first.send_signal(signal.SIGTERM)
        await until(lambda: "stopping" in first.log.read_text())
        taken = await asyncio.to_thread(inherit, first.settings.admin.address)
        assert taken is not None
        await until(lambda: "sockets_handed_over" in first.log.read_text())
        first.send_signal(signal.SIGTERM)
        await until(first.ended.is_set)
    spare, report = taken
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(first.settings.listeners[1].address.path)
    spare.close()
    os.close(report)


def opened(text) -> Sockets:
    return open_sockets(parse(text, name="f", environ={}), 2, Spare([]))


def test_an_edge_that_ends_before_it_serves_leaves_room_for_another(text):
    sockets = opened(text)
    handover = SocketHandover.wait_for(sockets)
    assert handover is not None
    try:
        assert SocketHandover.wait_for(sockets) is None, "the door is taken"
        spare, line = _inherit(handover, sockets.admin.address)
        spare.close()
        os.close(line)
        handover.step()
        assert not handover.serves
        spare, line = _inherit(handover, sockets.admin.address)
        taken = [spare.take(held.address) for held in sockets.listeners]
        assert [len(held.sockets) for held in taken] == [2, 1]
        os.write(line, SERVING)
        handover.step()
        assert handover.serves
        Spare(taken).close()
        spare.close()
        os.close(line)
    finally:
        handover.close()
        sockets.close_all_but()


def test_without_a_draining_edge_there_is_nothing_to_inherit():
    assert inherit(Address("127.0.0.1", 1)) is None


def _inherit(handover, admin):
    """Both sides in one process: the connection buffers what one sends until the other reads."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(inherit, admin)
        assert select.select([handover], [], [], DEADLINE)[0]
        handover.step()
        return coming.result(DEADLINE)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_connections_of_other_users_are_refused(text):
    """As many as fit into the backlog, before the new edge connects; the first one is logged."""
    sockets = opened(text)
    handover = SocketHandover.wait_for(sockets)
    address = handover._listener.getsockname()
    crowded, ready = os.pipe(), os.pipe()
    outsider = os.fork()
    if not outsider:
        try:
            os.setuid(65534)
            crowd = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    crowd.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK))
                    crowd[-1].connect(address)
            os.write(crowded[1], b"x")
            os.read(ready[0], 1)
        finally:
            os._exit(0)
    assert os.read(crowded[0], 1) == b"x"
    try:
        with capture_logs() as events, ThreadPoolExecutor(1) as pool:
            coming = pool.submit(inherit, sockets.admin.address)
            while not coming.done():
                if select.select([handover], [], [], 0.01)[0]:
                    handover.step()
            spare, line = coming.result()
        assert [event["code"] for event in events] == ["handover_refused", "sockets_handed_over"]
        spare.close()
        os.close(line)
    finally:
        os.write(ready[1], b"x")
        os.waitpid(outsider, 0)
        handover.close()
        sockets.close_all_but()
        for descriptor in (*crowded, *ready):
            os.close(descriptor)


def test_a_new_edge_retries_while_the_backlog_is_full(text, monkeypatch):
    """The backlog was filled before it connects."""
    sockets = opened(text)
    handover = SocketHandover.wait_for(sockets)
    address = handover._listener.getsockname()
    crowd = []
    with contextlib.suppress(BlockingIOError):
        while True:
            crowd.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK))
            crowd[-1].connect(address)
    monkeypatch.setattr(
        "edge.run.sockets.socket_handover.time.sleep", lambda seconds: handover._listener.accept()[0].close()
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.settimeout(DEADLINE)
        _connect(line, address)
        assert line.getpeername() == address
    for sock in crowd:
        sock.close()
    handover.close()
    sockets.close_all_but()
