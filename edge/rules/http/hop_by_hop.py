"""What styx reads in a head besides the framing, and the fields that it adds: `Via` and the forwarding fields.

Heads are never copied raw: every line that is sent is encoded here, or was understood by `field_filter.py`. The
fields that describe the client (`X-Forwarded-*` and the like) are made here, unless the client is a trusted proxy.
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from http import HTTPStatus
from math import inf
from typing import Final

from edge.rules.http.framing import FieldValues, Framing, RejectedRequest, check_members
from edge.rules.http.messages import Fields
from edge.rules.outcomes import Cause
from edge.rules.tls.client_certificate_fields import CERTIFICATE_FIELDS
from edge.rules.tls.request_gate import RequestGate
from edge.rules.traffic.listener_counts import NO_LISTENER, ListenerCounts

# Applications take these for statements of the proxy before them about the client and what it requested.
PASSED_FROM_TRUSTED: Final = {
    name.lower(): name
    for name in b"True-Client-IP Client-IP Front-End-Https X-Original-URL X-Rewrite-URL X-Url-Scheme".split()
} | {name.lower(): name for name in CERTIFICATE_FIELDS}
MEMO_LONGEST: Final = 64
"Longest list of tokens that is cached, in bytes: untrusted clients choose them."

_KEEP_ALIVE_TIMEOUT: Final = re.compile(
    rb'(?:^|,)[ \t]*timeout[ \t]*=[ \t]*"?([0-9]{1,9})"?[ \t]*(?:,|$)', re.IGNORECASE
)


def keep_alive_timeout(found: FieldValues) -> float:
    """Seconds for which the sender keeps an idle connection (`Keep-Alive: timeout=N`, RFC 2068, section 19.7.1.1);
    inf = not given."""
    match = _KEEP_ALIVE_TIMEOUT.search(b",".join(found[b"keep-alive"])) if b"keep-alive" in found else None
    return inf if match is None else float(match[1])


MAX_OFFER: Final = 256
"Bytes of an Upgrade field; a longer one is ignored."
_NOT_TUNNELLED: Final = (b"h2c", b"http/", b"tls/")
"Protocols that could carry unchecked requests to a backend (h2c smuggling)."


def offered_protocols(found: FieldValues, allowed: str) -> list[bytes]:
    """The protocols in `Upgrade` (RFC 9110, section 7.8) that are allowed. `allowed`: the setting
    `forwarding.upgrades`."""
    if allowed == "none" or b"upgrade" not in found or b"upgrade" not in tokens(found.get(b"connection", [])):
        return []
    listed = b",".join(found[b"upgrade"])
    if len(listed) > MAX_OFFER:
        return []
    offered = [name.strip(b" \t") for name in listed.split(b",")]
    if allowed == "websocket":
        return [name for name in offered if name.lower() == b"websocket"]
    return [name for name in offered if name and not name.lower().startswith(_NOT_TUNNELLED)]


def hop_lines(upgrade: bytes, *, trailers: bool) -> bytes:
    """The hop-by-hop fields that a backend gets: `Upgrade`, `TE` and the `Connection` that names them."""
    options = [name for name, there in ((b"Upgrade", upgrade), (b"TE", trailers)) if there]
    lines = [b"Upgrade: %b\r\n" % upgrade] if upgrade else []
    if trailers:
        lines.append(b"TE: trailers\r\n")
    return b"".join([*lines, b"Connection: %b\r\n" % b", ".join(options)])


def via_members(name: bytes) -> re.Pattern[bytes]:
    """A pattern that finds the members of `Via` with this proxy name (RFC 9110, section 7.6.3)."""
    return re.compile(rb"(?:^|,)[ \t]*[^ \t,]+[ \t]+" + re.escape(name) + rb"(?=[ \t,]|$)", re.IGNORECASE)


def tokens(values: list[bytes]) -> frozenset[bytes]:
    """The lower-case members of a list field (RFC 9110, section 5.6.1). Raises TooManyMembers."""
    if len(values) == 1 and len(values[0]) <= MEMO_LONGEST:
        return _known_members(values[0])
    check_members(values)
    return frozenset().union(*map(_members, values))


def _members(value: bytes) -> frozenset[bytes]:
    return frozenset(token.strip().lower() for token in value.split(b",") if token.strip())


_known_members = lru_cache(256)(_members)


def keeps_alive(found: FieldValues, minor: int) -> bool:
    """Whether the sender of this head keeps the connection open (RFC 9112, section 9.3)."""
    connection = found.get(b"connection")
    if connection is None:
        return minor > 0
    options = tokens(connection)
    return b"close" not in options and (minor > 0 or b"keep-alive" in options)


def max_forwards(method: bytes, fields: Fields, *, trace: bool) -> int:
    """The `Max-Forwards` with which a TRACE or OPTIONS is forwarded (RFC 9110, section 7.6.2); -1 = it has none.
    Raises RejectedRequest when it has come to its end, or for TRACE unless `trace`."""
    if method == b"TRACE" and not trace:
        raise RejectedRequest(Cause.METHOD_NOT_ALLOWED, "TRACE would show HttpOnly cookies to scripts")
    left = [value.rstrip(b" \t") for name, value in fields if name.lower() == b"max-forwards"]
    if not left:
        return -1
    if len(left) > 1 or not left[0].isdigit() or len(left[0]) > 9:
        raise RejectedRequest(Cause.BAD_REQUEST, "Max-Forwards is not one number")
    if int(left[0]) == 0:
        refused = Cause.LOCAL_REPLY if method == b"OPTIONS" else Cause.METHOD_NOT_ALLOWED
        raise RejectedRequest(refused, "Max-Forwards: 0")
    return int(left[0]) - 1


class ClientInfo:
    """One client connection: its address, its trust, and the forwarding fields that describe it, prepared once."""

    __slots__ = (
        "_certificate",
        "_port",
        "_version",
        "_via",
        "address",
        "certificate_subject",
        "client_port",
        "gate",
        "is_usual",
        "listener",
        "logged_carrier",
        "logged_members",
        "peer",
        "peer_port",
        "resumed",
        "scheme",
        "sni",
        "tls",
        "trusted",
        "usual_lines",
    )

    def __init__(
        self,
        address: str,
        *,
        port: int,
        trusted: bool,
        via: bytes,
        scheme: bytes = b"http",
        version: bytes = b"",
        gate: RequestGate | None = None,
        usual_lines: bytes = b"",
    ) -> None:
        """`port`: the port of the listener; 0 = a Unix socket. `via`: the name of this proxy in `Via`. `scheme`:
        https when the connection has TLS. `version`: of HTTP, as in `Via`; empty = HTTP/1, whose minor version is
        that of the request. `gate`: decides which of its requests are served; None = all. `usual_lines`: empty =
        they are to be made."""
        self.address = address
        self.scheme = scheme
        self._port = port
        self.trusted = trusted
        "Whether it is a trusted proxy, whose forwarding fields are believed."
        self._via = via
        self._version = version
        self.gate = gate
        self.tls = ""
        "Version of TLS, such as 1.3; empty = the connection has none."
        self.resumed = False
        self.sni = ""
        "The hostname in the ClientHello; empty = there was none."
        self.certificate_subject = ""
        "Of the certificate that the client has shown (RFC 4514); empty = none."
        self._certificate = b""
        "The fields about that certificate; empty = this listener asks for none."
        self.client_port = 0
        "The port of the client at `address`; 0 = not known."
        self.peer, self.peer_port = address, 0
        "The other end of the connection: the client, or the proxy that names it in a PROXY header."
        self.listener = NO_LISTENER
        self.logged_members = self.logged_carrier = ""
        "What `rules/log/usual_lines.py` has made of what is above; empty = nothing yet."
        self.is_usual = not trusted and port > 0
        "Whether all its HTTP/1.1 requests without `Via` get `usual_lines`."
        self.usual_lines = (usual_lines or self._usual_lines()) if self.is_usual else b""

    def without_trust(self) -> "ClientInfo":
        """An unknown client of this proxy (PROXY header without an address). Its forwarding fields are not
        believed."""
        return self._again(trusted=False, version=self._version)

    def over_h2(self) -> "ClientInfo":
        """The same client, on a connection with HTTP/2."""
        return self._again(trusted=self.trusted, version=b"2.0")

    def _again(self, *, trusted: bool, version: bytes) -> "ClientInfo":
        info = ClientInfo(
            self.address,
            port=self._port,
            trusted=trusted,
            via=self._via,
            scheme=self.scheme,
            version=version,
            gate=self.gate,
        )
        info.tls, info.resumed, info.sni = self.tls, self.resumed, self.sni
        info.client_port, info.listener = self.client_port, self.listener
        info.peer, info.peer_port = self.peer, self.peer_port
        if self._certificate:
            info.identify(self._certificate, self.certificate_subject)
        return info

    def identify(self, certificate: bytes, subject: str) -> None:
        """Describe the certificate of the client to backends, with these lines, and in the log."""
        self._certificate, self.certificate_subject = certificate, subject
        self.usual_lines = self._lines({}, b"", 1)

    def lines(self, found: FieldValues, host: bytes, minor: int = 1) -> tuple[bytes, bytes]:
        """`Via`, `X-Forwarded-*` and `X-Real-IP`, encoded, for a request with these fields that came as
        HTTP/1.`minor`; and the value of `X-Forwarded-Host`, which is not among the lines."""
        if self.is_usual and b"via" not in found and minor:
            return self.usual_lines, host
        if self.trusted and b"x-forwarded-host" in found:
            host = found[b"x-forwarded-host"][-1]
        return self._lines(found, host, minor), host

    def request_id(self, found: FieldValues) -> bytes | None:
        """The X-Request-Id from a trusted proxy, at most 200 bytes; None = there is none."""
        return found[b"x-request-id"][-1][:200] if self.trusted and b"x-request-id" in found else None

    def client_address(self, found: FieldValues) -> str:
        """Address of the client to which the request is counted: of this connection, or the last one in the
        `X-Forwarded-For` of a trusted proxy; "" = the proxy names none."""
        if not self.trusted:
            return self.address
        chain = found.get(b"x-forwarded-for")
        return chain[-1].rpartition(b",")[2].strip().decode("latin-1")[:64] if chain else ""

    def is_edge(self, found: FieldValues) -> bool:
        """Whether another edge sent this request, and so makes retries itself. Believed only of trusted proxies."""
        return self.trusted and b"x-styx-attempt" in found

    def _lines(self, found: FieldValues, host: bytes, minor: int) -> bytes:
        """`host`: what the client requested, as far as it is known."""
        via = [value for value in found.get(b"via", ()) if value]
        via.append(b"%b %b" % (self._version or b"1.%d" % minor, self._via))  # RFC 9110, section 7.6.3
        lines = [b"Via: %b\r\n" % b", ".join(via)]
        believed = found if self.trusted else {}
        chain = b", ".join([*believed.get(b"x-forwarded-for", ()), self.address.encode("ascii")])
        proto = believed.get(b"x-forwarded-proto", [self.scheme])[-1]
        port = _forwarded_port(believed) or self._port_of_scheme(believed, proto, host)
        lines += [b"Forwarded: %b\r\n" % value for value in believed.get(b"forwarded", ())]
        for name, values in believed.items():
            spelled = PASSED_FROM_TRUSTED.get(name)
            if spelled is not None and not (self._certificate and spelled in CERTIFICATE_FIELDS):
                lines += [b"%b: %b\r\n" % (spelled, value) for value in values]
        lines.append(self._certificate)
        lines.append(
            b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Port: %d\r\nX-Real-IP: %b\r\n"
            % (chain, proto, port, self._real_ip(believed))
        )
        return b"".join(lines)

    def _usual_lines(self) -> bytes:
        """What `_lines` returns for a client that is no proxy: one join, because each new connection needs it."""
        address = self.address.encode("ascii")
        return b"".join(
            (
                b"Via: ",
                self._version or b"1.1",
                b" ",
                self._via,
                b"\r\nX-Forwarded-For: ",
                address,
                b"\r\nX-Forwarded-Proto: ",
                self.scheme,
                b"\r\nX-Forwarded-Port: %d\r\nX-Real-IP: " % self._port,
                address,
                b"\r\n",
            )
        )

    def _real_ip(self, believed: FieldValues) -> bytes:
        """The address of the client: the last one that a trusted proxy names, or that of the connection."""
        for name in (b"x-forwarded-for", b"x-real-ip"):
            if name in believed and (address := believed[name][-1].rpartition(b",")[2].strip(b" \t")[:64]):
                return address
        return self.address.encode("ascii")

    def _port_of_scheme(self, believed: FieldValues, proto: bytes, host: bytes) -> int:
        """The port that belongs to the scheme and host that a proxy forwards, or else the listener's: the port that
        counts is the one to which the client is connected."""
        if self._port and b"x-forwarded-proto" not in believed and b"x-forwarded-host" not in believed:
            return self._port
        scheme = proto.split(b",", 1)[0].strip().lower()
        named = _port_of(host)
        if scheme in (b"https", b"wss"):
            # Without TLS, the listener's port is not the client's: the proxy made `Host` up.
            return named if named and (named != self._port or self.scheme == b"https") else 443
        return named or 80


class ClientInfos:
    """Makes the `ClientInfo` of each connection on one listener, from parts that are the same for all of them."""

    __slots__ = ("_counts", "_gate", "_lines", "_port", "_scheme", "_via")

    def __init__(
        self, port: int, *, via: bytes, scheme: bytes, gate: RequestGate | None, counts: ListenerCounts
    ) -> None:
        """`counts`: those of the listener; the others are as for `ClientInfo`."""
        self._port = port
        self._via = via
        self._scheme = scheme
        self._gate = gate
        self._counts = counts
        marker = "\0"
        usual = ClientInfo(marker, port=port, trusted=False, via=via, scheme=scheme).usual_lines
        self._lines = usual.split(marker.encode())
        "The usual lines, without the address that is between them."

    def of(self, address: str, client_port: int, trusted: bool, port: int) -> ClientInfo:
        """The information about a new connection from this address and port. `trusted`: it is that of a trusted
        proxy. `port`: the port that it was accepted on, by this listener or a proxy before it."""
        as_usual = port == self._port and not trusted
        usual_lines = address.encode("ascii").join(self._lines) if as_usual else b""
        info = ClientInfo(
            address,
            port=port,
            trusted=trusted,
            via=self._via,
            scheme=self._scheme,
            gate=self._gate,
            usual_lines=usual_lines,
        )
        info.client_port, info.listener = client_port, self._counts
        return info


def _forwarded_port(believed: FieldValues) -> int:
    """The port in `X-Forwarded-Port`; 0 = there is none."""
    return _port_number(believed[b"x-forwarded-port"][-1]) if b"x-forwarded-port" in believed else 0


def _port_of(host: bytes) -> int:
    """The port after a host; 0 = there is none."""
    name, colon, port = host.rpartition(b":")
    return _port_number(port) if colon and (name[:1] != b"[" or name[-1:] == b"]") else 0


def _port_number(text: bytes) -> int:
    """The number of a port; 0 = it is not one."""
    number = int(text) if text.isdigit() and len(text) <= 5 else 0
    return number if number < 1 << 16 else 0


def framing_line(framing: Framing, length: int) -> bytes:
    """The field that frames the body: Content-Length or Transfer-Encoding; empty for other framings."""
    if framing is Framing.LENGTH:
        return b"Content-Length: %d\r\n" % length
    return b"Transfer-Encoding: chunked\r\n" if framing is Framing.CHUNKED else b""


def later_lines(backend_line: bytes, attempt: int) -> bytes:
    """The last lines of a request head, with the empty one; they differ between attempts."""
    return b"%bX-Styx-Attempt: %d\r\n\r\n" % (backend_line, attempt)


EXPECT_LINE: Final = b"Expect: 100-continue\r\n"


def last_chunk(trailers: bytes) -> bytes:
    """The end of a chunked body (RFC 9112, section 7.1.2)."""
    return b"0\r\n%b\r\n" % trailers


_STATUS_LINES: Final[Mapping[tuple[int, bytes], bytes]] = {
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
    """The status line of a response, always with HTTP/1.1, the version of the edge (RFC 9110, section 2.5)."""
    return _STATUS_LINES.get((status, reason)) or b"HTTP/1.1 %d %b\r\n" % (status, reason)


@cache
def own_status_line(status: int) -> bytes:
    """The status line of a local reply, with the standard reason phrase."""
    return b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode("ascii"))
