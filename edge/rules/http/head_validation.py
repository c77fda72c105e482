"""Head validation: turns a parsed head into a request or a response that may be forwarded, or rejects it.

All checks of a head are made here, before a byte of it is forwarded.
"""

from typing import ClassVar, Final

from edge.rules.http.field_filter import Sifted, request_filter, response_filter
from edge.rules.http.framing import (
    FieldValues,
    Framing,
    RejectedRequest,
    ResponseTooLarge,
    TooManyMembers,
    check_members,
    request_framing,
    response_framing,
)
from edge.rules.http.head_size import check_head_size, check_partial_head
from edge.rules.http.hop_by_hop import (
    framing_line,
    hop_lines,
    keep_alive_timeout,
    keeps_alive,
    max_forwards,
    offered_protocols,
    status_line,
    tokens,
    via_members,
)
from edge.rules.http.messages import SAFE_METHODS, Fields, ReceivedFields, RequestHead, ResponseHead
from edge.rules.http.request_target import authority_of, hostname_of, origin_form
from edge.rules.http.start_lines import likely_request_line
from edge.rules.outcomes import Cause
from edge.rules.settings import ForwardingSettings, LimitSettings

_NONE: Final = Framing.NONE
_LENGTH: Final = Framing.LENGTH
_CLOSE: Final = Framing.CLOSE


class Request:
    """A request that may be forwarded. Immutable by convention: one object may stand for many equal requests."""

    __slots__ = (
        "found",
        "framing",
        "host",
        "host_field",
        "keep_alive",
        "length",
        "line",
        "lines",
        "logged",
        "logged_members",
        "method",
        "minor",
        "offers",
        "received",
        "safe",
        "target",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        minor: int,
        host: str,
        host_field: bytes,
        lines: bytes,
        found: FieldValues,
        framing: Framing,
        length: int,
        keep_alive: bool,
        safe: bool,
        received: ReceivedFields,
        offers: frozenset[bytes],
    ) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.host = host
        "The hostname: lower case, without port."
        self.host_field = host_field
        "`Host` as the client sent it."
        self.lines = lines
        "The forwarded fields and the framing field, encoded."
        self.found = found
        "Fields that styx reads itself."
        self.framing = framing
        self.length = length
        self.keep_alive = keep_alive
        self.safe = safe
        self.received = received
        self.offers = offers
        "Protocols that the client offers to switch to (`Upgrade`), such as websocket, in lower case; mostly none."
        self.logged: tuple[str, str, str] | None = None
        "What `rules/log/logged_fields.py` has made of its fields; None = nothing yet."
        self.logged_members = ""
        "What `rules/log/usual_lines.py` has made of its line and hostname; empty = nothing yet."
        self.line = b""
        "Its request line, if it is a plain one, for a client that repeats it."

    @property
    def fields(self) -> Fields:
        """All fields as received, for those that are rarely needed."""
        return self.received.listed

    @classmethod
    def refused(cls, head: RequestHead | None = None, data: bytes = b"") -> "Request":
        """A placeholder for a rejected request, for the log: from its head, or from the bytes if it has none."""
        method, target = (head.method, head.target) if head is not None else likely_request_line(data)
        return cls(
            method=method,
            target=target,
            minor=1,
            host="",
            host_field=b"",
            lines=b"",
            found={},
            framing=Framing.NONE,
            length=0,
            keep_alive=False,
            safe=False,
            received=head.received if head is not None else ReceivedFields([]),
            offers=_NONE_OFFERED,
        )


class Response:
    """A backend's final response that may be forwarded. Immutable by convention, as `Request` is."""

    __slots__ = (
        "cause",
        "found",
        "framing",
        "has_date",
        "head",
        "is_stream",
        "keep_alive",
        "keep_alive_timeout",
        "length",
        "lines",
        "received",
        "status",
        "whole",
    )

    def __init__(
        self,
        status: int,
        cause: Cause,
        lines: bytes,
        head: bytes,
        found: FieldValues,
        framing: Framing,
        length: int,
        keep_alive: bool,
        received: ReceivedFields,
        is_stream: bool,
        has_date: bool,
        kept_for: float,
    ) -> None:
        self.status = status
        self.cause = cause
        "How the attempt ended with it."
        self.lines = lines
        "Status line and forwarded fields, encoded."
        self.head = head
        "`lines` with the framing field, for a client that gets the body in the framing of the backend."
        self.found = found
        self.framing = framing
        self.length = length
        self.keep_alive = keep_alive
        self.received = received
        self.is_stream = is_stream
        "Whether it is a stream of server-sent events, whose time to first byte does not show the backend's speed."
        self.has_date = has_date
        "Whether the backend sent `Date`; else styx adds it (RFC 9110, section 6.6.1)."
        self.keep_alive_timeout = kept_for
        "Seconds for which the backend keeps an idle connection, as its `Keep-Alive` says; inf = it does not say."
        self.whole = b""
        'Its head as received, through the blank line, if another request may get the same; b"" = it was not kept.'

    @property
    def fields(self) -> Fields:
        """All fields as received, for those that are rarely needed."""
        return self.received.listed


