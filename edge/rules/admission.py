"""From a parsed head to a request or an answer that may be passed on.

Everything that is checked about a head is checked here, top to bottom, before a byte of it goes further.
"""

import re

import msgspec

from edge.rules.framing import (
    BadAnswer,
    Found,
    Framing,
    Refusal,
    answer_framing,
    check_target,
    hostname_of,
    request_framing,
)
from edge.rules.hops import answer_sieve, framing_line, keeps_alive, request_sieve, status_line
from edge.rules.messages import SAFE_METHODS, AnswerHead, Fields, RequestHead
from edge.rules.outcomes import Cause
from edge.rules.settings import LimitSettings

_NONE, _LENGTH, _CLOSE = Framing.NONE, Framing.LENGTH, Framing.CLOSE


class Request(msgspec.Struct):
    """A request that may be passed on."""

    method: bytes
    target: bytes
    minor: int
    host: str
    "The hostname: lower case, without port."
    host_field: bytes
    "`Host` as the client spelled it."
    lines: bytes
    "The fields that pass and the one that tells how the body ends, as they are sent."
    found: Found
    "Fields that styx reads itself."
    framing: Framing
    length: int
    keep_alive: bool
    safe: bool
    fields: Fields
    "All fields as they came, for what is rarely looked at."

    @classmethod
    def refused(cls) -> "Request":
        """Stands for a request that could not be read."""
        return cls(
            method=b"",
            target=b"",
            minor=1,
            host="",
            host_field=b"",
            lines=b"",
            found={},
            framing=Framing.NONE,
            length=0,
            keep_alive=False,
            safe=False,
            fields=[],
        )


class Answer(msgspec.Struct):
    """A backend's final answer that may be passed on."""

    status: int
    cause: Cause
    "What it means for the attempt."
    lines: bytes
    "Status line and the fields that pass, as they are sent."
    head: bytes
    "The same with the field that tells how the body ends, if it ends for the client as it did for us."
    found: Found
    framing: Framing
    length: int
    keep_alive: bool
    fields: Fields


class Admission:
    """Checks heads. Remembers spellings that it has seen, so that the usual ones cost a look-up."""

    __slots__ = ("_answers", "_hosts", "_limits", "_requests")

    HOSTS = 4096
    "Spellings of Host remembered."

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self._requests = request_sieve()
        self._answers = answer_sieve()
        self._hosts: dict[bytes, str] = {}

    def request(self, head: RequestHead) -> Request:
        """Raises Refusal."""
        if len(head.fields) > self._limits.fields:
            raise Refusal(Cause.HEADERS_TOO_LARGE, f"more than {self._limits.fields} fields")
        lines, found = self._requests.sift(head.fields)
        hosts = found.get(b"host")
        host = self._hosts.get(hosts[0]) if hosts is not None and len(hosts) == 1 else None
        if host is None:
            host = self._learn(hosts)
        assert hosts is not None
        method, target = head.method, head.target
        if target[:1] != b"/" or method == b"CONNECT":
            check_target(method, target, hosts[0])
        framing, length = request_framing(found, head.minor)
        if self._limits.body and length > self._limits.body:
            raise Refusal(Cause.BODY_TOO_LARGE, f"announced {length} bytes, at most {self._limits.body}")
        if b"expect" in found:
            _check_expectation(found[b"expect"], lines)
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
            keeps_alive(found, head.minor),
            method in SAFE_METHODS,
            head.fields,
        )

    def answer(self, head: AnswerHead, *, to_head: bool) -> Answer:
        """Raises BadAnswer."""
        if len(head.fields) > self._limits.fields:
            raise BadAnswer(f"more than {self._limits.fields} fields")
        lines, found = self._answers.sift(head.fields)
        framing, length = answer_framing(found, status=head.status, minor=head.minor, to_head=to_head)
        keep_alive = framing is not _CLOSE and keeps_alive(found, head.minor)
        passing = b"".join((status_line(head.status, head.reason), *lines))
        # To a HEAD, and in a 304, it is about the body that a GET would have got (RFC 9110, section 8.6).
        told = framing is _NONE and head.status != 204 and b"content-length" in found
        return Answer(
            head.status,
            answer_cause(head.status, found),
            passing,
            passing + framing_line(_LENGTH if told else framing, length),
            found,
            framing,
            length,
            keep_alive,
            head.fields,
        )

    def interim_lines(self, head: AnswerHead) -> list[bytes]:
        """The lines of a 1xx answer that pass."""
        return self._answers.sift(head.fields)[0]

    def _learn(self, hosts: list[bytes] | None) -> str:
        host = hostname_of(hosts)
        if hosts is not None and len(self._hosts) < self.HOSTS:
            self._hosts[hosts[0]] = host
        return host


def _check_expectation(values: list[bytes], lines: list[bytes]) -> None:
    """100-continue is the backend's to answer (RFC 9110, section 10.1.1); nothing else is defined."""
    if any(value.strip().lower() != b"100-continue" for value in values):
        raise Refusal(Cause.EXPECTATION_FAILED, "an expectation other than 100-continue")
    lines.append(b"Expect: 100-continue\r\n")


_BARE_LF = re.compile(rb"(?<!\r)\n")


def check_partial_head(data: bytes, limits: LimitSettings) -> None:
    """Refuse what can only grow worse: a head that is too long already, or has bare line feeds. Raises Refusal."""
    if _BARE_LF.search(data) is not None:
        raise Refusal(Cause.BAD_REQUEST, "a bare line feed in the head")
    check_head_size(data.removesuffix(b"\r"), limits)  # half of a line's end belongs to no line


def check_head_size(data: bytes, limits: LimitSettings) -> None:
    """Hold a head, whole or partial, against the limits. Raises Refusal."""
    size = len(data)
    line, *fields = data.split(b"\r\n")
    if len(line) > limits.request_line:
        raise Refusal(Cause.URI_TOO_LONG, f"request line longer than {limits.request_line} bytes")
    if size > limits.head:
        raise Refusal(Cause.HEADERS_TOO_LARGE, f"head larger than {limits.head} bytes")
    if any(len(field) > limits.field for field in fields):
        raise Refusal(Cause.HEADERS_TOO_LARGE, f"a field larger than {limits.field} bytes")


def answer_cause(status: int, found: Found) -> Cause:
    """What a backend's answer means for its attempt (README, "Contracts"; Pantheon's 560)."""
    if b"x-styx-refused" in found:
        return Cause.REFUSED
    if status < 500:
        return Cause.MISDIRECTED if status == 421 else Cause.FINE
    if status == 560:
        return Cause.ANOTHER_PLEASE
    return Cause.GATEWAY_ERROR if status in (502, 504) else Cause.SERVER_ERROR


def refusal_pause(answer: Answer) -> float:
    """Seconds for which a full backend asks not to be tried: its Retry-After, at most ten."""
    for name, value in answer.fields:
        if name.lower() == b"retry-after" and value.isdigit() and len(value) < 9:
            return min(float(value), 10.0)
    return 0.0
