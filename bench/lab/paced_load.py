"""An open-loop load generator for high rates: requests are sent when they are due, however slow the responses are.

`python -m bench.lab.paced_load LOAD RESULT`: two JSON files. One thread, one epoll, no event loop: a request costs
some 10 µs, so that one core can send tens of thousands per second. Latency counts from when a request was due. When
all connections are busy, requests wait for one, and that counts too (no coordinated omission).
"""

import contextlib
import ctypes
import os
import select
import socket
import ssl
import time
from collections import deque
from random import Random

import msgspec

from bench.lab.task_files import play_task

END = b"\r\n\r\n"
DRAIN = 1.0
"Seconds for the responses that are outstanding at the end."
NANOSECONDS = 1_000_000_000
CLOCK_MONOTONIC = 1
TFD_NONBLOCK = 0o4000
TFD_TIMER_ABSTIME = 1
PR_SET_TIMERSLACK = 29


class PacedLoad(msgspec.Struct, frozen=True, kw_only=True):
    """Poisson arrivals over keep-alive connections."""

    port: int
    request: str
    "The head, with its blank line."
    rate: float
    "Requests per second."
    seconds: float
    warm_up: float
    "Seconds before them, in which requests are sent but not counted."
    connections: int
    "At most; they are opened at the beginning."
    seed: int
    tls_host: str = ""
    "Hostname for TLS; empty = plain HTTP."
    ca: str = ""
    "File of the authority that is trusted, with TLS."


class PacedResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, of the requests that were due after the warm-up."""

    offered: int
    completed: int
    "Whole responses with status 200."
    failed: int
    "Other statuses, connections that were closed, and handshakes that failed."
    percentiles_ms: dict[str, float]
    "Latency by percentile; empty = nothing was completed."
    late_p99_ms: float
    "How much later than due requests were sent although a connection was idle: the generator was the limit."

    @property
    def overloaded(self) -> bool:
        """Less than 98 % of the requests were completed by the end."""
        return self.completed < 0.98 * self.offered


PERCENTILES = (50.0, 90.0, 99.0, 99.9)


class Timer:
    """A timerfd, because the timeouts of epoll are whole milliseconds."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
        self.fileno = self._libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
        if self.fileno < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = (ctypes.c_long * 4)()

    def expire_at(self, moment: float) -> None:
        """Make it readable at this moment of the monotonic clock."""
        self._spec[2], self._spec[3] = divmod(max(1, int(moment * NANOSECONDS)), NANOSECONDS)
        self._libc.timerfd_settime(self.fileno, TFD_TIMER_ABSTIME, self._spec, None)


class PacedGenerator:
    """Sends one load."""

    def __init__(self, load: PacedLoad) -> None:
        self._load = load
        self._request = load.request.encode("latin-1")
        self._tls = ssl.create_default_context(cafile=load.ca) if load.tls_host else None
        self._sockets: dict[int, socket.socket] = {}
        self._idle: list[int] = []
        self._due: dict[int, float] = {}
        "When the request was due that is outstanding on a connection."
        self._received: dict[int, bytes] = {}
        self._waiting: deque[float] = deque()
        "When requests were due that have no connection yet."
        self._latencies: list[float] = []
        self._late: list[float] = []
        self._failed = 0
        self._counts_from = 0.0

    def run(self) -> PacedResult:
        load, rand = self._load, Random(self._load.seed)
        epoll, timer = select.epoll(), Timer()
        epoll.register(timer.fileno, select.EPOLLIN)
        for _ in range(load.connections):
            self._connect(epoll)
        begin = time.monotonic() + 0.05
        self._counts_from = begin + load.warm_up
        end = self._counts_from + load.seconds
        due, offered = begin + rand.expovariate(load.rate), 0
        while True:
            now = time.monotonic()
            while due <= now and due < end:
                offered += due >= self._counts_from
                self._arrive(due, now)
                due += rand.expovariate(load.rate)
            if due >= end and (not (self._due or self._waiting) or now > end + DRAIN):
                break
            timer.expire_at(due if due < end else now + 0.01)
            for descriptor, _ in epoll.poll(1.0):
                if descriptor == timer.fileno:
                    os.read(descriptor, 8)
                else:
                    self._receive(descriptor, epoll)
        for connection in self._sockets.values():
            connection.close()
        latencies = sorted(self._latencies)
        return PacedResult(
            offered=offered,
            completed=len(latencies),
            failed=self._failed,
            percentiles_ms={f"{p:g}": 1e3 * percentile(latencies, p) for p in PERCENTILES} if latencies else {},
            late_p99_ms=1e3 * percentile(sorted(self._late), 99.0) if self._late else 0.0,
        )

    def _connect(self, epoll: select.epoll) -> None:
        connection = socket.create_connection(("127.0.0.1", self._load.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            try:
                connection = self._tls.wrap_socket(connection, server_hostname=self._load.tls_host)
            except OSError:
                self._failed += 1
                return
        connection.setblocking(False)
        descriptor = connection.fileno()
        self._sockets[descriptor] = connection
        self._received[descriptor] = b""
        self._idle.append(descriptor)
        epoll.register(descriptor, select.EPOLLIN)

    def _arrive(self, due: float, now: float) -> None:
        if not self._idle:
            self._waiting.append(due)
            return
        if due >= self._counts_from:
            self._late.append(now - due)
        self._send(self._idle.pop(), due)

    def _send(self, descriptor: int, due: float) -> None:
        self._due[descriptor] = due
        with contextlib.suppress(OSError):  # epoll reports the end of the connection
            self._sockets[descriptor].send(self._request)

    def _receive(self, descriptor: int, epoll: select.epoll) -> None:
        try:
            data = self._sockets[descriptor].recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):  # such as after a session ticket
            return
        except OSError:
            data = b""
        if not data:
            self._closed(descriptor, epoll)
            return
        data = self._received[descriptor] + data
        if not is_complete(data):
            self._received[descriptor] = data
            return
        self._received[descriptor] = b""
        due = self._due.pop(descriptor)
        if due >= self._counts_from:
            if data.startswith(b"HTTP/1.1 200 "):
                self._latencies.append(time.monotonic() - due)
            else:
                self._failed += 1
        if self._waiting:
            self._send(descriptor, self._waiting.popleft())
        else:
            self._idle.append(descriptor)

    def _closed(self, descriptor: int, epoll: select.epoll) -> None:
        """A request that was outstanding has failed; another connection takes the place of this one."""
        if self._due.pop(descriptor, 0.0) >= self._counts_from:
            self._failed += 1
        else:
            self._idle = [idle for idle in self._idle if idle != descriptor]
        epoll.unregister(descriptor)
        self._sockets.pop(descriptor).close()
        self._connect(epoll)
        if self._waiting and self._idle:
            self._send(self._idle.pop(), self._waiting.popleft())


def is_complete(data: bytes) -> bool:
    """Whether this is a whole response: its head, and a body of the length in Content-Length."""
    end = data.find(END)
    if end < 0:
        return False
    length = data[:end].lower().partition(b"\r\ncontent-length:")[2].split(b"\r\n", 1)[0].strip()
    return len(data) >= end + len(END) + (int(length) if length.isdigit() else 0)


def percentile(ordered: list[float], percent: float) -> float:
    """Of values in ascending order, without interpolation."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


if __name__ == "__main__":
    play_task(PacedLoad, lambda load: PacedGenerator(load).run())
