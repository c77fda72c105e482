"""An open-loop load of HTTP/2 streams, in a process of its own; task and result are those of `availability_load`.

`python -m bench.h2.h2_availability_load LOAD RESULT`. Every 16th request opens a connection, which stays for some
time; the others are streams of those that are there. A stream is lost if the whole right response did not come.
Only those that the server says it has not begun (REFUSED_STREAM, or beyond the last stream of a GOAWAY) are sent
again, on another connection: RFC 9113 tells clients to.
"""

from collections import deque
from collections.abc import Callable

from bench.h2.h2_client import H2Wire, NotProcessed, get
from bench.lab.availability_load import AvailabilityResult, EchoRequest, Lost, OpenLoop, main

TRIES = 5
"Connections on which a request is tried that was not begun."


class H2AvailabilityGenerator(OpenLoop[H2Wire]):
    """Plays one load over HTTP/2."""

    new_every = 16

    async def play(self, begin: Callable[[], None]) -> AvailabilityResult:
        self._wires.append(await H2Wire.open(self._load.port))
        return await super().play(begin)

    async def _send(self, number: int, used: list[H2Wire]) -> None:
        request = EchoRequest.drawn(self._rand, self._load.hosts, number)
        fields = get(request.site, request.target, method=request.method)
        if request.body:
            fields.append((b"content-length", b"%d" % len(request.body)))
        for attempt in range(TRIES):
            wire = await self._wire(new=not number % self.new_every or attempt > 1)
            used.append(wire)
            try:
                response = await wire.request(fields, request.body)
            except NotProcessed:
                self._load_result.closed_between += 1
                continue
            if response.status != 200:
                raise Lost(f"{response.status} {response.fields.get(b'x-styx-error', b'').decode()}".strip())
            request.check(bytes(response.body))
            return
        raise Lost("never begun")

    def _give_up(self, used: list[H2Wire], begun: float) -> float:
        return begun

    async def _wire(self, *, new: bool) -> H2Wire:
        """A connection that takes requests. The oldest is closed, when its streams are served, for a new one."""
        self._wires = deque(wire for wire in self._wires if not (wire.is_gone or wire.is_leaving))
        if new or not self._wires:
            wire = await H2Wire.open(self._load.port)
            self._wires.append(wire)
            if len(self._wires) > self._load.keep_alive:
                self._wires.popleft().leave()
            return wire
        self._wires.rotate(-1)
        return self._wires[0]


if __name__ == "__main__":
    main(H2AvailabilityGenerator)
