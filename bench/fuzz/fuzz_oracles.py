"""Checks one fuzzed connection: sent and forwarded requests, backend and forwarded responses must agree. Pure.

Nothing is expected of a mutated message but this: what styx made of it is what a strict reader makes of it, or
less.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bench.fuzz.fuzz_client import Received
from bench.fuzz.fuzz_seeds import MARK, Kind, Message
from bench.fuzz.mutations import Act, Steps, sent
from bench.fuzz.recording_backend import BY_THE_EDGE, Arrival, echo_of
from bench.fuzz.strict_reader import (
    Faulty,
    Reading,
    RequestMessage,
    ResponseMessage,
    State,
    Unfinished,
    read_requests,
    read_response,
)

SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
RESPONSE_FIELDS_OF_THE_EDGE = frozenset(
    b"content-length transfer-encoding connection upgrade date x-request-id x-styx-edge x-styx-backend".split()
)
DAWDLING = 1.0
"Seconds by which a client may be behind its script before styx may take it for a slow one. Half of its time limit."
HANG = 9.0
"Seconds after which a complete request must have been completed, or its connection ended."


class Fault(NamedTuple):
    """Something that must not be."""

    kind: str
    words: str


def judge(message: Message, received: Received, arrivals: Sequence[Arrival]) -> list[Fault]:
    """Everything that is wrong about one message."""
    reading = read_requests(sent(message.client))
    copies = [arrival for arrival in arrivals if arrival.is_probe]
    arrivals = [arrival for arrival in arrivals if not arrival.is_probe]
    faults = [*_arrived(message, reading, arrivals), *_came_back(message, reading, received, arrivals)]
    faults += [fault for copy in copies for fault in _copied(reading, copy)]
    if message.plain and not faults:
        faults += _plain(reading, received)
    return faults


# what arrived


def _arrived(message: Message, reading: Reading, arrivals: Sequence[Arrival]) -> Iterator[Fault]:
    data, at = sent(message.client), 0
    known: dict[bytes, Arrival] = {}
    for arrival in arrivals:
        if arrival.id in known:
            yield from _repeated(message, known[arrival.id], arrival)
            continue
        known[arrival.id] = arrival
        same_head = [
            n for n in range(at, len(reading.requests)) if _same_head(reading.requests[n], arrival.request)
        ]
        same = [n for n in same_head if _same_body(reading.requests[n], arrival)]
        if not same_head:
            yield Fault("split", f"nobody sent {_described(arrival.request)}; {reading.fault or 'no fault'}")
        elif not same:
            request = reading.requests[same_head[0]]
            yield Fault(
                "body", f"{_described(arrival.request)} came {_size(arrival.request)}, but was {_size(request)}"
            )
        else:
            # Of two that differ in their fields only the first may not have arrived at all.
            chosen = next((n for n in same if not any(_unaltered(reading.requests[n], arrival))), same[0])
            at = chosen + 1
            yield from _unaltered(reading.requests[chosen], arrival)
            behind = data[reading.requests[chosen].payload.end :]
            if not behind.startswith(bytes(arrival.tunnelled)):
                yield Fault("tunnel", f"{bytes(arrival.tunnelled[:200])!r} came out, {behind[:200]!r} went in")


def _copied(reading: Reading, copy: Arrival) -> Iterator[Fault]:
    """A probe is a request of this client, word for word, and one that may be sent twice."""
    same = [
        request
        for request in reading.requests
        if _same_head(request, copy.request) and not any(_unaltered(request, copy))
    ]
    if not same or copy.request.payload.content:
        yield Fault("probe", f"nobody sent {_described(copy.request)}")
    elif copy.request.method not in SAFE:
        yield Fault("probe", f"{_described(copy.request)} was copied")


def _same_head(request: RequestMessage, arrived: RequestMessage) -> bool:
    return (request.method, request.target, request.host) == (arrived.method, arrived.target, arrived.host)


def _same_body(request: RequestMessage, arrival: Arrival) -> bool:
    content = arrival.request.payload.content
    if arrival.whole:
        return request.whole and content == request.payload.content
    return request.payload.content.startswith(content)


def _unaltered(request: RequestMessage, arrival: Arrival) -> Iterator[Fault]:
    for name, value in arrival.request.fields:
        if name not in BY_THE_EDGE and (name, value) not in request.fields:
            yield Fault("field", f"{name!r}: {value[:100]!r} was not sent")
    for trailer in arrival.request.payload.trailers:
        if trailer not in request.payload.trailers:
            yield Fault("field", f"trailer {trailer!r} was not sent")


def _repeated(message: Message, first: Arrival, again: Arrival) -> Iterator[Fault]:
    if not _same_head(first.request, again.request):
        yield Fault("merged", f"one id for {_described(first.request)} and {_described(again.request)}")
    elif first.request.method not in SAFE and not refuses(message.backend, first.request):
        yield Fault("twice", f"{_described(first.request)} was sent again")


def refuses(steps: Steps, request: RequestMessage) -> bool:
    """Whether this response proves that the request was not processed."""
    try:
        original = read_response(sent(steps), method=request.method, ended=True)
    except (Faulty, Unfinished):
        return False
    return original.status == 421 or any(name == b"x-styx-refused" for name, _ in original.fields)


def _described(request: RequestMessage) -> str:
    return f"{request.method!r} {request.target[:120]!r} at {request.host!r}"


def _size(request: RequestMessage) -> str:
    return f"{request.payload.state.value} with {len(request.payload.content)} bytes"


# what came back


def departs(steps: Steps) -> bool:
    """Whether the client leaves without waiting for its responses."""
    return bool(steps) and steps[-1].act is not Act.SEND


def _came_back(
    message: Message, reading: Reading, received: Received, arrivals: Sequence[Arrival]
) -> Iterator[Fault]:
    if received.fault:
        yield Fault("stream", f"{received.fault}: {received.data[-300:]!r}")
    if received.end == "open" and received.seconds >= HANG and len(received.responses) < len(reading.whole):
        yield Fault(
            "hang",
            f"{len(received.responses)} responses to {len(reading.whole)} requests in {received.seconds:.1f} s",
        )
    if received.end == "open" and received.seconds >= HANG and departs(message.client):
        yield Fault("hang", f"still open {received.seconds:.1f} s after the client sent its end")
    by_id = {arrival.id: arrival for arrival in arrivals}
    for number, response in enumerate(received.responses):
        names = [name for name, _ in response.fields]
        if names.count(b"x-request-id") != 1 or names.count(b"x-styx-edge") != 1:
            yield Fault("marks", f"{response.status} without one X-Request-Id and X-Styx-Edge: {response.fields}")
            continue
        arrival = by_id.get(response.value(b"x-request-id"))
        if b"x-styx-error" in names:
            if MARK in response.payload.content or any(MARK in value for _, value in response.fields):
                yield Fault("mixed", f"a response of the edge with words of a backend: {response.fields}")
        elif b"x-styx-backend" not in names:
            methods = [request.method for request in reading.requests[number : number + 1]]
            if response.status != 200 or methods not in ([b"OPTIONS"], [b"TRACE"]):
                yield Fault("marks", f"{response.status} from nobody: {response.fields}")
        elif arrival is None:
            yield Fault("crossed", f"a response to a request that never arrived: {response.fields}")
        elif message.kind is Kind.REQUEST:
            yield from _echoed(response, arrival)
        else:
            yield from relayed(message.backend, response, arrival)


def _echoed(response: ResponseMessage, arrival: Arrival) -> Iterator[Fault]:
    if response.status not in (200, 201):
        yield Fault("crossed", f"{response.status}, which the backend never says here")
    elif arrival.request.method != b"HEAD" and response.whole and response.payload.content != echo_of(arrival):
        yield Fault("crossed", f"{response.payload.content[:200]!r} instead of {echo_of(arrival)[:200]!r}")


def relayed(steps: Steps, got: ResponseMessage, arrival: Arrival) -> Iterator[Fault]:
    data = sent(steps)
    ended = bool(steps) and steps[-1].act is Act.CLOSE
    upgrades = arrival.request.upgrades
    try:
        original = read_response(data, method=arrival.request.method, ended=ended, upgrades=upgrades)
    except (Faulty, Unfinished) as fault:
        yield Fault("passed", f"{got.status} came of a response that cannot be read: {fault}: {data[:300]!r}")
        return
    if got.status != original.status:
        yield Fault("passed", f"{got.status} came of {original.status}: {data[:300]!r}")
        return
    if not original.payload.content.startswith(got.payload.content):
        yield Fault("response", f"{got.payload.content[:100]!r} came of {original.payload.content[:100]!r}")
    elif (
        got.whole and got.status != 101 and (not original.whole or got.payload.content != original.payload.content)
    ):
        yield Fault(
            "completed", f"whole with {len(got.payload.content)} bytes, of {_state(original)}: {data[:300]!r}"
        )
    for name, value in got.fields:
        if name not in RESPONSE_FIELDS_OF_THE_EDGE and (name, value) not in original.fields:
            yield Fault("field", f"{name!r}: {value[:100]!r} was not sent by the backend")


def _state(original: ResponseMessage) -> str:
    return f"{original.payload.state.value} with {len(original.payload.content)}"


def _plain(reading: Reading, received: Received) -> Iterator[Fault]:
    """Legal messages work. An unsafe request may meet a connection that its backend closes just then: 502, and the
    client's connection may end behind it. A client that stood still itself was too slow."""
    completed = 0
    for request, response in zip(reading.requests, received.responses, strict=False):
        error = response.value(b"x-styx-error")
        if error == b"closed_early" and request.method not in SAFE:
            if response.value(b"connection") == b"close":
                return
        elif error == b"request_timeout" and received.dawdled > DAWDLING:
            return
        elif error or response.payload.state is not State.WHOLE:
            yield Fault("legal", f"{response.status} {error.decode()} to the legal {_described(request)}")
        completed += 1
    if completed < len(reading.requests):
        yield Fault(
            "legal", f"{completed} responses to {len(reading.requests)} legal requests, then {received.end}"
        )
