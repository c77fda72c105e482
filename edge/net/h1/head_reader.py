"""From the bytes of a whole head to a request or an answer that may be passed on.

    bytes ─► parser (C) ─► admission (rules) ─► Request, Answer

Both steps are pure functions of the bytes, and bytes repeat: a browser says the same fields for every image
of a page, a client of an API for every call, and a container for every page that it makes in the same
second. So what a block of fields came to is remembered, from its second time on: what comes once only must
not push out what comes often, nor cost more than a glance. What is remembered is bounded in number and in
size, the oldest forgotten first.
"""

import re
from typing import Generic, TypeVar

from edge.net.h1.llhttp_parser import request_fields, request_head, response_head
from edge.rules.http.framing import RejectedRequest
from edge.rules.http.head_validation import HeadValidator, Request, Response
from edge.rules.http.messages import SAFE_METHODS, Fields, RequestHead, ResponseHead
from edge.rules.outcomes import Cause

REMEMBERED = 1024
"Heads of each direction."
LONGEST = 4096
"Bytes of a head that is worth it: 4 MiB a direction at the most."
GLIMPSES = 4096
"Heads of each direction that are known to have come once."

# A request line that needs no second thought. Any other one is for the parser to judge.
# (Some fields mean something else to OPTIONS, so it is not among these.)
_PLAIN_LINE = re.compile(rb"(GET|HEAD|POST|PUT|DELETE|PATCH) (/[\x21\x22\x24-\x7e]*) HTTP/1\.1")


T = TypeVar("T")


class RepeatCache(Generic[T]):
    """What came twice, and what it came to."""

    __slots__ = ("_glimpses", "_known", "get")

    def __init__(self) -> None:
        self._known: dict[bytes, T] = {}
        self._glimpses = [0] * GLIMPSES
        self.get = self._known.get

    def __len__(self) -> int:
        return len(self._known)

    @property
    def longest(self) -> int:
        """Bytes of the longest that is remembered."""
        return max(map(len, self._known), default=0)

    def offer(self, seen: bytes, came_to: T) -> None:
        """Remember this, if it was seen before."""
        known, mark = self._known, hash(seen)  # the look-up has left it in the object
        endpoint = mark % GLIMPSES
        if self._glimpses[endpoint] != mark:
            self._glimpses[endpoint] = mark
        elif len(seen) <= LONGEST:
            if len(known) >= REMEMBERED:
                del known[next(iter(known))]
            known[seen] = came_to


class HeadReader:
    """Reads the heads of one worker."""

    __slots__ = ("_admission", "_answers", "_longest", "_requests")

    def __init__(self, admission: HeadValidator) -> None:
        self._admission = admission
        self._longest = min(LONGEST, admission.unmeasured)
        self._requests: RepeatCache[Request] = RepeatCache()
        self._answers: RepeatCache[Response] = RepeatCache()

    def reconfigure(self, admission: HeadValidator) -> None:
        """Read by other limits. What is remembered was admitted by the old ones: it is forgotten."""
        self._admission = admission
        self._longest = min(LONGEST, admission.unmeasured)
        self._requests = RepeatCache()
        self._answers = RepeatCache()

    def closed(self) -> "HeadReader":
        """One that refuses every request, for the edge stops."""
        return _ClosedIntake(self._admission)

    def __len__(self) -> int:
        """Heads remembered, of both directions."""
        return len(self._requests) + len(self._answers)

    @property
    def longest(self) -> int:
        """Bytes of the longest of them."""
        return max(self._requests.longest, self._answers.longest)

    def request(self, data: bytes) -> Request:
        """The request whose head this is, through its blank line. Raises Refusal."""
        end = data.find(b"\r\n")
        line = _PLAIN_LINE.fullmatch(data, 0, end)
        if line is None or len(data) > self._longest:
            self._admission.head_bytes(data)
            return self._admit(request_head(data, self._admission.fields))
        method, target = line.groups()
        fields = data[end:]
        known = self._requests.get(fields)
        if known is None:
            request = self._admit(RequestHead(method, target, 1, request_fields(fields, self._admission.fields)))
            self._requests.offer(fields, request)
            return request
        if target == known.target and method == known.method:
            return known
        return Request(
            method,
            target,
            1,
            known.host,
            known.host_field,
            known.lines,
            known.found,
            known.framing,
            known.length,
            known.keep_alive,
            method in SAFE_METHODS,
            known.fields,
            known.offers,
        )

    def _admit(self, head: RequestHead) -> Request:
        try:
            return self._admission.request(head)
        except RejectedRequest as refusal:
            refusal.head = head
            raise

    def partial_request(self, data: bytes, seen: int) -> None:
        """Look at the beginning of a head. Raises Refusal when it can only grow worse."""
        self._admission.partial_head(data, seen)

    def answer(self, data: bytes, *, to_head: bool) -> Response | ResponseHead:
        """The final answer whose head this is, or the head of an interim one. Raises BadAnswer."""
        if not to_head:
            known = self._answers.get(data)
            if known is not None:
                return known
        head = response_head(data, self._admission.fields)
        if head.status < 200:
            return head
        answer = self._admission.answer(head, to_head=to_head)
        if not to_head:
            self._answers.offer(data, answer)
        return answer

    def trailer_lines(self, fields: Fields, *, of_request: bool) -> bytes:
        """The lines of trailers that pass, as they are sent."""
        return self._admission.trailer_lines(fields, of_request=of_request)

    def protocols(self, head: ResponseHead) -> list[bytes]:
        """Those to which a 101 answer switches, in its own spelling."""
        return self._admission.protocols(head)

    def interim_lines(self, head: ResponseHead) -> list[bytes]:
        """The lines of an interim answer that pass."""
        return self._admission.interim_lines(head)


class _ClosedIntake(HeadReader):
    """See `HeadReader.closed`. It is a class of its own so that no request pays for the question."""

    __slots__ = ()

    def request(self, data: bytes) -> Request:
        """Raises Refusal."""
        refusal = RejectedRequest(Cause.EDGE_STOPPED, "the edge stops")
        refusal.head = request_head(data)
        raise refusal
