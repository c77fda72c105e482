"""A strict parser of HTTP/1.1 requests and responses that shares no code with `edge`: the reference of the fuzzer.

What styx may pass on is what this reader calls whole. Where the RFCs leave a choice (how long a line may be, which
hostnames there are) it is the more lenient of the two: it judges what was passed on, not what was refused.
Whole byte strings go in; pure. RFC 9110 and RFC 9112 are meant by all section numbers.
"""

import re
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import AddressValueError, IPv6Address

Pairs = list[tuple[bytes, bytes]]
"Names in lower case, values without the blanks around them, in the order of the wire."


class State(Enum):
    """How far a message came."""

    WHOLE = "whole"
    PARTIAL = "partial"
    "More bytes could make it whole."
    BROKEN = "broken"
    "No further bytes can."


@dataclass(slots=True)
class Payload:
    """A body as it was read."""

    state: State
    content: bytes = b""
    end: int = 0
    "Where the message ends, if it is whole."
    trailers: Pairs = field(default_factory=list)
    why: str = ""


@dataclass(slots=True)
class RequestMessage:
    """One request."""

    method: bytes
    target: bytes
    "In origin-form, whatever it came in."
    minor: int
    host: bytes
    fields: Pairs
    payload: Payload
    start: int
    body_at: int

    @property
    def whole(self) -> bool:
        return self.payload.state is State.WHOLE

    @property
    def upgrades(self) -> frozenset[bytes]:
        """The protocols that it asks to switch to (section 7.8 of RFC 9110)."""
        named = members(self.fields, b"connection")
        return members(self.fields, b"upgrade") if self.minor and b"upgrade" in named else frozenset()


@dataclass(slots=True)
class Reading:
    """All requests in some bytes, up to the first that is broken or not complete."""

    requests: list[RequestMessage]
    fault: str = ""
    "Why the head after those cannot be read."

    @property
    def whole(self) -> list[RequestMessage]:
        return [request for request in self.requests if request.whole]


@dataclass(slots=True)
class ResponseMessage:
    """One final response, with the interim ones before it."""

    minor: int
    status: int
    fields: Pairs
    payload: Payload
    interims: list[int]
    until_close: bool = False
    "Its body ends with the connection."

    @property
    def whole(self) -> bool:
        return self.payload.state is State.WHOLE

    def value(self, name: bytes) -> bytes:
        """Of the first field of this name; empty when there is none."""
        return next((value for n, value in self.fields if n == name), b"")


class Faulty(Exception):
    """No strict reader takes this."""


class Unfinished(Exception):
    """The head is not complete."""


_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%b) ([\x21\x22\x24-\x7e\x80-\xff]+) HTTP/1\.([01])" % _TOKEN)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_FIELD = re.compile(
    rb"(%b):[ \t]*+((?:[\x21-\x7e\x80-\xff]++(?:[ \t]++[\x21-\x7e\x80-\xff]++)*+)?)[ \t]*+" % _TOKEN
)
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION = rb";[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:%b)*" % _EXTENSION)
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_HOST = re.compile(
    rb"(?:([A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?)|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?"
)
_ABSOLUTE = re.compile(rb"(https?)://([^/?#@]*)(/[^?]*)?(\?.*)?", re.IGNORECASE | re.DOTALL)
_NOT_IN_TRAILERS = {b"content-length", b"transfer-encoding", b"host"}


def members(fields: Pairs, name: bytes) -> frozenset[bytes]:
    """The members of a list field, in lower case."""
    values = b",".join(value for n, value in fields if n == name)
    return frozenset(member.strip(b" \t").lower() for member in values.split(b",") if member.strip(b" \t"))


def read_requests(data: bytes) -> Reading:
    """The requests in all that a client sent."""
    reading, at = Reading([]), 0
    while at < len(data):
        try:
            request = read_request(data, at)
        except Unfinished:
            break
        except Faulty as fault:
            reading.fault = str(fault)
            break
        reading.requests.append(request)
        if not request.whole:
            return reading
        at = request.payload.end
    return reading


def read_request(data: bytes, at: int = 0, *, forwarded: bool = False) -> RequestMessage:
    """The request at `at`; `forwarded`: as a proxy must write it. Raises Faulty, Unfinished."""
    start = at
    if not forwarded and data[at : at + 2] == b"\r\n":  # section 2.2: one empty line is let pass
        at += 2
    lines, body_at = _head(data, at)
    match = _REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        raise Faulty("request line")
    method, target, minor = match[1], match[2], int(match[3])
    fields = _fields(lines[1:])
    host, target = _host_and_target(method, target, minor, fields)
    payload = _request_payload(data, body_at, fields, minor, extensions=not forwarded)
    return RequestMessage(method, target, minor, host, fields, payload, start, body_at)


