"""What a head becomes on its way through the edge: hop-by-hop fields out, our own in, written anew.

Heads are never copied raw: every line that leaves is put together here from a parsed name and value, so
nothing that the parser did not understand can pass. Fields that say who the client is come from us, unless
the peer is a trusted proxy; their spellings with underscores are dropped, because PHP (like every CGI)
reads `X_Forwarded_For` and `X-Forwarded-For` as one name.
"""

from collections.abc import Mapping
from enum import IntEnum

from edge.rules.framing import Found, Framing
from edge.rules.messages import Fields


class Kind(IntEnum):
    """What happens to a field."""

    PASS = 0
    TAKE = 1  # read by styx, written anew where it goes on
    DROP = 2


_TAKEN_FROM_REQUESTS = frozenset(
    b"host content-length transfer-encoding connection expect via forwarded x-request-id"
    b" x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port".split()
)
_TAKEN_FROM_ANSWERS = frozenset(b"content-length transfer-encoding connection x-styx-refused".split())
# RFC 9110, section 7.6.1. `Proxy` is not a hop-by-hop field but an attack: CGI turns it into HTTP_PROXY.
_DROPPED = frozenset(
    b"keep-alive proxy-connection proxy-authenticate proxy-authorization te upgrade http2-settings proxy".split()
)
_DROPPED_FROM_ANSWERS = frozenset({b"keep-alive", b"proxy-connection", b"upgrade", b"x-request-id"})
MEMO_SIZE = 4096
"Spellings of field names remembered per direction; a real client population uses a few hundred."


class Sieve:
    """Sorts the fields of a head in one pass: lines to pass on, and the fields that styx reads itself."""

    __slots__ = ("_dropped", "_memo", "_taken")

    def __init__(self, taken: frozenset[bytes], dropped: frozenset[bytes]) -> None:
        self._taken = taken
        self._dropped = dropped
        self._memo: dict[bytes, Kind] = {}

    def sift(self, fields: Fields) -> tuple[list[bytes], Found]:
        """Pieces of the lines that pass, ready to be joined, and the values taken."""
        lines: list[bytes] = []
        found: Found = {}
        memo = self._memo
        for name, value in fields:
            kind = memo.get(name)
            if kind is None:
                kind = self._learn(name)
            if not kind:
                lines += (name, b": ", value, b"\r\n")
            elif kind == 1:
                found.setdefault(name.lower(), []).append(value)
        if b"connection" in found and _nominates(found[b"connection"]):
            lines = self._without_nominated(fields, found[b"connection"])
        return lines, found

    def _learn(self, name: bytes) -> Kind:
        kind = self.kind_of(name)
        if len(self._memo) < MEMO_SIZE:
            self._memo[name] = kind
        return kind

    def kind_of(self, name: bytes) -> Kind:
        """What happens to a field of this name."""
        lower = name.lower()
        if lower in self._taken:
            return Kind.TAKE
        plain = lower.replace(b"_", b"-")
        if plain.startswith(b"x-styx-") or plain in self._dropped or (b"_" in lower and plain in self._taken):
            return Kind.DROP
        return Kind.PASS

    def _without_nominated(self, fields: Fields, connection: list[bytes]) -> list[bytes]:
        """The lines again, less those that `Connection` names (RFC 9110, section 7.6.1)."""
        nominated = set(tokens(connection))
        lines: list[bytes] = []
        for name, value in fields:
            if self.kind_of(name) is Kind.PASS and name.lower() not in nominated:
                lines += (name, b": ", value, b"\r\n")
        return lines


def request_sieve() -> Sieve:
    """For heads from clients."""
    return Sieve(_TAKEN_FROM_REQUESTS, _DROPPED)


def answer_sieve() -> Sieve:
    """For heads from backends."""
    return Sieve(_TAKEN_FROM_ANSWERS, _DROPPED_FROM_ANSWERS)


_OWN_TOKENS = frozenset({b"close", b"keep-alive", b"upgrade", b"te"})


