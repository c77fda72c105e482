"""Turns the bytes of a complete head into a validated request or response.

    bytes ─► fields, sorted ─► validation (rules) ─► Request, Response
                 │ compiled: one pass (rules/http/field_filter.py)
                 └ plain Python: parser in C (llhttp_parser.py), then sorted

Both steps are pure functions of the bytes, and heads repeat: a browser sends the same fields for every image of a
page, a client of an API for every call, and a container for every page that it makes in the same second. So the
result for a block of fields is cached from its second occurrence on: a head that comes once must not evict one that
comes often, and must cost no more than a hash. The cache is bounded in number and in size; the oldest entry is
evicted first.
"""

from typing import TYPE_CHECKING, Final, Generic, TypeVar

from edge import BUILD
from edge.net.h1.llhttp_parser import request_fields, request_head, response_head
from edge.rules.http.framing import RejectedRequest, check_interim
from edge.rules.http.head_validation import HeadValidator, Request, Response
from edge.rules.http.messages import SAFE_METHODS, Fields, ReceivedFields, RequestHead, ResponseHead
from edge.rules.http.start_lines import (
    plain_request_line,
    read_request_line,
    read_status_line,
    scan_request_line,
)
from edge.rules.outcomes import Cause

if TYPE_CHECKING:
    from mypy_extensions import i64  # a machine integer, when compiled

REMEMBERED: Final = 1024
"Cached heads in each direction."
LONGEST: Final = 4096
"Bytes of the longest head that is cached: 4 MiB in each direction at most."
DOORKEEPER_SLOTS: Final = 4096
"Hashes of heads that came once, in each direction; a power of two."


_LF: Final = 10
_CR: Final = 13

T = TypeVar("T")


class RepeatCache(Generic[T]):
    """A cache of results by head, with a doorkeeper: a head is stored at its second occurrence (TinyLFU)."""

    __slots__ = ("_doorkeeper", "known")

    def __init__(self) -> None:
        self.known: dict[bytes, T] = {}
        "The cached results; not to be changed."
        self._doorkeeper = [0] * DOORKEEPER_SLOTS

    def __len__(self) -> int:
        return len(self.known)

    @property
    def longest(self) -> int:
        """Bytes of the longest head in the cache."""
        return max(map(len, self.known), default=0)

    def offer(self, seen: bytes, result: T) -> None:
        """Store `result` as the result for the head `seen`, if that head occurred before."""
        known = self.known
        digest: i64 = hash(seen)  # computed already: the lookup left it in the object
        slot: i64 = digest & (DOORKEEPER_SLOTS - 1)
        if self._doorkeeper[slot] != digest:
            self._doorkeeper[slot] = digest
        elif len(seen) <= LONGEST:
            if len(known) >= REMEMBERED:
                del known[next(iter(known))]
            known[seen] = result


