"""Clients of one edge in a process of their own: uploads, requests, or visitors on new connections.

`python -m bench.hostile.hostile_clients TODO RESULT`: two JSON files; TODO is an Attack, an Asking or a Visits.
"""

import asyncio
import os
import selectors
import socket
import time
from contextlib import suppress
from random import Random
from typing import cast

import msgspec
import uvloop

from bench.lab.task_files import play_task

TURN = 0.01
"Seconds between two writes of one attacker that keeps a rate."
RESPONSE_TIME = 2.0
"Seconds for one request of a flood."
FLOOD = 256 * 1024
"Bytes that an attacker without a rate offers at once."


class Attack(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Uploads without end, all at once, each one chunked request."""

    port: int
    host: str
    clients: int
    chunk: int
    "Bytes of one chunk."
    rate: float
    "Chunks a second of each client; 0 = as many as the edge takes."
    begin: float
    "Moment of the monotonic clock."
    seconds: float
    "Then all leave at once, in the middle of their bodies."


class Requesting(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Requests at a steady rate, each on a connection of its own, whose response is read and thrown away."""

    port: int
    messages: list[bytes]
    "Sent in turn."
    clients: int
    rate: float
    "Requests a second of each client; one that still waits for a response asks later."
    begin: float
    seconds: float


class Attacked(msgspec.Struct, frozen=True, kw_only=True):
    """How much of it there was."""

    connected: int
    chunks: float
    "Sent, of all clients; or requests."
    cut: int
    "Clients that the edge closed, of those that upload."
    left: float
    "When they left, monotonic."


class Visits(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One request each, on a new connection, at random moments; nobody waits for the one before."""

    port: int
    host: str
    rate: float
    begin: float
    seconds: float
    seed: int
    timeout: float
    "Seconds for connecting, asking and the whole response."


class Visit(msgspec.Struct, frozen=True, array_like=True):
    """One of them."""

    due: float
    seconds: float
    "From when it was due to its whole response."
    ok: bool


class Visited(msgspec.Struct, kw_only=True):
    """All of them."""

    visits: list[Visit] = []
    late_ms: list[float] = []
    "How much later than due each began."


class Attackers:
    """Plays one attack with one thread: blocking sends would wait for each other."""

    def __init__(self, attack: Attack) -> None:
        self._attack = attack
        wire = b"%x\r\n%b\r\n" % (attack.chunk, b"x" * attack.chunk)
        self._wire = len(wire)
        at_once = attack.rate * TURN if attack.rate else max(1.0, FLOOD / len(wire))
        self._block = wire * max(1, round(at_once))
        self._sent = 0
        self._cut = 0

    def play(self) -> Attacked:
        attack = self._attack
        socks = [sock for _ in range(attack.clients) if (sock := self._connect()) is not None]
        connected = len(socks)
        left = dict.fromkeys(socks, self._block)
        end = attack.begin + attack.seconds
        _wait_until(attack.begin)
        if attack.rate:
            self._in_time(left, end)
        else:
            self._in_a_flood(left, end)
        gone = time.monotonic()
        for sock in socks:
            sock.close()
        return Attacked(connected=connected, chunks=self._sent / self._wire, cut=self._cut, left=gone)

    def _connect(self) -> socket.socket | None:
        try:
            sock = socket.create_connection(("127.0.0.1", self._attack.port), timeout=2)
        except OSError:
            return None
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.send(
            b"POST /sink HTTP/1.1\r\nHost: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % self._attack.host.encode()
        )
        return sock

    def _in_time(self, left: dict[socket.socket, bytes], end: float) -> None:
        """Each a block in every turn; what the edge does not take stays for the next one, and no more is added."""
        turn = self._attack.begin
        while (now := time.monotonic()) < end and left:
            for sock in list(left):
                self._send(sock, left)
            turn = max(turn + TURN, now)
            _wait_until(turn)

    def _in_a_flood(self, left: dict[socket.socket, bytes], end: float) -> None:
        with selectors.EpollSelector() as selector:
            for sock in left:
                selector.register(sock, selectors.EVENT_WRITE)
            while time.monotonic() < end and left:
                for key, _ in selector.select(0.1):
                    sock = cast(socket.socket, key.fileobj)
                    if not self._send(sock, left):
                        selector.unregister(sock)

    def _send(self, sock: socket.socket, left: dict[socket.socket, bytes]) -> bool:
        """The rest of its block, or a new one. False = the edge has closed."""
        data = left[sock]
        try:
            size = sock.send(data)
        except BlockingIOError:
            return True
        except OSError:
            del left[sock]
            self._cut += 1
            return False
        self._sent += size
        left[sock] = data[size:] or self._block
        return True


class Requesters:
    """Plays one flood of requests."""

    def __init__(self, requesting: Requesting) -> None:
        self._plan = requesting
        self._sent = 0

    async def play(self) -> Attacked:
        plan = self._plan
        async with asyncio.TaskGroup() as group:
            for number in range(plan.clients):
                group.create_task(self._send_on(plan.begin + number / plan.clients / plan.rate))
        return Attacked(connected=plan.clients, chunks=self._sent, cut=0, left=time.monotonic())

    async def _send_on(self, due: float) -> None:
        plan = self._plan
        while due < plan.begin + plan.seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(RESPONSE_TIME):
                    await self._send_request(plan.messages[self._sent % len(plan.messages)])
            due = max(due + 1 / plan.rate, time.monotonic())

    async def _send_request(self, message: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._plan.port)
        try:
            writer.write(message)
            self._sent += 1
            while await reader.read(1 << 16):
                pass
        finally:
            writer.transport.abort()


class Visitors:
    """Plays one schedule of visits."""

    def __init__(self, visits: Visits) -> None:
        self._plan = visits
        self._request = b"GET /visit HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % visits.host.encode()
        self._visited = Visited()

    async def play(self) -> Visited:
        plan, rand = self._plan, Random(self._plan.seed)
        due = plan.begin
        async with asyncio.TaskGroup() as group:
            while (due := due + rand.expovariate(plan.rate)) < plan.begin + plan.seconds:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                self._visited.late_ms.append(1e3 * (time.monotonic() - due))
                group.create_task(self._visit(due))
        return self._visited

    async def _visit(self, due: float) -> None:
        ok = False
        try:
            async with asyncio.timeout(self._plan.timeout):
                ok = (await self._send_request()).startswith(b"HTTP/1.1 200 ")
        except (OSError, TimeoutError):
            pass
        self._visited.visits.append(Visit(due, time.monotonic() - due, ok))

    async def _send_request(self) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._plan.port)
        try:
            writer.write(self._request)
            return await reader.read()
        finally:
            writer.transport.abort()


def _wait_until(moment: float) -> None:
    while (rest := moment - time.monotonic()) > 0:
        time.sleep(rest)


def play(task: Attack | Requesting | Visits) -> Attacked | Visited:
    """Come as one of them."""
    if isinstance(task, Visits):
        return uvloop.run(Visitors(task).play())
    os.nice(5)  # visitors on the same core go first: it is they who are measured
    return uvloop.run(Requesters(task).play()) if isinstance(task, Requesting) else Attackers(task).play()


if __name__ == "__main__":
    play_task(cast(type[Attack | Requesting | Visits], Attack | Requesting | Visits), play)
