"""From a parsed head to a request or an answer that may be passed on.

Everything that is checked about a head is checked here, top to bottom, before a byte of it goes further.
"""

from edge.rules.http.framing import (
    Found,
    Framing,
    RejectedRequest,
    ResponseTooLarge,
    TooManyMembers,
    answer_framing,
    check_members,
    request_framing,
)
from edge.rules.http.hop_by_hop import (
    answer_sieve,
    framing_line,
    hop_lines,
    keep_alive_timeout,
    keeps_alive,
    offered_protocols,
    request_sieve,
    status_line,
    tokens,
    via_members,
)
from edge.rules.http.messages import SAFE_METHODS, Fields, RequestHead, ResponseHead
from edge.rules.http.request_target import authority_of, hostname_of, origin_form
from edge.rules.http.start_lines import glimpse_of
from edge.rules.outcomes import Cause
from edge.rules.settings import ForwardingSettings, LimitSettings

_NONE, _LENGTH, _CLOSE = Framing.NONE, Framing.LENGTH, Framing.CLOSE


class Request:
    """A request that may be passed on. Nobody changes it: the same one may stand for many."""

    __slots__ = (
        "fields",
        "found",
        "framing",
        "host",
        "host_field",
        "keep_alive",
        "length",
        "lines",
        "method",
        "minor",
        "offers",
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
        found: Found,
        framing: Framing,
        length: int,
        keep_alive: bool,
        safe: bool,
        fields: Fields,
        offers: frozenset[bytes],
    ) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.host = host
        "The hostname: lower case, without port."
        self.host_field = host_field
        "`Host` as the client spelled it."
        self.lines = lines
        "The fields that pass and the one that tells how the body ends, as they are sent."
        self.found = found
        "Fields that styx reads itself."
        self.framing = framing
        self.length = length
        self.keep_alive = keep_alive
        self.safe = safe
        self.fields = fields
        "All fields as they came, for what is rarely looked at."
        self.offers = offers
        "Protocols that the client would rather speak from here on, such as websocket; mostly none."

    @classmethod
    def refused(cls, head: RequestHead | None = None, data: bytes = b"") -> "Request":
        """Stands for a request that is refused: of this head, or, if it could not be read, of these bytes."""
        method, target = (head.method, head.target) if head is not None else glimpse_of(data)
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
            fields=head.fields if head is not None else [],
            offers=_NONE_OFFERED,
        )


class Response:
    """A backend's final answer that may be passed on. Nobody changes it: the same one may stand for many."""

    __slots__ = (
        "cause",
        "fields",
        "found",
        "framing",
        "has_date",
        "head",
        "is_stream",
        "keep_alive",
        "kept_for",
        "length",
        "lines",
        "status",
    )

    def __init__(
        self,
        status: int,
        cause: Cause,
        lines: bytes,
        head: bytes,
        found: Found,
        framing: Framing,
        length: int,
        keep_alive: bool,
        fields: Fields,
        is_stream: bool,
        has_date: bool,
        kept_for: float,
    ) -> None:
        self.status = status
        self.cause = cause
        "What it means for the attempt."
        self.lines = lines
        "Status line and the fields that pass, as they are sent."
        self.head = head
        "The same with the field that tells how the body ends, if it ends for the client as it did for us."
        self.found = found
        self.framing = framing
        self.length = length
        self.keep_alive = keep_alive
        self.fields = fields
        self.is_stream = is_stream
        "Of events, whenever they happen: when it begins tells nothing about the backend's speed."
        self.has_date = has_date
        "Whether the backend sent `Date`; else we add it (RFC 9110, section 6.6.1)."
        self.kept_for = kept_for
        "Seconds for which the backend says that it keeps the connection when it is idle."


