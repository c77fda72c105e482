"""A flood of ClientHellos: each for another hostname that does not exist, and clients that leave in the handshake.

`python -m bench.tls.hello_load TASK RESULT`: two JSON files. Hellos are copies of one, in which the name is written
over: a client that floods does no arithmetic either. Those that leave send a hello for a name that exists, so that
the edge does its part, and are silent until it closes; then they come again. Each has a source address of its own.
"""

import asyncio
import socket
import ssl
from collections import Counter
from contextlib import suppress
from itertools import cycle
from random import Random
from typing import cast

import msgspec
import uvloop

from bench.lab.task_files import play_task

TICK = 0.004
"Seconds between two looks at what is due."
LABEL = 16
"Characters of the first label of a name."
DOMAIN = "flood.test"
PATIENCE = 5.0
"Seconds after which a hello without an answer is given up."


class HelloTask(msgspec.Struct, frozen=True, kw_only=True):
    """The flood."""

    port: int
    sources: list[str]
    "Local addresses, used in turn."
    rate: float
    "Hellos a second."
    halves: int
    "Clients that leave in the handshake."
    host: str
    "For which they send a hello."
    seconds: float
    seed: int


class HelloResult(msgspec.Struct, kw_only=True):
    """What came of it."""

    sent: int = 0
    seconds: float = 0.0
    ends: dict[str, int] = {}
    "How hellos ended: `alert N`, `answered`, `closed`, `silence` or `not connected`."
    halves: int = 0
    "Handshakes that were left."


def hello_for(name: str) -> bytes:
    """A ClientHello of Python's ssl."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


class _Client(asyncio.Protocol):
    """One connection: sends its hello, and waits."""

    def __init__(self, load: "HelloLoad", hello: bytes, *, leaves: bool) -> None:
        self._load = load
        self._hello = hello
        self._leaves = leaves
        self._first = b""
        self._transport: asyncio.Transport
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._hello)
        if not self._leaves:
            self._patience = self._load.loop.call_later(PATIENCE, self._give_up)

    def data_received(self, data: bytes) -> None:
        self._first = self._first or data[:7]
        if not self._leaves and self._first[:1] != b"\x15":
            self._transport.abort()  # it was answered, which is more than was asked for

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        if self._leaves:
            self._load.left()
            return
        is_alert = self._first[:1] == b"\x15" and len(self._first) == 7
        self._load.ends[f"alert {self._first[6]}" if is_alert else "answered" if self._first else "closed"] += 1

    def _give_up(self) -> None:
        self._load.ends["silence"] += 1
        self._leaves = True  # counted already
        self._transport.abort()


class HelloLoad:
    """All of them."""

    def __init__(self, task: HelloTask) -> None:
        self.loop = asyncio.get_running_loop()
        self.ends: Counter[str] = Counter()
        self._task = task
        self._rand = Random(task.seed)
        self._sources = cycle(task.sources)
        placeholder = "0" * LABEL
        before, self._behind = hello_for(f"{placeholder}.{DOMAIN}").split(placeholder.encode(), 1)
        self._before = before
        self._half = hello_for(task.host)
        self._left = 0
        self._running: set[asyncio.Task[None]] = set()
        self._is_over = False

    async def play(self) -> HelloResult:
        """Flood until the time is over. What could not be sent when it was due is not made up for later."""
        task, began, sent = self._task, self.loop.time(), 0
        for number in range(task.halves):
            self.loop.call_later(number / max(1, task.halves), self._connect, self._half, True)
        while (now := self.loop.time()) < began + task.seconds:
            due = min(int((now - began) * task.rate), sent + len(task.sources))
            for _ in range(due - sent):
                self._connect(b"%b%0*x%b" % (self._before, LABEL, self._rand.getrandbits(64), self._behind), False)
            sent = max(sent, due)
            await asyncio.sleep(TICK)
        self._is_over = True
        for running in self._running:
            running.cancel()
        return HelloResult(
            sent=sent, seconds=self.loop.time() - began, ends=dict(self.ends.most_common()), halves=self._left
        )

    def left(self) -> None:
        """The edge has closed a handshake that was left: its client comes again."""
        self._left += 1
        if not self._is_over:
            self.loop.call_later(0.1 * self._rand.random(), self._connect, self._half, True)

    def _connect(self, hello: bytes, leaves: bool) -> None:
        running = self.loop.create_task(self._begin(hello, leaves))
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _begin(self, hello: bytes, leaves: bool) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            sock.bind((next(self._sources), 0))
            await self.loop.sock_connect(sock, ("127.0.0.1", self._task.port))
            await self.loop.create_connection(lambda: _Client(self, hello, leaves=leaves), sock=sock)
        except OSError:
            sock.close()
            self.ends["not connected"] += 1
            if leaves and not self._is_over:
                self.loop.call_later(0.5, self._connect, self._half, True)


async def _play(task: HelloTask) -> HelloResult:
    return await HelloLoad(task).play()


if __name__ == "__main__":
    play_task(HelloTask, lambda task: uvloop.run(_play(task)))
