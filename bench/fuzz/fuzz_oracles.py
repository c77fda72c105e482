"""What must hold between what a client sent, what arrived, what the backend said, and what came back. Pure.

Nothing is expected of a mutated message but this: what styx made of it is what a strict reader makes of it, or
less.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bench.fuzz.fuzz_client import Heard
from bench.fuzz.fuzz_seeds import MARK, Kind, Message
from bench.fuzz.mutations import Act, Steps, sent
from bench.fuzz.recording_backend import BY_THE_EDGE, Arrival, told_of
from bench.fuzz.strict_reader import Answered, Asked, Faulty, Reading, State, Unfinished, read_answer, read_requests

SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
ANSWER_FIELDS_OF_THE_EDGE = frozenset(
    b"content-length transfer-encoding connection upgrade date x-request-id x-styx-edge x-styx-backend".split()
)
DAWDLING = 1.0
"Seconds by which a client may be behind its script before styx may take it for a slow one. Half of its patience."
HANG = 9.0
"Seconds after which a complete request must have been answered, or its connection ended."


class Fault(NamedTuple):
    """Something that must not be."""

    kind: str
    words: str


def judge(message: Message, heard: Heard, arrivals: Sequence[Arrival]) -> list[Fault]:
    """Everything that is wrong about one message."""
    reading = read_requests(sent(message.client))
    copies = [arrival for arrival in arrivals if arrival.is_probe]
    arrivals = [arrival for arrival in arrivals if not arrival.is_probe]
    faults = [*_arrived(message, reading, arrivals), *_came_back(message, reading, heard, arrivals)]
    faults += [fault for copy in copies for fault in _copied(reading, copy)]
    if message.plain and not faults:
        faults += _plain(reading, heard)
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
        same_head = [n for n in range(at, len(reading.asked)) if _same_head(reading.asked[n], arrival.asked)]
        same = [n for n in same_head if _same_body(reading.asked[n], arrival)]
        if not same_head:
            yield Fault("split", f"nobody asked for {_told(arrival.asked)}; {reading.fault or 'no fault'}")
        elif not same:
            asked = reading.asked[same_head[0]]
            yield Fault("body", f"{_told(arrival.asked)} came {_size(arrival.asked)}, but was {_size(asked)}")
        else:
            # Of two that differ in their fields only the first may not have arrived at all.
            chosen = next((n for n in same if not any(_unaltered(reading.asked[n], arrival))), same[0])
            at = chosen + 1
            yield from _unaltered(reading.asked[chosen], arrival)
            behind = data[reading.asked[chosen].payload.end :]
            if not behind.startswith(bytes(arrival.tunnelled)):
                yield Fault("tunnel", f"{bytes(arrival.tunnelled[:200])!r} came out, {behind[:200]!r} went in")


def _copied(reading: Reading, copy: Arrival) -> Iterator[Fault]:
    """A probe is a request of this client, word for word, and one that may be sent twice."""
    same = [asked for asked in reading.asked if _same_head(asked, copy.asked) and not any(_unaltered(asked, copy))]
    if not same or copy.asked.payload.content:
        yield Fault("probe", f"nobody asked for {_told(copy.asked)}")
    elif copy.asked.method not in SAFE:
        yield Fault("probe", f"{_told(copy.asked)} was copied")


def _same_head(asked: Asked, arrived: Asked) -> bool:
    return (asked.method, asked.target, asked.host) == (arrived.method, arrived.target, arrived.host)


def _same_body(asked: Asked, arrival: Arrival) -> bool:
    content = arrival.asked.payload.content
    if arrival.whole:
        return asked.whole and content == asked.payload.content
    return asked.payload.content.startswith(content)


def _unaltered(asked: Asked, arrival: Arrival) -> Iterator[Fault]:
    for name, value in arrival.asked.fields:
        if name not in BY_THE_EDGE and (name, value) not in asked.fields:
            yield Fault("field", f"{name!r}: {value[:100]!r} was not sent")
    for trailer in arrival.asked.payload.trailers:
        if trailer not in asked.payload.trailers:
            yield Fault("field", f"trailer {trailer!r} was not sent")


def _repeated(message: Message, first: Arrival, again: Arrival) -> Iterator[Fault]:
    if not _same_head(first.asked, again.asked):
        yield Fault("merged", f"one id for {_told(first.asked)} and {_told(again.asked)}")
    elif first.asked.method not in SAFE and not _refuses(message.backend, first.asked):
        yield Fault("twice", f"{_told(first.asked)} was said again")


def _refuses(steps: Steps, asked: Asked) -> bool:
    """Whether this answer proves that the request was not processed."""
    try:
        said = read_answer(sent(steps), method=asked.method, ended=True)
    except (Faulty, Unfinished):
        return False
    return said.status == 421 or any(name == b"x-styx-refused" for name, _ in said.fields)


def _told(asked: Asked) -> str:
    return f"{asked.method!r} {asked.target[:120]!r} at {asked.host!r}"


def _size(asked: Asked) -> str:
    return f"{asked.payload.state.value} with {len(asked.payload.content)} bytes"


# what came back


def departs(steps: Steps) -> bool:
    """Whether the client leaves without waiting for its answers."""
    return bool(steps) and steps[-1].act is not Act.SEND


def _came_back(message: Message, reading: Reading, heard: Heard, arrivals: Sequence[Arrival]) -> Iterator[Fault]:
    if heard.fault:
        yield Fault("stream", f"{heard.fault}: {heard.data[-300:]!r}")
    if heard.end == "open" and heard.seconds >= HANG and len(heard.answers) < len(reading.whole):
        yield Fault(
            "hang", f"{len(heard.answers)} answers to {len(reading.whole)} requests in {heard.seconds:.1f} s"
        )
    if heard.end == "open" and heard.seconds >= HANG and departs(message.client):
        yield Fault("hang", f"still open {heard.seconds:.1f} s after the client sent its end")
    by_id = {arrival.id: arrival for arrival in arrivals}
    for number, answer in enumerate(heard.answers):
        names = [name for name, _ in answer.fields]
        if names.count(b"x-request-id") != 1 or names.count(b"x-styx-edge") != 1:
            yield Fault("marks", f"{answer.status} without one X-Request-Id and X-Styx-Edge: {answer.fields}")
            continue
        arrival = by_id.get(answer.value(b"x-request-id"))
        if b"x-styx-error" in names:
            if MARK in answer.payload.content or any(MARK in value for _, value in answer.fields):
                yield Fault("mixed", f"an answer of the edge with words of a backend: {answer.fields}")
        elif b"x-styx-backend" not in names:
            methods = [asked.method for asked in reading.asked[number : number + 1]]
            if answer.status != 200 or methods not in ([b"OPTIONS"], [b"TRACE"]):
                yield Fault("marks", f"{answer.status} from nobody: {answer.fields}")
        elif arrival is None:
            yield Fault("crossed", f"an answer to a request that never arrived: {answer.fields}")
        elif message.kind is Kind.REQUEST:
            yield from _echoed(answer, arrival)
        else:
            yield from _relayed(message.backend, answer, arrival)


def _echoed(answer: Answered, arrival: Arrival) -> Iterator[Fault]:
    if answer.status not in (200, 201):
        yield Fault("crossed", f"{answer.status}, which the backend never says here")
    elif arrival.asked.method != b"HEAD" and answer.whole and answer.payload.content != told_of(arrival):
        yield Fault("crossed", f"{answer.payload.content[:200]!r} instead of {told_of(arrival)[:200]!r}")


def _relayed(steps: Steps, got: Answered, arrival: Arrival) -> Iterator[Fault]:
    data = sent(steps)
    ended = bool(steps) and steps[-1].act is Act.CLOSE
    upgrades = arrival.asked.upgrades
    try:
        said = read_answer(data, method=arrival.asked.method, ended=ended, upgrades=upgrades)
    except (Faulty, Unfinished) as fault:
        yield Fault("passed", f"{got.status} came of an answer that cannot be read: {fault}: {data[:300]!r}")
        return
    if got.status != said.status:
        yield Fault("passed", f"{got.status} came of {said.status}: {data[:300]!r}")
        return
    if not said.payload.content.startswith(got.payload.content):
        yield Fault("answer", f"{got.payload.content[:100]!r} came of {said.payload.content[:100]!r}")
    elif got.whole and got.status != 101 and (not said.whole or got.payload.content != said.payload.content):
        yield Fault("completed", f"whole with {len(got.payload.content)} bytes, of {_state(said)}: {data[:300]!r}")
    for name, value in got.fields:
        if name not in ANSWER_FIELDS_OF_THE_EDGE and (name, value) not in said.fields:
            yield Fault("field", f"{name!r}: {value[:100]!r} was not answered")


def _state(said: Answered) -> str:
    return f"{said.payload.state.value} with {len(said.payload.content)}"


def _plain(reading: Reading, heard: Heard) -> Iterator[Fault]:
    """Legal messages work. An unsafe request may meet a connection that its backend closes just then: 502, and the
    client's connection may end behind it. A client that stood still itself was too slow."""
    answered = 0
    for asked, answer in zip(reading.asked, heard.answers, strict=False):
        error = answer.value(b"x-styx-error")
        if error == b"closed_early" and asked.method not in SAFE:
            if answer.value(b"connection") == b"close":
                return
        elif error == b"request_timeout" and heard.dawdled > DAWDLING:
            return
        elif error or answer.payload.state is not State.WHOLE:
            yield Fault("legal", f"{answer.status} {error.decode()} to the legal {_told(asked)}")
        answered += 1
    if answered < len(reading.asked):
        yield Fault("legal", f"{answered} answers to {len(reading.asked)} legal requests, then {heard.end}")