class HeadValidator:
    """Validates heads of requests and responses. Caches values of Host, so that a usual one costs a dict lookup."""

    __slots__ = (
        "_forwarding",
        "_hosts",
        "_limits",
        "_most_body",
        "_via",
        "fields",
        "requests",
        "responses",
        "unmeasured",
    )

    HOSTS: ClassVar[int] = 16384
    "Values of Host in the cache."

    def __init__(self, limits: LimitSettings, forwarding: ForwardingSettings) -> None:
        self._limits = limits
        self.unmeasured = min(limits.request_line, limits.field, limits.cookie, limits.head)
        "A head of at most this many bytes can exceed no limit but that of the number of fields."
        self.fields = limits.fields
        "Largest number of fields in one head."
        self._most_body = limits.body or _ANY_LENGTH
        self._forwarding = forwarding
        self._via = via_members(forwarding.via_name.encode("ascii"))
        self.requests = request_filter()
        self.responses = response_filter()
        self._hosts: dict[bytes, str] = {}

    def partial_head(self, data: bytes, seen: int) -> None:
        """Check an incomplete head, of which `seen` bytes were checked before. Raises RejectedRequest."""
        check_partial_head(data, self._limits, seen)

    def head_bytes(self, data: bytes) -> None:
        """Check a complete head against the limits. Raises RejectedRequest."""
        if len(data) > self.unmeasured:
            check_head_size(data, self._limits)

    def request(self, head: RequestHead) -> Request:
        """Validate the head of a request. Raises RejectedRequest."""
        return self.sifted_request(head, self.requests.sift(head.fields))

    def sifted_request(self, head: RequestHead, sifted: Sifted) -> Request:
        """The same for a head whose fields are sorted already."""
        lines, found, _ = sifted
        method, target = head.method, head.target
        hosts = found.get(b"host")
        if hosts is None and not head.minor and target[:1] != b"/":
            hosts = [authority_of(target)]  # an HTTP/1.0 client need not send Host besides an absolute target
        host = self._hosts.get(hosts[0]) if hosts is not None and len(hosts) == 1 else None
        if host is None:
            host = self._learn(hosts)
        assert hosts is not None
        if target[:1] != b"/" or method == b"CONNECT":
            target = origin_form(method, target, hosts[0])
        framing, length, offers, keep_alive = _NONE, 0, _NONE_OFFERED, head.minor > 0
        is_usual = len(found) == 1 and b"host" in found  # of what follows, nothing is in most requests
        if not is_usual:
            framing, length = request_framing(found, head.minor)
            if length > self._most_body:
                why = f"announced {length} bytes, at most {self._limits.body}"
                raise RejectedRequest(Cause.BODY_TOO_LARGE, why)
        if method in _HOP_COUNTING:
            left = max_forwards(method, head.fields, trace=self._forwarding.trace)
            others = [field for field in head.fields if field[0].lower() != b"max-forwards"]
            lines = self.requests.sift(others)[0] + ([b"Max-Forwards: %d\r\n" % left] if left >= 0 else [])
        if not is_usual:
            if not _RARE.isdisjoint(found):
                no_body = framing is _NONE or (framing is _LENGTH and not length)
                offers = self._add_rare_lines(head.minor, found, lines, no_body=no_body)
            if framing is not _NONE:
                lines.append(framing_line(framing, length))
            # Bytes after an Upgrade may be of the new protocol: if the backend declines it, nobody can read them.
            keep_alive = not offers and keeps_alive(found, head.minor)
        return Request(
            method,
            target,
            head.minor,
            host,
            hosts[0],
            b"".join(lines),
            found,
            framing,
            length,
            keep_alive,
            method in SAFE_METHODS,
            head.received,
            offers,
        )

    def _add_rare_lines(
        self, minor: int, found: FieldValues, lines: list[bytes], *, no_body: bool
    ) -> frozenset[bytes]:
        """Handle Via, Expect, TE, Upgrade. Returns the offered protocols. Raises RejectedRequest."""
        for name in _LISTS:
            if name in found:
                _check_list(name, found[name])
        if b"via" in found and len(self._via.findall(b",".join(found[b"via"]))) >= self._forwarding.max_via:
            raise RejectedRequest(Cause.LOOP_DETECTED, f"Via names {self._forwarding.via_name} too often")
        if b"expect" in found:
            # Ignored in HTTP/1.0 (RFC 9110, section 10.1.1).
            if _expects_continue(found[b"expect"]) and minor:
                lines.append(b"Expect: 100-continue\r\n")
            else:
                del found[b"expect"]
        trailers = minor > 0 and b"te" in found and b"trailers" in tokens(found[b"te"])
        offered = offered_protocols(found, self._forwarding.upgrades) if minor and no_body else []
        if offered or trailers:
            lines.append(hop_lines(b", ".join(offered), trailers=trailers))
        return frozenset(map(bytes.lower, offered))

    def trailer_lines(self, fields: Fields, *, of_request: bool) -> bytes:
        """The trailers that are forwarded, encoded."""
        return (self.requests if of_request else self.responses).sift_trailers(fields)

    def protocols(self, head: ResponseHead) -> list[bytes]:
        """The protocols that a 101 response switches to, as the backend spells them."""
        _, found, _ = self.responses.sift(head.fields)
        return offered_protocols(found, "any")

    def response(self, head: ResponseHead, *, to_head: bool) -> Response:
        """Validate the head of a final response. `to_head`: the request was a HEAD. Raises BadResponse."""
        return self.sifted_response(head, self.responses.sift(head.fields), to_head=to_head)

    def sifted_response(self, head: ResponseHead, sifted: Sifted, *, to_head: bool) -> Response:
        """The same for a head whose fields are sorted already."""
        lines, found, count = sifted
        if count > self._limits.response_fields:
            raise ResponseTooLarge("limits.response_fields", count, self._limits.response_fields)
        framing, length = response_framing(found, status=head.status, minor=head.minor, to_head=to_head)
        keep_alive = framing is not _CLOSE and keeps_alive(found, head.minor)
        if head.status == 426 and b"upgrade" in found:  # must name a protocol (RFC 9110, section 15.5.22)
            lines.append(b"Upgrade: %b\r\nConnection: Upgrade\r\n" % b", ".join(found[b"upgrade"]))
        forwarded = b"".join((status_line(head.status, head.reason), *lines))
        # In a response to HEAD and in a 304, it is the length of the body a GET would get (RFC 9110, section 8.6).
        has_length = framing is _NONE and head.status != 204 and b"content-length" in found
        return Response(
            head.status,
            response_cause(head.status, found),
            forwarded,
            forwarded + framing_line(_LENGTH if has_length else framing, length),
            found,
            framing,
            length,
            keep_alive,
            head.received,
            framing is not _LENGTH and b"text/event-stream" in forwarded,
            b"\r\nDate: " in forwarded or b"\r\ndate: " in forwarded.lower(),
            keep_alive_timeout(found),
        )

    def interim_lines(self, head: ResponseHead) -> list[bytes]:
        """The fields of a 1xx response that are forwarded, encoded."""
        return self.responses.sift(head.fields)[0]

    def _learn(self, hosts: list[bytes] | None) -> str:
        host = hostname_of(hosts)
        if hosts is not None:
            if len(self._hosts) >= self.HOSTS:
                self._hosts.clear()  # most of them are made up; the real ones are soon cached again
            self._hosts[hosts[0]] = host
        return host


