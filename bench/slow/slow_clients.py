"""Thousands of clients that send a few bytes now and then, in a process of their own.

`python -m bench.slow.slow_clients CROWD RESULT`: two JSON files. One that was cut off comes back at once, until the
time is up; then each is waited for until it is cut off too. No event loop: a wheel of 1 ms slots costs less than
timers.
"""

import os
import selectors
import socket
import time
from collections import deque
from math import log
from random import Random

import msgspec

from bench.lab.task_files import play_task

SLOT = 0.001
SLOTS = 1024
SHORTEST, LONGEST = 250, 1000
"Slots between two pieces of one client."
PIECES_A_SECOND = log(LONGEST / SHORTEST) / (LONGEST - SHORTEST) / SLOT
"Of one client, on average: their times between pieces are drawn evenly from these bounds."
MOST = 200
"Bytes a second that a client sends at most."


class SlowLoad(msgspec.Struct, frozen=True, kw_only=True):
    """Who comes."""

    port: int
    host: str
    heads: int
    "Clients slow in the head."
    bodies: int
    "Clients slow in the body; every other one chunked."
    ramp: float
    "Seconds over which they arrive."
    seconds: float
    "After so long nobody comes back."
    time_limit: float
    "Seconds after which one that was not cut off is given up."
    seed: int
    until_cut: bool = True
    "False: when the time is up, all leave."
    polite: bool = True
    "Normal traffic on the same core goes first, at once: it is what is measured."


class SlowConnection(msgspec.Struct, frozen=True):
    """One connection."""

    kind: str
    '"head", "length" or "chunked"'
    seconds: float
    "From the first byte to the end of the other side."
    status: int
    "Of the response; 0 = none."
    ending: str
    '"cut", or "left" when it had to leave by itself.'


class SlowResult(msgspec.Struct):
    """What became of all of them."""

    connections: list[SlowConnection] = []
    unconnected: int = 0
    most_at_once: int = 0
    sent: int = 0
    "Pieces."


class Client:
    """One that is slow."""

    __slots__ = ("began", "every", "head", "kind", "piece", "response", "sock")

    def __init__(self, kind: str, sock: socket.socket, head: bytes, piece: bytes, every: int) -> None:
        self.kind = kind
        self.sock = sock
        self.head = head
        "What is sent at once, first."
        self.piece = piece
        self.every = every
        "Slots between pieces."
        self.began = 0.0
        self.response = b""


class TimerWheel:
    """Plays one crowd."""

    def __init__(self, load: SlowLoad) -> None:
        self.result = SlowResult()
        self._load = load
        self._rand = Random(load.seed)
        self._slots: list[list[Client]] = [[] for _ in range(SLOTS)]
        self._selector = selectors.EpollSelector()
        self._alive: set[Client] = set()

    def play(self) -> SlowResult:
        load = self._load
        kinds = ["head"] * load.heads + ["length", "chunked"] * (load.bodies // 2)
        self._rand.shuffle(kinds)
        waiting = deque((load.ramp * n / len(kinds), kind) for n, kind in enumerate(kinds))
        start = turn = now = time.monotonic()
        tick = 0
        while waiting or self._alive:
            while waiting and waiting[0][0] <= now - start:
                self._arrive(waiting.popleft()[1], tick, now)
            clients, self._slots[tick % SLOTS] = self._slots[tick % SLOTS], []
            for client in clients:
                self._trickle(client, tick, now)
            tick += 1
            turn += SLOT
            while (rest := turn - time.monotonic()) > 0:
                self._receive_until(rest, start, waiting)
            self._receive_until(0, start, waiting)
            now = time.monotonic()
            # Whoever is late stays late: to catch up would be a burst, which clients on their own are not.
            turn = max(turn, now - SLOT)
            if now - start > load.seconds:
                if not load.until_cut:
                    break
                waiting.clear()
            self.result.most_at_once = max(self.result.most_at_once, len(self._alive))
        return self.result

    def _arrive(self, kind: str, tick: int, now: float) -> None:
        sock = socket.socket()
        try:
            sock.connect(("127.0.0.1", self._load.port))
        except OSError:
            self.result.unconnected += 1
            sock.close()
            return
        sock.setblocking(False)
        every = self._rand.randint(SHORTEST, LONGEST)
        size = self._rand.randint(1, int(MOST * every * SLOT))
        client = Client(kind, sock, *_words(kind, self._load.host, size), every)
        client.began = now
        self._alive.add(client)
        self._selector.register(sock, selectors.EVENT_READ, client)
        self._slots[(tick + 1 + self._rand.randrange(every)) % SLOTS].append(client)
        if client.head:
            sock.send(client.head)

    def _trickle(self, client: Client, tick: int, now: float) -> None:
        if client not in self._alive:
            return
        if now - client.began > self._load.time_limit:
            self._close(client, now, "left")
            return
        try:
            client.sock.send(client.piece)
        except BlockingIOError:
            pass
        except OSError:
            return  # the selector reports the end
        self.result.sent += 1
        self._slots[(tick + client.every) % SLOTS].append(client)

    def _receive_until(self, time_limit: float, start: float, waiting: "deque[tuple[float, str]]") -> None:
        for key, _ in self._selector.select(time_limit):
            client: Client = key.data
            now = time.monotonic()
            try:
                data = client.sock.recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            client.response += data
            if not data:
                self._close(client, now, "cut")
                if now - start < self._load.seconds:
                    waiting.append((now - start, client.kind))

    def _close(self, client: Client, now: float, ending: str) -> None:
        self._alive.discard(client)
        self._selector.unregister(client.sock)
        client.sock.close()
        status = client.response[9:12]
        self.result.connections.append(
            SlowConnection(client.kind, now - client.began, int(status) if status.isdigit() else 0, ending)
        )


def _words(kind: str, host: str, size: int) -> tuple[bytes, bytes]:
    """What one of this kind says at once, and then in pieces."""
    line = b"GET /slow HTTP/1.1" if kind == "head" else b"POST /slow HTTP/1.1"
    head = line + b"\r\nHost: %b\r\n" % host.encode()
    if kind == "head":
        return head + b"X-Slow: ", b"a" * size
    if kind == "length":
        return head + b"Content-Length: 100000000\r\n\r\n", b"b" * size
    # The beginning of a chunk without end: pieces of it are bytes of the body.
    return head + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n", b"c" * size


def play(load: SlowLoad) -> SlowResult:
    """Come, and be slow."""
    if load.polite:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    return TimerWheel(load).play()


if __name__ == "__main__":
    play_task(SlowLoad, play)