class HeadReader:
    """Parses and validates the heads of one worker, with a cache for each direction."""

    __slots__ = ("_longest", "_requests", "_responses", "_scans", "validator")

    def __init__(self, validator: HeadValidator, *, scans: bool = BUILD == "compiled") -> None:
        """`scans`: read fields by our own pass over their bytes, which is faster when compiled; else by llhttp."""
        self._scans = scans
        self.validator = validator
        "What another one has accepted must be validated again: its limits may have been others."
        self._longest = min(LONGEST, validator.unmeasured)
        self._requests: RepeatCache[Request] = RepeatCache()
        "By fields: the request with them that was read last before they were cached."
        self._responses: RepeatCache[Response] = RepeatCache()

    def reconfigure(self, validator: HeadValidator) -> None:
        """Validate by other limits from now on. The caches are emptied: their heads were validated by the old
        ones."""
        self.validator = validator
        self._longest = min(LONGEST, validator.unmeasured)
        self._requests = RepeatCache()
        self._responses = RepeatCache()

    def closed(self) -> "HeadReader":
        """A reader that rejects every request, for an edge that stops."""
        return _ClosedHeadReader(self.validator)

    def __len__(self) -> int:
        """Cached heads, of both directions."""
        return len(self._requests) + len(self._responses)

    @property
    def longest(self) -> int:
        """Bytes of the longest cached head."""
        return max(self._requests.longest, self._responses.longest)

    def request(self, data: bytes) -> Request:
        """Parse and validate the head of a request, through its blank line. Raises RejectedRequest."""
        line, _, fields = data.partition(b"\r\n")
        known = self._requests.known.get(fields)
        if known is None:
            return self._new(data, line, fields)
        if line == known.line:
            return known
        return self._repeated(line, len(data), known) or self._new(data, line, fields)

    def with_same_fields(self, data: bytes, previous: Request) -> Request | None:
        """The request in this data, if it is one with the fields of `previous`, the one before it on the same
        connection; else None. Comparing takes a tenth of the time that it takes to hash the fields."""
        before = previous.received
        if before.validator is not self.validator or not data.endswith(before.block):
            return None
        end = len(data) - len(before.block) - 2
        if end <= 0 or data[end] != _CR or data[end + 1] != _LF:
            return None
        line = data[:end]
        return previous if line == previous.line else self._repeated(line, len(data), previous)

    def only_request(self, data: bytes, previous: Request) -> Request | None:
        """The request in data that ends with a blank line, before which there may be more than one head; None = so
        it is, or it does not begin with a head. Raises RejectedRequest. `previous`: see `with_same_fields`.

        The end of a head with known fields need not be searched for: the block of fields ends with the first blank
        line."""
        line, _, fields = data.partition(b"\r\n")
        known = self._requests.known.get(fields)
        if known is not None:
            return known if line == known.line else self._repeated(line, len(data), known)
        if not line:
            return None
        if not self._scans and data.find(b"\r\n\r\n") != len(data) - 4:  # as `_has_inner_end`, without a call
            return None
        try:
            return self._new(data, line, fields, self._comparable(previous))
        except RejectedRequest:
            if _has_inner_end(data):  # the pass stops there, because an empty line is no field
                return None
            raise

    def _comparable(self, previous: Request) -> ReceivedFields | None:
        """The fields of an earlier request with which our own pass compares those of the next one; None = none."""
        return previous.received if self._scans and self.is_current(previous) else None

    def is_current(self, request: Request) -> bool:
        """Whether a head that is that of this request again would be read to the same result."""
        return request.received.validator is self.validator

    def _repeated(self, line: bytes, size: int, request: Request) -> Request | None:
        """The request with this line and the fields of `request`; None = the line is not a plain one. `size`: of
        the head."""
        method, target = scan_request_line(line) if self._scans else plain_request_line(line)
        if not method or size > self._longest:
            return None
        other = Request(
            method,
            target,
            1,
            request.host,
            request.host_field,
            request.lines,
            request.found,
            request.framing,
            request.length,
            request.keep_alive,
            method in SAFE_METHODS,
            request.received,
            request.offers,
        )
        other.line = line
        return other

    def _new(self, data: bytes, line: bytes, fields: bytes, before: ReceivedFields | None = None) -> Request:
        """The request with this line and with fields that are not cached, or with a line that is not a plain one.
        `data`: all of the head. `before`: the fields of a request that the same client has sent."""
        method, target = scan_request_line(line) if self._scans else plain_request_line(line)
        if not method or len(data) > self._longest:
            self.validator.head_bytes(data)
            method, target, minor = read_request_line(line)
            return self._validate(method, target, minor, fields)
        request = self._validate(method, target, 1, fields, before)
        request.line, request.received.validator = line, self.validator
        self._requests.offer(fields, request)
        return request

    def _validate(
        self, method: bytes, target: bytes, minor: int, block: bytes, before: ReceivedFields | None = None
    ) -> Request:
        """The request with this line and this block of fields. Raises RejectedRequest."""
        validator, sifted = self.validator, None
        if not self._scans:
            head = RequestHead(method, target, minor, request_fields(block, validator.fields), block)
        else:
            head = RequestHead(method, target, minor, None, block)
            if before is None:
                sifted = validator.requests.sift_block(block, validator.fields)
            else:
                head.received.plain_lines = plain = list[bytes]()
                sifted = validator.requests.sift_block(block, validator.fields, before.plain_lines, plain)
        try:
            if sifted is None:
                sifted = validator.requests.sift(head.received.listed)
            return validator.sifted_request(head, sifted)
        except RejectedRequest as rejection:
            rejection.head = head
            raise

    def partial_request(self, data: bytes, seen: int) -> None:
        """Check an incomplete head, of which `seen` bytes were checked before. Raises RejectedRequest when no
        continuation could make it valid."""
        self.validator.partial_head(data, seen)

    def response(self, data: bytes, *, to_head: bool) -> Response | ResponseHead:
        """Parse and validate the head of a final response; a 1xx head is only parsed. `to_head`: the request is a
        HEAD. Raises BadResponse."""
        if not to_head:
            known = self._responses.known.get(data)
            if known is not None:
                return known
        response = self._new_response(data, to_head=to_head)
        if not to_head and isinstance(response, Response):
            if len(data) <= LONGEST:
                response.whole, response.received.validator = data, self.validator
            self._responses.offer(data, response)
        return response

    def _new_response(self, data: bytes, *, to_head: bool) -> Response | ResponseHead:
        validator = self.validator
        if not self._scans:
            head = response_head(data, validator.fields)
            if head.status >= 200:
                return validator.response(head, to_head=to_head)
        else:
            line, _, block = data.partition(b"\r\n")
            status, reason, minor = read_status_line(line)
            sifted = validator.responses.sift_block(block, validator.fields)
            head = ResponseHead(status, reason, minor, None, block)
            if status >= 200:
                return validator.sifted_response(head, sifted, to_head=to_head)
        check_interim(head.fields, status=head.status, minor=head.minor)
        return head

    def trailer_lines(self, fields: Fields, *, of_request: bool) -> bytes:
        """Encode the trailers that are passed on."""
        return self.validator.trailer_lines(fields, of_request=of_request)

    def protocols(self, head: ResponseHead) -> list[bytes]:
        """The protocols to which a 101 response switches, spelled as in the response."""
        return self.validator.protocols(head)

    def interim_lines(self, head: ResponseHead) -> list[bytes]:
        """The fields of a 1xx response that are passed on, as lines."""
        return self.validator.interim_lines(head)


def _has_inner_end(data: bytes) -> bool:
    """Whether a blank line is in these bytes before their end, which is one."""
    return data.find(b"\r\n\r\n") != len(data) - 4


class _ClosedHeadReader(HeadReader):
    """Rejects every request; see `HeadReader.closed`. A class of its own, so that no request pays for a check."""

    __slots__ = ()

    def with_same_fields(self, data: bytes, previous: Request) -> Request | None:
        """Leaves it to `request`."""
        return None

    def only_request(self, data: bytes, previous: Request) -> Request | None:
        """Leaves it to `request`."""
        return None

    def is_current(self, request: Request) -> bool:
        """No: it would be rejected."""
        return False

    def request(self, data: bytes) -> Request:
        """Raises RejectedRequest."""
        rejection = RejectedRequest(Cause.EDGE_STOPPED, "the edge stops")
        rejection.head = request_head(data)
        raise rejection