class HeadValidator:
    """Checks heads. Remembers spellings that it has seen, so that the usual ones cost a look-up."""

    __slots__ = ("_answers", "_forwarding", "_hosts", "_limits", "_requests", "_via", "fields", "unmeasured")

    HOSTS = 16384
    "Spellings of Host remembered."

    def __init__(self, limits: LimitSettings, forwarding: ForwardingSettings) -> None:
        self._limits = limits
        self.unmeasured = min(limits.request_line, limits.field, limits.cookie, limits.head)
        "A head of this size breaks no limit but that of fields."
        self.fields = limits.fields
        "Of one head, at most; they are counted before they are parsed."
        self._forwarding = forwarding
        self._via = via_members(forwarding.via_name.encode("ascii"))
        self._requests = request_sieve()
        self._answers = answer_sieve()
        self._hosts: dict[bytes, str] = {}

    def partial_head(self, data: bytes, seen: int) -> None:
        """Refuse the beginning of a head that can only grow worse. Raises Refusal."""
        check_partial_head(data, self._limits, seen)

    def head_bytes(self, data: bytes) -> None:
        """Hold a whole head against the limits. Raises Refusal."""
        if len(data) > self.unmeasured:
            check_head_size(data, self._limits)

    def request(self, head: RequestHead) -> Request:
        """Raises Refusal."""
        lines, found = self._requests.sift(head.fields)
        method, target = head.method, head.target
        hosts = found.get(b"host")
        if hosts is None and not head.minor and target[:1] != b"/":
            hosts = [authority_of(target)]  # an HTTP/1.0 client need not say it twice
        host = self._hosts.get(hosts[0]) if hosts is not None and len(hosts) == 1 else None
        if host is None:
            host = self._learn(hosts)
        assert hosts is not None
        if target[:1] != b"/" or method == b"CONNECT":
            target = origin_form(method, target, hosts[0])
        framing, length = request_framing(found, head.minor)
        if self._limits.body and length > self._limits.body:
            raise RejectedRequest(Cause.BODY_TOO_LARGE, f"announced {length} bytes, at most {self._limits.body}")
        if method in _HOPPING:
            lines = self._one_hop_less(method, head.fields, lines)
        offers = _NONE_OFFERED
        if not _RARE.isdisjoint(found):
            bodiless = framing is _NONE or (framing is _LENGTH and not length)
            offers = self._add_rare_lines(head.minor, found, lines, bodiless=bodiless)
        return Request(
            method,
            target,
            head.minor,
            host,
            hosts[0],
            b"".join((*lines, framing_line(framing, length))),
            found,
            framing,
            length,
            # Bytes behind an offer may be meant for the new protocol: if it is not taken, nobody reads them.
            not offers and keeps_alive(found, head.minor),
            method in SAFE_METHODS,
            head.fields,
            offers,
        )

    def _add_rare_lines(self, minor: int, found: Found, lines: list[bytes], *, bodiless: bool) -> frozenset[bytes]:
        """What few requests have and means something to their backend; returns the protocols offered."""
        for name in _LISTS:
            if name in found:
                _check_list(name, found[name])
        if b"via" in found and len(self._via.findall(b",".join(found[b"via"]))) >= self._forwarding.max_via:
            raise RejectedRequest(Cause.LOOP_DETECTED, f"Via names {self._forwarding.via_name} too often")
        if b"expect" in found:
            if _expects_continue(found[b"expect"]) and minor:  # (an HTTP/1.0 client's is ignored: RFC 9110, 10.1.1)
                lines.append(b"Expect: 100-continue\r\n")
            else:
                del found[b"expect"]
        trailers = minor > 0 and b"te" in found and b"trailers" in tokens(found[b"te"])
        offered = offered_protocols(found, self._forwarding.upgrades) if minor and bodiless else []
        if offered or trailers:
            lines.append(hop_lines(b", ".join(offered), trailers=trailers))
        return frozenset(map(bytes.lower, offered))

    def _one_hop_less(self, method: bytes, fields: Fields, lines: list[bytes]) -> list[bytes]:
        """TRACE, if it is allowed, and OPTIONS count the proxies that they may pass (RFC 9110, section 7.6.2)."""
        if method == b"TRACE" and not self._forwarding.trace:
            raise RejectedRequest(
                Cause.METHOD_NOT_ALLOWED, "TRACE shows a page the cookies that scripts may not see"
            )
        left = [value.rstrip(b" \t") for name, value in fields if name.lower() == b"max-forwards"]
        if not left:
            return lines
        if len(left) > 1 or not left[0].isdigit() or len(left[0]) > 9:
            raise RejectedRequest(Cause.BAD_REQUEST, "Max-Forwards is not one number")
        if int(left[0]) == 0:
            refused = Cause.LOCAL_REPLY if method == b"OPTIONS" else Cause.METHOD_NOT_ALLOWED
            raise RejectedRequest(refused, "Max-Forwards: 0")
        others, _ = self._requests.sift([field for field in fields if field[0].lower() != b"max-forwards"])
        return [*others, b"Max-Forwards: %d\r\n" % (int(left[0]) - 1)]

    def trailer_lines(self, fields: Fields, *, of_request: bool) -> bytes:
        """The lines of trailers that pass, as they are sent."""
        return (self._requests if of_request else self._answers).sift_trailers(fields)

    def protocols(self, head: ResponseHead) -> list[bytes]:
        """Those to which a 101 answer switches, in its own spelling."""
        _, found = self._answers.sift(head.fields)
        return offered_protocols(found, "any")

    def answer(self, head: ResponseHead, *, to_head: bool) -> Response:
        """Raises BadAnswer."""
        if len(head.fields) > self._limits.response_fields:
            raise ResponseTooLarge("limits.response_fields", len(head.fields), self._limits.response_fields)
        lines, found = self._answers.sift(head.fields)
        framing, length = answer_framing(found, status=head.status, minor=head.minor, to_head=to_head)
        keep_alive = framing is not _CLOSE and keeps_alive(found, head.minor)
        if head.status == 426 and b"upgrade" in found:  # must tell what to speak (RFC 9110, section 15.5.22)
            lines.append(b"Upgrade: %b\r\nConnection: Upgrade\r\n" % b", ".join(found[b"upgrade"]))
        passing = b"".join((status_line(head.status, head.reason), *lines))
        # To a HEAD, and in a 304, it is about the body that a GET would have got (RFC 9110, section 8.6).
        told = framing is _NONE and head.status != 204 and b"content-length" in found
        return Response(
            head.status,
            answer_cause(head.status, found),
            passing,
            passing + framing_line(_LENGTH if told else framing, length),
            found,
            framing,
            length,
            keep_alive,
            head.fields,
            framing is not _LENGTH and b"text/event-stream" in passing,
            b"\r\nDate: " in passing or b"\r\ndate: " in passing.lower(),
            keep_alive_timeout(found),
        )

    def interim_lines(self, head: ResponseHead) -> list[bytes]:
        """The lines of a 1xx answer that pass."""
        return self._answers.sift(head.fields)[0]

    def _learn(self, hosts: list[bytes] | None) -> str:
        host = hostname_of(hosts)
        if hosts is not None:
            if len(self._hosts) >= self.HOSTS:
                self._hosts.clear()  # made-up ones, mostly: the real ones come back
            self._hosts[hosts[0]] = host
        return host


