"""Turns the header list of an HTTP/2 request into the head of the same HTTP/1.1 request (RFC 9113, section 8.3).

    header list ─► request_head ─► head of HTTP/1.1 ─► HeadReader: parser, limits, validation, cache

So there is one set of checks for both versions. What is checked here is what HTTP/1.1 does not have: pseudo-header
fields, fields that belong to a connection, names in lower case, and bytes that would end a line. Pure.
"""

import re
from collections.abc import Iterable
from itertools import chain
from typing import Final

from edge.rules.http.framing import BadBody, ChunkedBody, RejectedRequest, TrailerLimits
from edge.rules.http.head_validation import Request
from edge.rules.http.hop_by_hop import last_chunk
from edge.rules.http.messages import Fields
from edge.rules.outcomes import Cause

MEMO_SIZE: Final = 4096
"Names of fields that are cached; real clients use a few hundred."
MEMO_LONGEST: Final = 64
"Bytes of the longest name that is cached."
REMEMBERED: Final = 1024
"Header lists, without their paths, whose heads are cached."
LONGEST: Final = 4096
MOST_FIELDS: Final = 32
"Bytes and fields of the longest of them: all together take some 16 MiB at most."
LONGEST_PATH: Final = 256
"Bytes of the longest path that is kept beside one of them."
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_LINE_END: Final = re.compile(rb"[\r\n\0]")
_PATH: Final = re.compile(rb"/[^ \r\n\0]*")
_USUAL_METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"})
_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority", b":protocol"})
_OF_CONNECTION: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
"Fields that must not be in a message (RFC 9113, section 8.2.2)."
_OF_WEBSOCKET_KEY: Final = frozenset({b"sec-websocket-key", b"sec-websocket-accept"})
"Fields of the handshake of HTTP/1.1 that extended CONNECT does not use (RFC 8441, section 5.1)."
_SPECIAL: Final = _OF_CONNECTION | _OF_WEBSOCKET_KEY | {b"cookie", b"host", b"te", b"content-length"}

HeaderList = Iterable[tuple[bytes, bytes]]


class KnownHead:
    """What the head is made of for a header list that was seen before, whatever its path is."""

    __slots__ = ("others", "path", "rest", "scheme", "start")

    def __init__(self, others: tuple[tuple[bytes, bytes], ...], scheme: bytes, start: bytes, rest: bytes) -> None:
        self.others = others
        "The header list without `:path`."
        self.path = b"/"
        "The last one that was found valid."
        self.scheme = scheme
        "Of the connections for which the list is valid; empty = any."
        self.start = start
        "What is before the path."
        self.rest = rest
        "What is behind the path, through the blank line."


