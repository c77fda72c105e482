"""Checks the change stream of a core API: its format, its heartbeat, and whether it can be resumed. Pure."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from edge.rules.core_api.contract_findings import ContractFinding, fault, note, ok, warning
from edge.rules.http.sse import MOST, EventStream, TooLong
from edge.rules.routing.invalidation import EVERYTHING, change_in

UNKNOWN_ID: Final = "styx-check-no-such-event"
"An id that no core API has sent."
HEARTBEAT, SILENCE = 10.0, 30.0
"Seconds within which the core API must send a comment; of silence after which styx connects again."
AT_ONCE: Final = 0.5
"Seconds within which what comes is no heartbeat: it may be a greeting, and what was missed."
NOT_OFFERED: Final = frozenset({404, 405, 501})
_BLANK_LINE: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_EVERYTHING_TEXT: Final = re.compile(rb'\{\s*"all"\s*:\s*true\s*\}')


class StreamReading(NamedTuple):
    """The data read from one connection to the change stream."""

    status: int = 0
    content_type: str = ""
    pieces: Sequence[tuple[float, bytes]] = ()
    "What came, each with the seconds since the response began."
    seconds: float = 0.0
    "For how long it was read after the response began."
    ended: bool = False
    "Whether the core API ended it."
    error: str = ""
    "Why there was no response."


class StreamEvent(NamedTuple):
    """One event as it was read."""

    id: str
    '"" = it has none.'
    name: str
    data: bytes


def events_in(reading: StreamReading) -> list[StreamEvent]:
    """The events in it. Raises TooLong."""
    data = b"".join(piece for _, piece in reading.pieces)
    found = []
    for block in _BLANK_LINE.split(data.removeprefix(b"\xef\xbb\xbf"))[:-1]:
        if len(block) > MOST:
            raise TooLong(f"an event of more than {MOST} bytes")
        stream = EventStream()
        found += [StreamEvent(stream.last_id, *event) for event in stream.feed(block + b"\n\n")]
    return found


def judged_stream(reading: StreamReading) -> list[ContractFinding]:
    """Judge a first connection, without an id."""
    if reading.status in NOT_OFFERED:
        words = f"there is no change stream (status {reading.status}): routes are renewed by age and after failures"
        return [note("changes", words)]
    if found := _of_response(reading):
        return found
    if reading.ended and reading.seconds < SILENCE:
        words = f"the change stream was ended after {reading.seconds:.1f} s"
        return [
            warning("changes_end", words, "Keep it open; styx reads it without end, and connects again at once.")
        ]
    return [*_of_silence(reading), *_of_events(reading)]


def _of_response(reading: StreamReading) -> list[ContractFinding]:
    check = "changes"
    if reading.error:
        cure = "Send the head of the response, and a comment, at once; a proxy in between must not buffer it."
        return [fault(check, f"the change stream: {reading.error}", cure)]
    if reading.status != 200:
        cure = "Respond 200 with events, or 404 if there is no such stream."
        return [fault(check, f"the change stream: status {reading.status}", cure)]
    if reading.content_type != "text/event-stream":
        words = f"the change stream has the Content-Type {reading.content_type!r}"
        return [fault("changes_type", words, "Send text/event-stream; styx reads nothing else.")]
    return []


def _of_silence(reading: StreamReading) -> Iterator[ContractFinding]:
    times = [0.0, *(when for when, _ in reading.pieces), reading.seconds]
    longest = max(after - before for before, after in pairwise(times))
    cure = "Send a comment (`: heartbeat` and an empty line) every 5 s."
    if longest >= SILENCE:
        words = (
            f"the change stream was silent for {longest:.0f} s: styx would connect again, and look up all routes"
        )
        yield fault("changes_silence", words, cure)
    elif longest > HEARTBEAT + 1:
        yield warning("changes_silence", f"the change stream was silent for {longest:.0f} s, at most 10", cure)
    elif any(when > AT_ONCE for when, _ in reading.pieces) or reading.seconds > HEARTBEAT:
        yield ok("changes", f"the change stream lives: no silence of more than {longest:.1f} s")
    else:
        words = f"no heartbeat in {reading.seconds:.0f} s, which is too short to judge: --wait 31s is enough"
        yield note("changes_silence", words)


def _of_events(reading: StreamReading) -> Iterator[ContractFinding]:
    try:
        events = events_in(reading)
    except TooLong as error:
        yield fault("changes_event", f"the change stream has {error}", "Send many small events.")
        return
    if names := sorted({event.name for event in events if event.name != "invalidate"}):
        words = f"the change stream has events named {', '.join(names)[:80]}, which styx ignores"
        yield warning("changes_event", words, "Name them `event: invalidate`.")
    named = [event for event in events if event.name == "invalidate"]
    if any(not event.id for event in named):
        words = "events have no id: after a break all routes are looked up again"
        yield warning("changes_id", words, "Send an `id:` line with each event, and resume after Last-Event-ID.")
    for event in named:
        if change_in(event.data) == EVERYTHING and not _EVERYTHING_TEXT.fullmatch(event.data):
            words = f"the event {event.data[:80].decode('utf-8', 'replace')!r} is not understood"
            cure = (
                "It counts as a change of everything. Send one of hostname, site, site + environment, server, all."
            )
            yield warning("changes_event", words, cure)
            return


def judged_unknown_id(reading: StreamReading) -> list[ContractFinding]:
    """Judge a connection that asked to resume after an id that the core API has never sent."""
    if found := _of_response(reading):
        return found
    if any(change_in(event.data) == EVERYTHING for event in _invalidations(reading)):
        return [ok("changes_gap", "an unknown Last-Event-ID is followed by a change of everything")]
    words = f"an unknown Last-Event-ID was accepted in silence ({reading.seconds:.0f} s): changes would be lost"
    cure = 'Send `event: invalidate` with {"all": true} first when the id is not known any more.'
    return [fault("changes_gap", words, cure)]


def judged_resumption(reading: StreamReading, last_id: str) -> list[ContractFinding]:
    """Judge a connection that asked to resume after the last event that was read."""
    if found := _of_response(reading):
        return found
    events = _invalidations(reading)
    if any(change_in(event.data) == EVERYTHING for event in events):
        words = f"after the known id {last_id[:40]!r} everything changed: each reconnect looks up all routes"
        cure = "Keep the last events, and send those after Last-Event-ID."
        return [fault("changes_resume", words, cure)]
    if any(event.id == last_id for event in events):
        words = f"the event {last_id[:40]!r} is sent again to who resumes after it"
        return [warning("changes_resume", words, "Send the events after it.")]
    return [ok("changes_resume", "the change stream can be resumed after its last event")]


def last_id_in(*readings: StreamReading) -> str:
    """The id of the last event in these readings; "" = there is none."""
    ids = [event.id for reading in readings for event in _invalidations(reading) if event.id]
    return ids[-1] if ids else ""


def _invalidations(reading: StreamReading) -> list[StreamEvent]:
    try:
        return [event for event in events_in(reading) if event.name == "invalidate"]
    except TooLong:
        return []
