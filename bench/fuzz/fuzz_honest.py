"""A client that keeps to the rules, between all those that do not, and checks every byte that it gets."""

import hashlib
import itertools
import time
from collections.abc import Sequence
from random import Random

from bench.fuzz.fuzz_client import Line, connect, read_answers
from bench.fuzz.fuzz_oracles import Fault
from bench.fuzz.recording_backend import RecordingBackend
from bench.fuzz.strict_reader import Answered

PATIENCE = 8.0
FIELDS = frozenset(
    b"content-length transfer-encoding connection date x-request-id x-styx-edge x-styx-backend".split()
)
"All that an answer to it may have."


class Honest:
    """Asks legal requests from one address, over a kept connection or a new one, alone or several at once."""

    def __init__(self, port: int, address: str, backends: Sequence[RecordingBackend]) -> None:
        self._port = port
        self._address = address
        self._backends = backends
        self._numbers = itertools.count(1)
        self._rand = Random(address)
        self._line: Line | None = None

    async def ask(self) -> Fault | None:
        """One or more requests. What was wrong with their answers, or with what arrived."""
        # What must not be said twice is asked of a backend that never closes a connection by itself.
        safe = self._rand.random() < 0.6
        count = self._rand.choice((1, 1, 1, 3)) if safe else 1
        requests = [self._request(safe=safe) for _ in range(count)]
        if self._line is None or self._line.end != "open" or self._rand.random() < 0.2:
            self.leave()
            try:
                self._line = await connect(self._port, self._address)
            except OSError as error:
                return Fault("honest", f"cannot connect: {error}")
        line = self._line
        assert line.transport is not None
        line.data.clear()
        line.transport.write(b"".join(head + body for head, body in requests))
        methods = [head.partition(b" ")[0] for head, _ in requests]
        began = time.monotonic()
        await line.until(lambda data: len(_whole(data, methods)) >= count, PATIENCE)
        data, seconds = bytes(line.data), time.monotonic() - began
        answers, words = read_answers(data, methods, ended=False)
        fault: Fault | None
        if words or len(answers) != count or not all(answer.whole for answer in answers):
            said = f"{len(answers)} of {count} answers in {seconds:.1f} s, {line.end}: {words} {data[:300]!r}"
            fault = Fault("honest", said)
        else:
            checked = (self._check(*pair) for pair in zip(requests, answers, strict=True))
            fault = next((fault for fault in checked if fault is not None), None)
        fault = fault or self._check_arrivals(requests)
        if fault is not None:
            self.leave()
        return fault

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

    def _check(self, request: tuple[bytes, bytes], answer: Answered) -> Fault | None:
        """The answer is that of this request, to the byte."""
        method, target, _ = request[0].split(b" ", 2)
        words = [self._address.encode(), answer.value(b"x-request-id"), method, target, _digest(request)]
        body = b"" if method == b"HEAD" else b" ".join(words)
        if answer.status not in (200, 201) or answer.payload.content != body:
            return Fault(
                "honest", f"{request[0]!r} got {answer.status} {answer.fields} {answer.payload.content[:300]!r}"
            )
        if strange := {name for name, _ in answer.fields} - FIELDS:
            return Fault("honest", f"{request[0]!r} got fields of somebody else: {strange}")
        return None

    def _check_arrivals(self, requests: Sequence[tuple[bytes, bytes]]) -> Fault | None:
        """Nothing arrived in its name but what it asked."""
        asked = {request[0].split(b" ", 2)[1] for request in requests}
        for backend in self._backends:
            for arrival in backend.arrivals.pop(self._address, []):
                if arrival.asked.target not in asked or not arrival.whole:
                    return Fault(
                        "honest", f"in its name arrived {arrival.asked.method!r} {arrival.asked.target[:200]!r}"
                    )
        return None


def _whole(data: bytes, methods: list[bytes]) -> list[Answered]:
    answers, _ = read_answers(data, methods, ended=False)
    return [answer for answer in answers if answer.whole]


def _digest(request: tuple[bytes, bytes]) -> bytes:
    head, body = request
    if b"chunked" in head:
        size, _, rest = body.partition(b"\r\n")
        body = rest[: int(size, 16)]
    return hashlib.sha1(body, usedforsecurity=False).hexdigest().encode()