def tokens(values: list[bytes]) -> list[bytes]:
    """The lower-case members of a list field (RFC 9110, section 5.6.1)."""
    return [token.strip().lower() for value in values for token in value.split(b",") if token.strip()]


def _nominates(connection: list[bytes]) -> bool:
    return not _OWN_TOKENS.issuperset(tokens(connection))


def keeps_alive(found: Found, minor: int) -> bool:
    """Whether the sender of this head means to go on using the connection (RFC 9112, section 9.3)."""
    connection = found.get(b"connection")
    if connection is None:
        return minor > 0
    asked = tokens(connection)
    return b"close" not in asked and (minor > 0 or b"keep-alive" in asked)


class Peer:
    """What is said about one client connection to every backend, put together once."""

    __slots__ = ("_port", "_trusted", "_usual", "address")

    def __init__(self, address: str, *, port: int, trusted: bool) -> None:
        self.address = address
        self._port = b"%d" % port
        self._trusted = trusted
        self._usual = self._lines({})

    def lines(self, found: Found) -> bytes:
        """`X-Forwarded-For`, `-Proto` and `-Port` for a request with these fields."""
        return self._lines(found) if self._trusted else self._usual

    def host(self, found: Found, host: bytes) -> bytes:
        """`X-Forwarded-Host`: what the client asked for, or what a trusted proxy says it asked for."""
        return found[b"x-forwarded-host"][-1] if self._trusted and b"x-forwarded-host" in found else host

    def request_id(self, found: Found) -> bytes | None:
        """The id that a trusted proxy gave this request."""
        return found[b"x-request-id"][-1][:200] if self._trusted and b"x-request-id" in found else None

    def _lines(self, found: Found) -> bytes:
        chain = b", ".join([*found.get(b"x-forwarded-for", ()), self.address.encode("ascii")])
        proto = found.get(b"x-forwarded-proto", [b"http"])[-1]
        port = found.get(b"x-forwarded-port", [self._port])[-1]
        lines = [b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Port: %b\r\n" % (chain, proto, port)]
        lines += [b"Forwarded: %b\r\n" % value for value in found.get(b"forwarded", ())]
        return b"".join(lines)


def framing_line(framing: Framing, length: int) -> bytes:
    """The field that tells how the body ends."""
    if framing is Framing.LENGTH:
        return b"Content-Length: %d\r\n" % length
    return b"Transfer-Encoding: chunked\r\n" if framing is Framing.CHUNKED else b""


def via_line(found: Found, via: bytes) -> bytes:
    """`Via` with ourselves at its end (RFC 9110, section 7.6.3)."""
    before = found.get(b"via")
    return b"Via: %b, %b\r\n" % (b", ".join(before), via) if before else b"Via: %b\r\n" % via


_ATTEMPT_LINES = tuple(b"X-Styx-Attempt: %d\r\n\r\n" % n for n in range(33))
MAX_ATTEMPTS = len(_ATTEMPT_LINES) - 1


def attempt_lines(backend_line: bytes, number: int) -> bytes:
    """The last lines of a request head, which differ from attempt to attempt, and the blank one."""
    return backend_line + _ATTEMPT_LINES[number]


_STATUS_LINES: Mapping[tuple[int, bytes], bytes] = {
    (status, reason): b"HTTP/1.1 %d %b\r\n" % (status, reason)
    for status, reason in (
        (200, b"OK"),
        (204, b"No Content"),
        (206, b"Partial Content"),
        (301, b"Moved Permanently"),
        (302, b"Found"),
        (304, b"Not Modified"),
        (404, b"Not Found"),
        (503, b"Service Unavailable"),
    )
}


def status_line(status: int, reason: bytes) -> bytes:
    """The first line of an answer, in our own version (RFC 9110, section 2.5)."""
    return _STATUS_LINES.get((status, reason)) or b"HTTP/1.1 %d %b\r\n" % (status, reason)
