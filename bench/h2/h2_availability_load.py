"""An open-loop load of HTTP/2 streams, in a process of its own; task and result are those of `availability_load`.

`python -m bench.h2.h2_availability_load LOAD RESULT`. Every 16th request opens a connection, which stays for some
time; the others are streams of those that are there. A stream is lost if the whole right response did not come.
Only those that the server says it has not begun (REFUSED_STREAM, or beyond the last stream of a GOAWAY) are sent
again, on another connection: RFC 9113 tells clients to.
"""

import asyncio
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec
import uvloop

from bench.h2.h2_client import H2Wire, NotProcessed, get
from bench.lab.availability_load import (
    BODY,
    LARGE,
    WRONG_BODY,
    WRONG_SITE,
    AvailabilityLoad,
    AvailabilityResult,
    Completed,
    Fault,
    Lost,
    echo,
)

NEW_EVERY = 16
"One request of so many opens a connection."
TRIES = 5
"Connections on which a request is tried that was not begun."


class H2AvailabilityGenerator:
    """Plays one load."""

    def __init__(self, load: AvailabilityLoad) -> None:
        self._load = load
        self._result = AvailabilityResult()
        self._wires: deque[H2Wire] = deque()
        self._rand = Random(load.seed)
        self._enough = False

    async def play(self, begin: Callable[[], None]) -> AvailabilityResult:
        """`begin` is called when it begins."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._stop)
        self._wires.append(await H2Wire.open(self._load.port))
        begin()
        due = time.monotonic()
        end = due + self._load.seconds
        async with asyncio.TaskGroup() as requests:
            while (due := due + self._rand.expovariate(self._load.rate)) < end or not self._enough:
                if due > time.monotonic():
                    await asyncio.sleep(due - time.monotonic())
                requests.create_task(self._one(self._result.offered, due))
                self._result.offered += 1
        for wire in self._wires:
            wire.close()
        return self._result

    def _stop(self) -> None:
        self._enough = True

    async def _one(self, number: int, due: float) -> None:
        self._result.late_ms.append(1e3 * (time.monotonic() - due))
        used: list[H2Wire] = []
        sent = time.monotonic()
        try:
            async with asyncio.timeout(self._load.time_limit):
                await self._send(number, used)
        except (Lost, NotProcessed, TimeoutError) as error:
            port = used[-1].port if used else 0
            kind = str(error) or ("timeout" if isinstance(error, TimeoutError) else "never begun")
            seen = time.monotonic()
            self._result.faults.append(
                Fault(kind=kind, keep_alive=bool(number % NEW_EVERY), port=port, due=due, sent=sent, seen=seen)
            )
            return
        self._result.completed.append(Completed(used[-1].port, due, time.monotonic()))

    async def _send(self, number: int, used: list[H2Wire]) -> None:
        rand = self._rand
        host = self._load.hosts[number % len(self._load.hosts)]
        body = rand.randbytes(rand.randint(1, BODY)) if rand.random() < 0.2 else b""
        target = f"/{rand.getrandbits(64):x}/{LARGE if number % 20 < 2 else 0}"
        method = "POST" if body else "GET"
        fields = get(host, target, method=method)
        if body:
            fields.append((b"content-length", b"%d" % len(body)))
        for attempt in range(TRIES):
            wire = await self._wire(new=not number % NEW_EVERY or attempt > 1)
            used.append(wire)
            try:
                response = await wire.request(fields, body)
            except NotProcessed:
                self._result.closed_between += 1
                continue
            if response.status != 200:
                raise Lost(f"{response.status} {response.fields.get(b'x-styx-error', b'').decode()}".strip())
            if bytes(response.body) != echo(method, host, target, body):
                is_site = bytes(response.body).split(b" ", 2)[1:2] == [host.encode()]
                raise Lost(WRONG_BODY if is_site else WRONG_SITE)
            return
        raise NotProcessed

    async def _wire(self, *, new: bool) -> H2Wire:
        """A connection that takes requests. The oldest is closed, when its streams are served, for a new one."""
        self._wires = deque(wire for wire in self._wires if not (wire.is_gone or wire.is_leaving))
        if new or not self._wires:
            wire = await H2Wire.open(self._load.port)
            self._wires.append(wire)
            if len(self._wires) > self._load.keep_alive:
                oldest = self._wires.popleft()
                oldest.is_leaving = True
                if not oldest.streams:
                    oldest.close()
            return wire
        self._wires.rotate(-1)
        return self._wires[0]


def main(load: Path, result: Path) -> None:
    """Read, play, write."""
    todo = msgspec.json.decode(load.read_bytes(), type=AvailabilityLoad)
    load_result = uvloop.run(H2AvailabilityGenerator(todo).play(result.with_suffix(".began").touch))
    result.write_bytes(msgspec.json.encode(load_result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
