"""Limits of connections to the admin server, on real sockets."""

import asyncio
import contextlib
import os
import socket

import pytest

from edge.admin.admin_connections import Bounds, peer_user

TIMEOUT = 100.0
SHORT = Bounds(head=0.2, body=0.2, response=0.4, linger=0.2, deadline_sweep=0.02)
LONG = Bounds(head=60.0, body=60.0, response=60.0, handling=60.0, deadline_sweep=0.02)
DRAIN = b'{"kind": "server", "name": "s", "seconds": 60}'


@contextlib.asynccontextmanager
async def connected(admin, *, unix=False):
    """A connection to this server: its reader and its writer."""
    opening = (
        asyncio.open_unix_connection(admin.path)
        if unix
        else asyncio.open_connection("127.0.0.1", admin.server.address.port)
    )
    reader, writer = await opening
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def to_the_end(reader) -> bytes:
    """All bytes until the server closes or resets the connection."""
    received = b""
    async with asyncio.timeout(TIMEOUT):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                received += data
    return received


async def is_served(reader, writer) -> bool:
    """Whether a request on this connection gets its response."""
    async with asyncio.timeout(TIMEOUT):
        try:
            writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b"\n")
        except (OSError, asyncio.IncompleteReadError):
            return False
        return head.startswith(b"HTTP/1.1 200 ")


def elapsed(began: float) -> float:
    return asyncio.get_running_loop().time() - began


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
@pytest.mark.parametrize("unix", [False, True])
async def test_a_head_that_does_not_come(serve, sent, unix):
    admin = await serve(bounds=LONG._replace(head=0.2))
    began = asyncio.get_running_loop().time()
    async with connected(admin, unix=unix) as (reader, writer):
        writer.write(sent)
        assert await to_the_end(reader) == b""
    assert elapsed(began) >= 0.2


async def test_a_head_that_comes_byte_by_byte(serve):
    """Each byte is in time, the head is not."""
    admin = await serve(bounds=LONG._replace(head=0.2))
    async with connected(admin) as (reader, writer):
        ended = asyncio.ensure_future(to_the_end(reader))
        for byte in b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 1000:
            writer.write(bytes([byte]))
            await asyncio.wait([ended], timeout=0.02)
            if ended.done():
                break
        assert ended.done()
        assert await ended == b""


async def test_a_further_head_that_is_slow(serve):
    admin = await serve(bounds=LONG._replace(head=0.2))
    async with connected(admin) as (reader, writer):
        assert await is_served(reader, writer)
        writer.write(b"G")
        assert await to_the_end(reader) == b""


async def test_an_idle_connection_is_closed_in_the_end(serve):
    admin = await serve(bounds=LONG._replace(head=0.1, response=0.4))
    async with connected(admin) as (reader, writer):
        for _ in range(2):
            assert await is_served(reader, writer)
        began = asyncio.get_running_loop().time()
        assert await to_the_end(reader) == b""
        assert elapsed(began) >= 0.3


async def test_a_response_that_is_not_read(serve):
    """Its connection is closed when the timeout has passed."""
    admin = await serve(bounds=LONG._replace(response=0.3))
    admin.control_api.more = "x" * (1 << 24)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", admin.server.address.port))
        await loop.sock_sendall(sock, b"GET /v1/overview HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(TIMEOUT):
            while not admin.server._connections._open:  # noqa: ASYNC110 - a client that does not read sees no event
                await asyncio.sleep(0.01)
            while admin.server._connections._open:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert await received(sock, 1 << 25) < 1 << 24


@pytest.mark.parametrize("framing", [b"Content-Length: 46", b"Transfer-Encoding: chunked"])
async def test_a_body_that_does_not_come(serve, framing):
    admin = await serve(bounds=LONG._replace(body=0.2, linger=0.1))
    async with connected(admin, unix=True) as (reader, writer):
        writer.write(b"POST /v1/drains HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n\r\n")
        response = await to_the_end(reader)
    assert response.startswith(b"HTTP/1.1 408 ")
    assert b"problem+json" in response
    assert not admin.control_api.drains()


async def test_a_body_that_nobody_reads(serve):
    """The request is rejected before; the server does not wait for the rest."""
    admin = await serve(bounds=LONG._replace(linger=0.1))
    async with connected(admin) as (reader, writer):
        writer.write(b"POST /v1/drains HTTP/1.1\r\nHost: localhost\r\nContent-Length: 46\r\n\r\n{")
        assert (await to_the_end(reader)).startswith(b"HTTP/1.1 403 ")


async def test_a_slow_body_that_is_in_time(serve):
    admin = await serve(bounds=SHORT._replace(body=5.0))
    async with connected(admin, unix=True) as (reader, writer):
        writer.write(b"POST /v1/drains HTTP/1.1\r\nHost: localhost\r\nContent-Length: 46\r\n\r\n")
        for byte in DRAIN:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)
        async with asyncio.timeout(TIMEOUT):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("unix", [False, True])
