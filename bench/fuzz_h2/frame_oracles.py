"""Checks one fuzzed HTTP/2 connection: streams and forwarded requests, backend and responses must agree. Pure.

Nothing is expected of a mutated sequence but this: what styx made of it is what a strict reader makes of it, or
less.
"""

from collections.abc import Iterator, Sequence

from bench.fuzz.fuzz_client import Received
from bench.fuzz.fuzz_oracles import DAWDLING, HANG, SAFE, Fault, departs, refuses, relayed
from bench.fuzz.fuzz_seeds import MARK, Kind, Message
from bench.fuzz.mutations import sent
from bench.fuzz.recording_backend import BY_THE_EDGE, Arrival, echo_of
from bench.fuzz.strict_reader import Payload, ResponseMessage, State
from bench.fuzz_h2.frame_reader import GotReading, GotStream, SentReader, SentReading, SentStream, read_edge

HANDSHAKE = frozenset((b"sec-websocket-key", b"sec-websocket-accept"))


def judge(message: Message, received: Received, arrivals: Sequence[Arrival]) -> list[Fault]:
    """Everything that is wrong about one connection."""
    reading = SentReader().read(sent(message.client))
    got = read_edge(received.data, reading.largest_frame)
    copies = [arrival for arrival in arrivals if arrival.is_probe]
    arrivals = [arrival for arrival in arrivals if not arrival.is_probe]
    faults = [Fault("frames", words) for words in got.faults]
    faults += [*_arrived(message, reading, arrivals), *_copied(reading, copies)]
    faults += [*_came_back(message, reading, got, arrivals), *_flowed(reading, got)]
    faults += _ended(message, reading, got, received)
    if message.plain and not faults:
        faults += _plain(reading, got, received)
    return faults


# what arrived


def _arrived(message: Message, reading: SentReading, arrivals: Sequence[Arrival]) -> Iterator[Fault]:
    known: dict[bytes, Arrival] = {}
    firsts: list[Arrival] = []
    for arrival in arrivals:
        if arrival.id in known:
            first = known[arrival.id].request
            if (first.method, first.target) != (arrival.request.method, arrival.request.target):
                yield Fault("merged", f"one id for {first.target!r} and {arrival.request.target!r}")
            elif first.method not in SAFE and not refuses(message.backend, first):
                yield Fault("twice", f"{first.method!r} {first.target!r} was sent again")
            continue
        known[arrival.id] = arrival
        firsts.append(arrival)
    streams = [stream for stream in reading.streams.values() if stream.request is not None]
    taken = _matched(streams, firsts)
    left = [stream for stream in streams if id(stream) not in taken]
    found = {id(arrival) for arrival in taken.values()}
    for arrival in firsts:
        if id(arrival) in found:
            continue
        same = [stream for stream in left if _is_same(stream, arrival)]
        if not same:
            what = f"{arrival.request.method!r} {arrival.request.target[:120]!r} at {arrival.request.host!r}"
            yield Fault("split", f"nobody sent {what}, {_size(arrival)}; {reading.fault or 'no fault'}")
            continue
        chosen = min(same, key=lambda stream: _distance(stream, arrival))
        yield from _altered(chosen, arrival)
        left.remove(chosen)


def _matched(streams: Sequence[SentStream], arrivals: Sequence[Arrival]) -> dict[int, Arrival]:
    """As many arrivals as possible, by the id of the object of a stream that each can be; a stream has one at most.
    Streams of one client are often alike, and one that arrived in part, or without its trailers, may be several."""
    taken: dict[int, Arrival] = {}

    def assign(arrival: Arrival, tried: set[int]) -> bool:
        for stream in streams:
            if id(stream) in tried or not _is_same(stream, arrival) or any(_altered(stream, arrival)):
                continue
            tried.add(id(stream))
            if id(stream) not in taken or assign(taken[id(stream)], tried):
                taken[id(stream)] = arrival
                return True
        return False

    for arrival in arrivals:
        assign(arrival, set())
    return taken


def _copied(reading: SentReading, copies: Sequence[Arrival]) -> Iterator[Fault]:
    for copy in copies:
        if copy.request.method not in SAFE or not any(_is_same(s, copy) for s in reading.streams.values()):
            yield Fault("probe", f"nobody sent {copy.request.method!r} {copy.request.target[:120]!r}")


def _is_same(stream: SentStream, arrival: Arrival) -> bool:
    request, came = stream.request, arrival.request
    if request is None or (request.method, request.target, request.host) != (came.method, came.target, came.host):
        return False
    if stream.is_tunnel:
        return request.payload.content.startswith(bytes(arrival.tunnelled)) and not came.payload.content
    if arrival.whole:
        return request.whole and came.payload.content == request.payload.content
    return request.payload.content.startswith(came.payload.content)


def _altered(stream: SentStream, arrival: Arrival) -> Iterator[Fault]:
    assert stream.request is not None
    for name, value in arrival.request.fields:
        if name not in BY_THE_EDGE and name not in HANDSHAKE and (name, value) not in stream.request.fields:
            yield Fault("field", f"{name!r}: {value[:100]!r} was not sent")
    for trailer in arrival.request.payload.trailers:
        if trailer not in stream.request.payload.trailers:
            yield Fault("field", f"trailer {trailer!r} was not sent")