class RequestHeads:
    """Makes heads from header lists, with two caches: of valid names, so that a usual one costs a set lookup, and
    of the heads of lists that repeat, because clients send the same fields again and again, with other paths. As in
    `RepeatCache`, a head is stored at its second occurrence."""

    __slots__ = ("_known", "_last", "_last_request", "_latest", "_plain", "_scheme", "_seen")

    def __init__(self) -> None:
        self._plain: set[bytes] = set()
        self._last: tuple[tuple[bytes, bytes], ...] = ()
        "The header list of `_last_request`; `_scheme`: of its connection."
        self._scheme = b""
        self._last_request: Request | None = None
        self._latest: KnownHead | None = None
        "The one that was used last."
        self._known: dict[tuple[tuple[bytes, bytes], ...], KnownHead] = {}
        "By header list without `:path`; of requests without a body."
        self._seen: set[int] = set()
        "Hashes of heads that came once, without their paths."

    def __len__(self) -> int:
        return len(self._known)

    def repeated(self, headers: HeaderList, scheme: bytes) -> Request | None:
        """The request that `remember` got last, if it was made of this header list; None = it was not.

        Requests of one read, and those of a client that waits for each response, often do not differ. To compare
        a list takes a quarter of the time that it takes to look up its head and then its request."""
        return self._last_request if headers == self._last and scheme == self._scheme else None

    def remember(self, headers: HeaderList, scheme: bytes, request: Request) -> None:
        """This request was made of this header list, which ended its stream, by way of `request_head`."""
        self._last, self._scheme, self._last_request = tuple(headers), scheme, request

    def request_head(
        self, headers: HeaderList, *, scheme: bytes, has_body: bool, websocket_key: bytes = b""
    ) -> bytes:
        """The head of a request, through its blank line. `scheme`: of the connection, empty = any; `has_body`: the
        header list did not end the stream; `websocket_key`: for extended CONNECT (RFC 8441), empty = not allowed.
        Raises RejectedRequest."""
        fields = tuple(headers)
        at = -1 if has_body else _path_at(fields)
        if at < 0:
            return self._new(fields, scheme, has_body=has_body, websocket_key=websocket_key)
        path, others = fields[at][1], fields[:at] + fields[at + 1 :]
        known = self._latest
        if known is None or others != known.others:
            known = self._known.get(others)
            if known is None:
                head = self._new(fields, scheme, has_body=False, websocket_key=b"")
                self._offer(others, scheme, path, head)
                return head
            self._latest = known
        if known.scheme != scheme:
            return self._new(fields, scheme, has_body=False, websocket_key=b"")
        if path != known.path:
            if _PATH.fullmatch(path) is None:
                return self._new(fields, scheme, has_body=False, websocket_key=b"")
            if len(path) <= LONGEST_PATH:
                known.path = path
        return b"".join((known.start, path, known.rest))

    def _offer(self, others: tuple[tuple[bytes, bytes], ...], scheme: bytes, path: bytes, head: bytes) -> None:
        """Store this head, if it occurred before with any path. `others`: the header list without its path."""
        start = head[: head.find(b" ") + 1]
        rest = head[len(start) + len(path) :]
        digest = hash(rest)
        if digest not in self._seen:
            if len(self._seen) >= 4 * REMEMBERED:
                self._seen.clear()
            self._seen.add(digest)
        elif len(others) <= MOST_FIELDS and sum(map(len, chain.from_iterable(others))) <= LONGEST:
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[others] = KnownHead(others, scheme, start, rest)

    def _new(
        self, headers: tuple[tuple[bytes, bytes], ...], scheme: bytes, *, has_body: bool, websocket_key: bytes
    ) -> bytes:
        pseudo: dict[bytes, bytes] = {}
        special: dict[bytes, list[bytes]] = {}
        lines: list[bytes] = []
        plain, count = self._plain, 0
        for name, value in headers:
            if name in plain:
                lines += (name, b": ", value, b"\r\n")
                count += 1
            elif name[:1] == b":":
                if name not in _PSEUDO or name in pseudo or lines or special:
                    raise _malformed("a pseudo-header field that is unknown, repeated, or behind the fields")
                pseudo[name] = value
            elif name in _SPECIAL:
                special.setdefault(name, []).append(value)
            else:
                self._learn(name)
                lines += (name, b": ", value, b"\r\n")
                count += 1
        first: tuple[bytes, ...]
        if _is_usual(pseudo, special, scheme, has_body=has_body):
            host = pseudo[b":authority"]
            first = (pseudo[b":method"], b" ", pseudo[b":path"], b" HTTP/1.1\r\nhost: ", host, b"\r\n")
            count += 1
        else:
            first, added = _start(pseudo, special, scheme, has_body=has_body, websocket_key=websocket_key)
            for name, value in added:
                lines += (name, b": ", value, b"\r\n")
                count += 1
        head = b"".join((*first, *lines, b"\r\n"))
        # A value with a line end would become a field of its own.
        if len(head) - len(head.translate(None, b"\r\n\0")) != 2 * (count + 2):
            raise _malformed("a line end or a zero byte in a field")
        return head

    def _learn(self, name: bytes) -> None:
        if _NAME.fullmatch(name) is None:
            raise _malformed("a field name that is not a token in lower case")
        if len(name) <= MEMO_LONGEST:
            if len(self._plain) >= MEMO_SIZE:
                self._plain.clear()  # most of them are made up; the real ones are soon cached again
            self._plain.add(name)


def _is_usual(
    pseudo: dict[bytes, bytes], special: dict[bytes, list[bytes]], scheme: bytes, *, has_body: bool
) -> bool:
    """Whether it is a request as most are: without a body, and nothing in it that is not in HTTP/1.1."""
    return (
        not special
        and not has_body
        and len(pseudo) == 4
        and b":authority" in pseudo
        and pseudo.get(b":scheme") == scheme
        and _is_plain(pseudo.get(b":method", b""), pseudo.get(b":path", b""))
    )


def _is_plain(method: bytes, path: bytes) -> bool:
    return method in _USUAL_METHODS and path[:1] == b"/" and path.find(b" ") < 0


def _path_at(fields: tuple[tuple[bytes, bytes], ...]) -> int:
    """The index of `:path`, which must be before the first field that is no pseudo-header field; -1 = it is not."""
    for at, (name, _) in enumerate(fields):
        if name == b":path":
            return at
        if name[:1] != b":":
            break
    return -1