_HOPPING = frozenset({b"OPTIONS", b"TRACE"})
_RARE = frozenset({b"via", b"expect", b"te", b"upgrade"})
_LISTS = (b"via", b"te")
_NONE_OFFERED: frozenset[bytes] = frozenset()
_CONTINUE = frozenset({b"100-continue"})


def _check_list(name: bytes, values: list[bytes]) -> None:
    try:
        check_members(values)
    except TooManyMembers as error:
        raise RejectedRequest(Cause.HEADERS_TOO_LARGE, f"{name.decode()} has {error}") from error


def _expects_continue(values: list[bytes]) -> bool:
    """Whether the client waits for a 100 (Continue), which is the backend's to send (RFC 9110, section 10.1.1).
    Raises Refusal: nothing else is defined. It is a list, which may be empty or name a member twice."""
    expected = tokens(values)
    if not expected <= _CONTINUE:
        raise RejectedRequest(Cause.EXPECTATION_FAILED, "an expectation other than 100-continue")
    return bool(expected)


def has_bare_lf(data: bytes, seen: int = 0) -> bool:
    """Whether a line ends without CR: such a head will never have an end that both sides see.

    `seen`: up to there it was looked at before. Heads may come byte by byte; looking at all of it each time
    would take a client's packet a millisecond of our time.
    """
    start = seen - 1 if seen and data[seen - 1] == _CR else seen
    return data.count(b"\n", start) != data.count(b"\r\n", start)