_ANY_LENGTH: Final = 1 << 60
_HOP_COUNTING: Final = frozenset({b"OPTIONS", b"TRACE"})
_RARE: Final = frozenset({b"via", b"expect", b"te", b"upgrade"})
_LISTS: Final = (b"via", b"te")
_NONE_OFFERED: Final[frozenset[bytes]] = frozenset()
_CONTINUE: Final = frozenset({b"100-continue"})


def _check_list(name: bytes, values: list[bytes]) -> None:
    try:
        check_members(values)
    except TooManyMembers as error:
        raise RejectedRequest(Cause.HEADERS_TOO_LARGE, f"{name.decode()} has {error}") from error


def _expects_continue(values: list[bytes]) -> bool:
    """Whether the client waits for a 100 (Continue), which the backend sends (RFC 9110, section 10.1.1). Expect is
    a list, which may be empty or repeat a member. Raises RejectedRequest for other expectations: none is defined.
    """
    expected = tokens(values)
    if not expected <= _CONTINUE:
        raise RejectedRequest(Cause.EXPECTATION_FAILED, "an expectation other than 100-continue")
    return bool(expected)


def response_cause(status: int, found: FieldValues) -> Cause:
    """The cause with which a response ends its attempt (docs/contracts.md, 560 among them)."""
    if b"x-styx-refused" in found:
        return Cause.REFUSED
    if status < 500:
        return Cause.MISDIRECTED if status == 421 else Cause.OK
    if status == 560:
        return Cause.RETRY_REQUESTED
    return Cause.GATEWAY_ERROR if status in (502, 504) else Cause.SERVER_ERROR


def refusal_pause(response: Response) -> float:
    """Seconds for which a full backend asks to get no requests: its Retry-After, at most ten."""
    for name, value in response.fields:
        if name.lower() == b"retry-after" and value.isdigit() and len(value) < 9:
            return min(float(value), 10.0)
    return 0.0