def _start(
    pseudo: dict[bytes, bytes],
    special: dict[bytes, list[bytes]],
    scheme: bytes,
    *,
    has_body: bool,
    websocket_key: bytes,
) -> tuple[tuple[bytes, ...], Fields]:
    """The pieces of the request line, with its line end, and the fields that have a meaning in HTTP/2. Raises
    RejectedRequest."""
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    added: Fields = []
    is_tunnel = method == b"CONNECT"
    if is_tunnel:
        method = _tunnel_method(pseudo, websocket_key)
        added += ((b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-key", websocket_key))
    elif b":protocol" in pseudo:
        raise _malformed(":protocol without CONNECT")
    if not method or not path or (pseudo.get(b":scheme") != scheme if scheme else b":scheme" not in pseudo):
        raise _malformed("no :method, no :path, or no :scheme of this connection")
    if path[:1] != b"/" and not (path == b"*" and method == b"OPTIONS"):
        raise _malformed(":path is not a path")
    if method.find(b" ") >= 0 or path.find(b" ") >= 0:  # (`in` tries an integer first, which takes longer)
        raise _malformed("a space in :method or :path")
    for name, values in special.items():
        if name in _OF_CONNECTION or (name == b"te" and values != [b"trailers"]):
            raise _malformed("a field that is specific to a connection")
    added += _host(pseudo, special)
    if b"te" in special:
        added.append((b"te", b"trailers"))
    if b"cookie" in special:
        added.append((b"cookie", b"; ".join(special[b"cookie"])))  # RFC 9113, section 8.2.3
    added += [(b"content-length", value) for value in special.get(b"content-length", ())]
    if not is_tunnel:
        added += [(name, value) for name in _OF_WEBSOCKET_KEY for value in special.get(name, ())]
        added += _framing(special, has_body=has_body)
    elif b"content-length" in special:
        raise _malformed("CONNECT with a length")
    return (method, b" ", path, b" HTTP/1.1\r\n"), added


def _tunnel_method(pseudo: dict[bytes, bytes], websocket_key: bytes) -> bytes:
    """The method with which HTTP/1.1 begins the tunnel that extended CONNECT asks for. Raises RejectedRequest."""
    if pseudo.get(b":protocol", b"").lower() != b"websocket" or not websocket_key:
        raise RejectedRequest(Cause.NOT_IMPLEMENTED, "CONNECT for something else than a WebSocket")
    return b"GET"


def _host(pseudo: dict[bytes, bytes], special: dict[bytes, list[bytes]]) -> Fields:
    """The Host of the request: `:authority`, or else the field (RFC 9113, section 8.3.1). With two names, two
    servers could read the request differently. Raises RejectedRequest."""
    authority, hosts = pseudo.get(b":authority"), special.get(b"host", [])
    if authority is None:
        return [(b"host", host) for host in hosts]
    if any(host.lower() != authority.lower() for host in hosts):
        raise _malformed("Host is not :authority")
    return [(b"host", authority)]


def _framing(special: dict[bytes, list[bytes]], *, has_body: bool) -> Fields:
    """The field that frames a body of unknown length. Raises RejectedRequest for a length without a body."""
    lengths = special.get(b"content-length")
    if has_body:
        return [] if lengths else [(b"transfer-encoding", b"chunked")]
    if lengths and any(length.strip(b"0") for length in lengths):
        raise _malformed("the stream ends with the head, but content-length is not 0")
    return []


def trailer_fields(headers: HeaderList, limits: TrailerLimits) -> Fields:
    """The trailers in a header list (RFC 9113, section 8.1), by the rules for those of HTTP/1.1. Raises BadBody."""
    lines: list[bytes] = []
    for name, value in headers:
        if _NAME.fullmatch(name) is None or name in _OF_CONNECTION or _LINE_END.search(value):
            raise BadBody("a trailer that is no field, or a field of a connection")
        lines += (name, b": ", value, b"\r\n")
    body = ChunkedBody(limits)
    body.feed(last_chunk(b"".join(lines)))
    return body.trailers


class CountedBody:
    """A body whose length is told by `content-length`. Its last byte is held back until its stream has ended.

    With that byte a backend takes the request for complete and acts on it. But the stream may still be reset, or
    bring more bytes, which makes the request malformed: it must not be forwarded then (RFC 9113, section 8.1.1).
    """

    __slots__ = ("_last", "_left")

    def __init__(self, length: int) -> None:
        self._left = length
        "Bytes that are still to come."
        self._last = b""

    def take(self, pieces: list[bytes], *, ended: bool) -> list[bytes]:
        """What may be passed on when these pieces, none of them empty, came. `ended`: the stream has ended."""
        self._left -= sum(map(len, pieces))
        if ended:
            pieces = [self._last, *pieces] if self._last else pieces
            self._last = b""
        elif pieces and self._left <= 0:
            *pieces, last = pieces
            self._last = last[-1:]
            if len(last) > 1:
                pieces.append(last[:-1])
        return pieces


def _malformed(why: str) -> RejectedRequest:
    """A malformed request (RFC 9113, section 8.1.1)."""
    return RejectedRequest(Cause.BAD_REQUEST, why)