def read_response(
    data: bytes, at: int = 0, *, method: bytes, ended: bool, upgrades: frozenset[bytes] = frozenset()
) -> ResponseMessage:
    """The final response at `at`. `ended`: the sender closed in good order behind `data`. `upgrades`: protocols
    that were offered; then a 101 is final, and what follows is its body. Raises Faulty, Unfinished."""
    interims: list[int] = []
    while True:
        lines, at = _head(data, at)
        match = _STATUS_LINE.fullmatch(lines[0])
        if match is None:
            raise Faulty("status line")
        minor, status, fields = int(match[1]), int(match[2]), _fields(lines[1:])
        if status == 101:
            if not upgrades & members(fields, b"upgrade"):
                raise Faulty("101 that nobody sent")
            state = State.WHOLE if ended else State.PARTIAL
            return ResponseMessage(
                minor, status, fields, Payload(state, data[at:], len(data)), interims, until_close=True
            )
        if status >= 200:
            break
        interims.append(status)
    response = ResponseMessage(minor, status, fields, Payload(State.WHOLE, b"", at), interims)
    if method == b"HEAD" or status in (204, 304):  # no body comes, whatever its coding would be
        _framing([pair for pair in fields if pair[0] == b"content-length"], minor)
        return response
    length, chunked = _framing(fields, minor)
    if chunked:
        response.payload = _chunks(data, at, extensions=True)
    elif length is not None:
        response.payload = _counted(data, at, length)
    else:
        response.until_close = True
        response.payload = Payload(State.WHOLE if ended else State.PARTIAL, data[at:], len(data))
    return response


def _head(data: bytes, at: int) -> tuple[list[bytes], int]:
    end = data.find(b"\r\n\r\n", at)
    head = data[at:] if end < 0 else data[at:end]
    bare = _BARE.search(head.removesuffix(b"\r") if end < 0 else head)
    if bare is not None:
        raise Faulty("bare CR or LF in a head")
    if end < 0:
        raise Unfinished
    return head.split(b"\r\n"), end + 4


def _fields(lines: list[bytes]) -> Pairs:
    fields: Pairs = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise Faulty(f"field line {line[:60]!r}")
        fields.append((match[1].lower(), match[2]))
    return fields


def valid_host(host: bytes) -> bool:
    """Whether this is the value of a Host field (section 7.2 of RFC 9110)."""
    match = _HOST.fullmatch(host)
    if match is None or int(match[3] or 0) > 65535:
        return False
    if match[2] is not None:
        try:
            IPv6Address(match[2].decode())
        except AddressValueError:
            return False
    return True


def _host_and_target(method: bytes, target: bytes, minor: int, fields: Pairs) -> tuple[bytes, bytes]:
    hosts = [value for name, value in fields if name == b"host"]
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:
        scheme, authority, path, query = absolute.groups()
        if scheme.lower() == b"https":
            raise Faulty("https on a connection without TLS")
        if not hosts and not minor:
            hosts = [authority]
        target = (path or b"/") + (query or b"")
        if method == b"OPTIONS" and path is None and query is None:
            target = b"*"
    elif target != b"*" and target[:1] != b"/":
        raise Faulty("target in authority-form, or none")
    if target == b"*" and method != b"OPTIONS":
        raise Faulty("* outside OPTIONS")
    if method == b"CONNECT":
        raise Faulty("CONNECT")
    if len(hosts) != 1 or not valid_host(hosts[0]):
        raise Faulty("Host")
    if absolute is not None and _bare_host(absolute[2]) != _bare_host(hosts[0]):
        raise Faulty("Host and target disagree")
    return hosts[0], target


def _bare_host(authority: bytes) -> bytes:
    """Without the port that is usual for http, or an empty one."""
    authority = authority.lower()
    return authority.removesuffix(b":80") if authority.endswith(b":80") else authority.removesuffix(b":")


def _framing(fields: Pairs, minor: int) -> tuple[int | None, bool]:
    """Announced length, and whether the body is chunked (section 6.3)."""
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if codings:
        if lengths or not minor or len(codings) > 1 or codings[0].lower() != b"chunked":
            raise Faulty("Transfer-Encoding")
        return None, True
    if not lengths:
        return None, False
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 16:
        raise Faulty("Content-Length")
    return int(lengths[0]), False


def _request_payload(data: bytes, at: int, fields: Pairs, minor: int, *, extensions: bool) -> Payload:
    length, chunked = _framing(fields, minor)
    if chunked:
        return _chunks(data, at, extensions=extensions)
    return _counted(data, at, length or 0)


def _counted(data: bytes, at: int, length: int) -> Payload:
    content = data[at : at + length]
    return Payload(State.WHOLE if len(content) == length else State.PARTIAL, content, at + len(content))


def _chunks(data: bytes, at: int, *, extensions: bool) -> Payload:
    """Section 7.1."""
    pieces: list[bytes] = []
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return Payload(State.PARTIAL, b"".join(pieces))
        match = _CHUNK_LINE.fullmatch(data, at, end)
        if match is None or (not extensions and match[1] != data[at:end]):
            return Payload(State.BROKEN, b"".join(pieces), why=f"chunk line {data[at : min(end, at + 40)]!r}")
        size, at = int(match[1], 16), end + 2
        if not size:
            break
        pieces.append(data[at : at + size])
        ending = data[at + size : at + size + 2]
        at += size + 2
        if ending != b"\r\n":
            state = State.PARTIAL if len(ending) < 2 and b"\r\n".startswith(ending) else State.BROKEN
            return Payload(state, b"".join(pieces), why="chunk longer than its size")
    return _trailers(data, at, b"".join(pieces))


def _trailers(data: bytes, at: int, content: bytes) -> Payload:
    trailers: Pairs = []
    while (end := data.find(b"\r\n", at)) != at:
        if end < 0:
            return Payload(State.PARTIAL, content)
        try:
            trailers += _fields([data[at:end]])
        except Faulty as fault:
            return Payload(State.BROKEN, content, why=f"trailer: {fault}")
        if trailers[-1][0] in _NOT_IN_TRAILERS:
            return Payload(State.BROKEN, content, why="framing in a trailer")
        at = end + 2
    return Payload(State.WHOLE, content, at + 2, trailers)