_CR = ord("\r")


def check_partial_head(data: bytes, limits: LimitSettings, seen: int = 0) -> None:
    """Refuse what can only grow worse: a line that is too long already, or ends without CR. Raises Refusal.

    Only the first line and the last one are measured; the others will be when the head is whole.
    """
    if has_bare_lf(data, seen):
        raise RejectedRequest(Cause.BAD_REQUEST, "a bare line feed in the head")
    whole = len(data) - data.endswith(b"\r")  # half of a line's end belongs to no line
    start = 2 if data[:2] == b"\r\n" else 0
    first, last = data.find(b"\r\n", start), data.rfind(b"\r\n", start)
    if (first if first >= 0 else whole) - start > limits.request_line:
        raise _line_too_long(limits)
    if whole - start > limits.head:
        raise _head_too_large(limits)
    if last >= 0 and whole - last - 2 > limits.field:
        _check_field(data[last + 2 : whole], limits)


def check_head_size(data: bytes, limits: LimitSettings) -> None:
    """Hold a whole head against the limits. Raises Refusal."""
    end = data.find(b"\r\n")
    if end > limits.request_line:
        raise _line_too_long(limits)
    if len(data) > limits.head:
        raise _head_too_large(limits)
    if data.count(b"\r\n") - 2 > limits.fields:
        raise RejectedRequest(Cause.HEADERS_TOO_LARGE, f"more than {limits.fields} fields")
    for field in data[end:].split(b"\r\n"):
        if len(field) > limits.field:
            _check_field(field, limits)


def _line_too_long(limits: LimitSettings) -> RejectedRequest:
    return RejectedRequest(Cause.URI_TOO_LONG, f"request line longer than {limits.request_line} bytes")


def _head_too_large(limits: LimitSettings) -> RejectedRequest:
    return RejectedRequest(Cause.HEADERS_TOO_LARGE, f"head larger than {limits.head} bytes")


def _check_field(field: bytes, limits: LimitSettings) -> None:
    """A field beyond the limit may be a Cookie: browsers send in it all that a site ever set."""
    name, _, value = field.partition(b":")
    if name.lower() != b"cookie" or len(value.strip(b" \t")) > limits.cookie:
        raise RejectedRequest(Cause.HEADERS_TOO_LARGE, f"a field larger than {limits.field} bytes")


def answer_cause(status: int, found: Found) -> Cause:
    """What a backend's answer means for its attempt (docs/contracts.md; Pantheon's 560)."""
    if b"x-styx-refused" in found:
        return Cause.REFUSED
    if status < 500:
        return Cause.MISDIRECTED if status == 421 else Cause.OK
    if status == 560:
        return Cause.RETRY_REQUESTED
    return Cause.GATEWAY_ERROR if status in (502, 504) else Cause.SERVER_ERROR


def refusal_pause(answer: Response) -> float:
    """Seconds for which a full backend asks not to be tried: its Retry-After, at most ten."""
    for name, value in answer.fields:
        if name.lower() == b"retry-after" and value.isdigit() and len(value) < 9:
            return min(float(value), 10.0)
    return 0.0
