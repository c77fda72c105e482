"""A client that sends only legal requests while others fuzz, and checks every byte that it receives."""

import hashlib
import itertools
import time
from collections.abc import Sequence
from random import Random

from bench.fuzz.fuzz_client import Line, connect, read_responses
from bench.fuzz.fuzz_oracles import Fault
from bench.fuzz.recording_backend import RecordingBackend
from bench.fuzz.strict_reader import ResponseMessage

TIMEOUT = 8.0
FIELDS = frozenset(
    b"content-length transfer-encoding connection date x-request-id x-styx-edge x-styx-backend".split()
)
"All that a response to it may have."


class Honest:
    """Sends legal requests from one address, over a keep-alive or a new connection, alone or several at once."""

    def __init__(self, port: int, address: str, backends: Sequence[RecordingBackend]) -> None:
        self._port = port
        self._address = address
        self._backends = backends
        self._numbers = itertools.count(1)
        self._rand = Random(address)
        self._line: Line | None = None

    async def send_request(self) -> Fault | None:
        """One or more requests. What was wrong with their responses, or with what arrived."""
        # What must not be sent twice is sent to a backend that never closes a connection by itself.
        safe = self._rand.random() < 0.6
        count = self._rand.choice((1, 1, 1, 3)) if safe else 1
        requests = [self._request(safe=safe) for _ in range(count)]
        responses, words = await self.exchange(requests)
        fault: Fault | None
        if words:
            fault = Fault("honest", words)
        else:
            checked = (self._check(*pair) for pair in zip(requests, responses, strict=True))
            fault = next((fault for fault in checked if fault is not None), None)
        fault = fault or self._check_arrivals(requests)
        if fault is not None:
            self.leave()
        return fault

    async def exchange(self, requests: list[tuple[bytes, bytes]]) -> tuple[list[ResponseMessage], str]:
        """Send them at once. The response to each, or what is wrong."""
        count = len(requests)
        if self._line is None or self._line.end != "open" or self._rand.random() < 0.2:
            self.leave()
            try:
                self._line = await connect(self._port, self._address)
            except OSError as error:
                return [], f"cannot connect: {error}"
        line = self._line
        assert line.transport is not None
        line.data.clear()
        line.transport.write(b"".join(head + body for head, body in requests))
        methods = [head.partition(b" ")[0] for head, _ in requests]
        began = time.monotonic()
        await line.until(lambda data: len(_whole(data, methods)) >= count, TIMEOUT)
        data, seconds = bytes(line.data), time.monotonic() - began
        responses, words = read_responses(data, methods, ended=False)
        if words or len(responses) != count or not all(response.whole for response in responses):
            text = f"{len(responses)} of {count} responses in {seconds:.1f} s, {line.end}: {words} {data[:300]!r}"
            return [], text
        return responses, ""

    def leave(self) -> None:
        """Close the connection."""
        if self._line is not None and self._line.transport is not None:
            self._line.transport.close()
        self._line = None

    def _request(self, *, safe: bool) -> tuple[bytes, bytes]:
        token = b"/honest/%b/%d" % (self._address.encode(), next(self._numbers))
        if safe:
            method = self._rand.choice((b"GET", b"GET", b"HEAD"))
            return b"%b %b HTTP/1.1\r\nHost: legal.test\r\nX-Token: %b\r\n\r\n" % (method, token, token), b""
        body = token * self._rand.choice((1, 10, 300))
        if self._rand.random() < 0.5:
            return b"POST %b HTTP/1.1\r\nHost: steady.test\r\nContent-Length: %d\r\n\r\n" % (token, len(body)), body
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        return b"PUT %b HTTP/1.1\r\nHost: steady.test\r\nTransfer-Encoding: chunked\r\n\r\n" % token, chunked

    def _check(self, request: tuple[bytes, bytes], response: ResponseMessage) -> Fault | None:
        """The response is that of this request, to the byte."""
        method, target, _ = request[0].split(b" ", 2)
        words = [self._address.encode(), response.value(b"x-request-id"), method, target, _digest(request)]
        body = b"" if method == b"HEAD" else b" ".join(words)
        if response.status not in (200, 201) or response.payload.content != body:
            return Fault(
                "honest",
                f"{request[0]!r} got {response.status} {response.fields} {response.payload.content[:300]!r}",
            )
        if strange := {name for name, _ in response.fields} - FIELDS:
            return Fault("honest", f"{request[0]!r} got fields of somebody else: {strange}")
        return None

    def _check_arrivals(self, requests: Sequence[tuple[bytes, bytes]]) -> Fault | None:
        """Nothing arrived in its name but what it requested."""
        targets = {request[0].split(b" ", 2)[1] for request in requests}
        for backend in self._backends:
            for arrival in backend.arrivals.pop(self._address, []):
                if arrival.request.target not in targets or not arrival.whole:
                    return Fault(
                        "honest", f"in its name arrived {arrival.request.method!r} {arrival.request.target[:200]!r}"
                    )
        return None


def _whole(data: bytes, methods: list[bytes]) -> list[ResponseMessage]:
    responses, _ = read_responses(data, methods, ended=False)
    return [response for response in responses if response.whole]


def _digest(request: tuple[bytes, bytes]) -> bytes:
    head, body = request
    if b"chunked" in head:
        size, _, rest = body.partition(b"\r\n")
        body = rest[: int(size, 16)]
    return hashlib.sha1(body, usedforsecurity=False).hexdigest().encode()