async def test_more_connections_than_there_is_room_for(serve, unix):
    """The one that has been idle for longest makes room; all others are served."""
    admin = await serve(bounds=LONG._replace(connections=4))
    async with contextlib.AsyncExitStack() as stack:
        first = [await stack.enter_async_context(connected(admin, unix=unix)) for _ in range(4)]
        for reader, writer in first:
            assert await is_served(reader, writer)
        assert await is_served(*first[0])  # which makes the second the oldest
        one_more = await stack.enter_async_context(connected(admin, unix=unix))
        assert await is_served(*one_more)
        assert await to_the_end(first[1][0]) == b""
        for open_still in (first[0], first[2], first[3], one_more):
            assert await is_served(*open_still)
        other = await stack.enter_async_context(connected(admin, unix=not unix))
        assert await is_served(*other)
        for open_still in (first[0], first[2], first[3], one_more):
            assert await is_served(*open_still), "each address has room of its own"


async def test_a_request_that_reads_makes_room_when_nothing_else_can(serve):
    """Slow requests do not block health checks."""
    admin = await serve(bounds=LONG._replace(connections=2))
    admin.control_api.hold()
    async with connected(admin) as two, connected(admin) as one:
        assert await is_served(*two)
        for _, writer in (one, two):
            writer.write(b"GET /v1/overview HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            await admin.control_api.was_asked(1)
        async with connected(admin) as three:
            assert await is_served(*three)
            assert await to_the_end(one[0]) == b""
            async with connected(admin) as four:
                assert await is_served(*four)
                assert await to_the_end(three[0]) == b""
        admin.control_api.go_on()
        assert (await to_the_end(two[0])).startswith(b"HTTP/1.1 200 ")


async def test_a_request_that_changes_something_is_not_cut_off(serve):
    admin = await serve(bounds=LONG._replace(connections=2), token="sesame")
    admin.control_api.hold()
    async with connected(admin) as one, connected(admin) as two:
        for _, writer in (one, two):
            writer.write(
                b"POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sesame\r\n"
                b"Connection: close\r\n\r\n"
            )
        await admin.control_api.was_asked(2)
        async with connected(admin) as three:
            assert not await is_served(*three)
        admin.control_api.go_on()
        for reader, _ in (one, two):
            assert (await to_the_end(reader)).startswith(b"HTTP/1.1 200 ")


async def test_replaced_connections_are_logged(serve, caplog, capsys):
    admin = await serve(bounds=SHORT._replace(connections=1))
    async with connected(admin) as one, connected(admin) as two:
        assert await is_served(*two)
        assert await to_the_end(one[0]) == b""
        assert await to_the_end(two[0]) == b""
    assert "admin_connections_full" in capsys.readouterr().out


async def test_a_head_that_is_too_large(serve):
    """Bytes beyond the limit are discarded, and the connection is closed."""
    admin = await serve(bounds=LONG._replace(linger=0.1))
    async with connected(admin) as (reader, writer):
        for number in range(100):
            writer.write(f"{'' if number else 'GET / HTTP/1.1'}\r\nX-{number}: {'y' * 4000}".encode())
        assert b"200" not in await to_the_end(reader)


async def test_a_body_larger_than_any_is_refused_at_once(serve):
    admin = await serve(bounds=LONG._replace(linger=0.1))
    for length, sent in ((100_000_000, 999), (9_000_000, 9_000_000)):
        async with connected(admin, unix=True) as (reader, writer):
            head = f"POST /v1/drains HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
            writer.write(head.encode() + b"x" * sent)
            assert (await to_the_end(reader)).startswith(b"HTTP/1.1 413 ")
    assert not admin.control_api.drains()


async def test_clients_that_do_not_read(serve):
    """Their unsent bytes together are bounded; a client that reads is served."""
    admin = await serve(bounds=LONG._replace(unsent=1 << 20))
    admin.control_api.more = "x" * (1 << 19)
    clients, requests = 16, 12
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(clients)]
        for sock in socks:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", admin.server.address.port))
            await loop.sock_sendall(sock, b"GET /v1/overview HTTP/1.1\r\nHost: localhost\r\n\r\n" * requests)
        await admin.control_api.was_asked(clients)
        async with connected(admin) as (reader, writer):
            for _ in range(clients * requests):
                assert await is_served(reader, writer)
            writer.write(b"GET /v1/overview HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert len(await to_the_end(reader)) > 1 << 19
        all_of_it = requests << 19
        got = await asyncio.gather(*(received(sock, all_of_it) for sock in socks))
        assert sum(size < all_of_it for size in got) >= clients - 4


async def received(sock, most) -> int:
    """Bytes until the other side ends, or until there are so many."""
    size = 0
    with contextlib.suppress(ConnectionError):
        while size < most and (data := await asyncio.get_running_loop().sock_recv(sock, 1 << 20)):
            size += len(data)
    return size


async def test_health_checks_run_between_scrapes(serve):
    """Scrapes take milliseconds each, one after the other; a health check does not wait for all of them."""
    admin = await serve()
    rendered = []

    class Counting:
        def collect(self):
            rendered.append(1)
            return []

    admin.registry.register(Counting())
    rendered.clear()
    async with contextlib.AsyncExitStack() as stack:
        asking = [await stack.enter_async_context(connected(admin)) for _ in range(21)]
        for connection in asking:  # all of them are accepted by now
            assert await is_served(*connection)
        for _, writer in asking[1:]:
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await is_served(*asking[0])
        assert len(rendered) < 20


def test_the_user_id_of_the_client():
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert peer_user(one) == os.geteuid()