def _distance(stream: SentStream, arrival: Arrival) -> tuple[int, int]:
    """How far they are from each other: fields that were not sent, and fields that did not come."""
    assert stream.request is not None
    return len(list(_altered(stream, arrival))), len(set(stream.request.fields) - set(arrival.request.fields))


def _size(arrival: Arrival) -> str:
    return f"{arrival.request.payload.state.value} with {len(arrival.request.payload.content)} bytes"


# what came back


def _came_back(
    message: Message, reading: SentReading, got: GotReading, arrivals: Sequence[Arrival]
) -> Iterator[Fault]:
    by_id = {arrival.id: arrival for arrival in arrivals}
    for number, stream in got.streams.items():
        sent_stream = reading.streams.get(number)
        if stream.status and sent_stream is None:
            yield Fault("stray", f"a response on stream {number}, which the client has not opened")
            continue
        if not stream.status or sent_stream is None:
            continue
        names = [name for name, _ in stream.fields]
        if names.count(b"x-request-id") != 1 or names.count(b"x-styx-edge") != 1:
            yield Fault("marks", f"{stream.status} without one X-Request-Id and X-Styx-Edge: {stream.fields}")
            continue
        yield from _counted(sent_stream, stream)
        arrival = by_id.get(stream.value(b"x-request-id"))
        if b"x-styx-error" in names:
            if MARK in stream.body or any(MARK in value for _, value in stream.fields):
                yield Fault("mixed", f"a response of the edge with words of a backend: {stream.fields}")
        elif b"x-styx-backend" not in names:
            if stream.status != 200 or sent_stream.request is None or sent_stream.request.method != b"OPTIONS":
                yield Fault("marks", f"{stream.status} from nobody: {stream.fields}")
        elif arrival is None:
            yield Fault("crossed", f"a response to a request that never arrived: {stream.fields}")
        elif message.kind is Kind.REQUEST:
            yield from _echoed(stream, arrival)
        elif not sent_stream.is_tunnel:
            yield from relayed(message.backend, as_response(stream), arrival)


def _counted(sent_stream: SentStream, got: GotStream) -> Iterator[Fault]:
    length, request = got.value(b"content-length"), sent_stream.request
    has_none = got.status in (204, 304) or (request is not None and request.method == b"HEAD")
    if has_none and got.body:
        yield Fault("body", f"{len(got.body)} bytes of a response {got.status} that has no body")
    if length and got.ended and not has_none and request is not None and int(length) != len(got.body):
        yield Fault("body", f"{len(got.body)} bytes of {length!r}, and the end")


def _echoed(got: GotStream, arrival: Arrival) -> Iterator[Fault]:
    if got.status not in (200, 201):
        yield Fault("crossed", f"{got.status}, which the backend never says here")
    elif arrival.request.method != b"HEAD" and got.ended and bytes(got.body) != echo_of(arrival):
        yield Fault("crossed", f"{bytes(got.body[:200])!r} instead of {echo_of(arrival)[:200]!r}")


def as_response(got: GotStream) -> ResponseMessage:
    """The response of a stream, as the reader of HTTP/1.1 would have seen it."""
    state = State.WHOLE if got.ended else State.PARTIAL
    payload = Payload(state, bytes(got.body), len(got.body), list(got.trailers))
    return ResponseMessage(1, got.status, got.fields, payload, got.interims)


def _flowed(reading: SentReading, got: GotReading) -> Iterator[Fault]:
    """No more came than there was credit for (section 5.2 of RFC 9113)."""
    if sum(len(stream.body) for stream in got.streams.values()) > reading.window:
        yield Fault("window", f"more than {reading.window} bytes on the connection")
    for number, stream in got.streams.items():
        window = reading.initial_window + reading.stream_windows.get(number, 0)
        if len(stream.body) > window:
            yield Fault("window", f"{len(stream.body)} bytes on stream {number}, of {window}")


def _ended(message: Message, reading: SentReading, got: GotReading, received: Received) -> Iterator[Fault]:
    if received.end != "open" or received.seconds < HANG:
        return
    if departs(message.client):
        yield Fault("hang", f"still open {received.seconds:.1f} s after the client sent its end")
    waiting = [number for number, stream in reading.streams.items() if stream.ended and not got.is_over(number)]
    if reading.is_calm and not reading.fault and waiting:
        yield Fault("hang", f"streams {waiting} without an end after {received.seconds:.1f} s, GOAWAY {got.goaway}")


def _plain(reading: SentReading, got: GotReading, received: Received) -> Iterator[Fault]:
    """Legal sequences work. An unsafe request may meet a connection that its backend closes just then."""
    if received.dawdled > DAWDLING:
        return
    for number, stream in reading.streams.items():
        seen, request = got.streams.get(number, GotStream()), stream.request
        error = seen.value(b"x-styx-error")
        if request is None or (error == b"closed_early" and request.method not in SAFE):
            continue
        if error or not seen.ended:
            what = f"{request.method!r} {request.target[:100]!r}"
            yield Fault(
                "legal", f"{seen.status} {error!r} reset {seen.reset} to the legal {what}, GOAWAY {got.goaway}"
            )
