"""From the bytes of a whole head to a request or an answer that may be passed on.

    bytes ─► parser (C) ─► admission (rules) ─► Request, Answer

Both steps are pure functions of the bytes, and bytes repeat: a browser says the same fields for every image
of a page, a client of an API for every call, and a container for every page that it makes in the same
second. So what a block of fields came to is remembered. A repeated block costs a look-up (0.3 microseconds)
in place of a parse and its checks (6); a new one costs 0.4 more than without. What is remembered is bounded
in number and in size, and thrown away whole when it is full.
"""

import re

from edge.net.parser import answer_head, request_head
from edge.rules.admission import Admission, Answer, Request
from edge.rules.messages import SAFE_METHODS, AnswerHead

REMEMBERED = 1024
"Heads of each direction."
LONGEST = 4096
"Bytes of a head that is worth it: 4 MiB a direction at the most."

# A request line that needs no second thought. Any other one is for the parser to judge.
_PLAIN_LINE = re.compile(rb"(GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS) (/[\x21-\x7e]*) HTTP/1\.1")


class Intake:
    """Reads the heads of one worker."""

    __slots__ = ("_admission", "_answers", "_requests")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._requests: dict[bytes, Request] = {}
        self._answers: dict[bytes, Answer] = {}

    def __len__(self) -> int:
        """Heads remembered, of both directions."""
        return len(self._requests) + len(self._answers)

    @property
    def longest(self) -> int:
        """Bytes of the longest of them."""
        return max(map(len, (*self._requests, *self._answers)), default=0)

    def request(self, data: bytes) -> Request:
        """The request whose head this is, through its blank line. Raises Refusal."""
        end = data.find(b"\r\n")
        fields = data[end:]
        known = self._requests.get(fields)
        line = _PLAIN_LINE.fullmatch(data, 0, end)
        if known is not None and line is not None:
            method, target = line.groups()
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
            )
        request = self._admission.request(request_head(data))
        if line is not None and len(fields) <= LONGEST:
            if len(self._requests) >= REMEMBERED:
                self._requests.clear()
            self._requests[fields] = request
        return request

    def answer(self, data: bytes, *, to_head: bool) -> Answer | AnswerHead:
        """The final answer whose head this is, or the head of an interim one. Raises BadAnswer."""
        if not to_head:
            known = self._answers.get(data)
            if known is not None:
                return known
        head = answer_head(data)
        if head.status < 200:
            return head
        answer = self._admission.answer(head, to_head=to_head)
        if not to_head and len(data) <= LONGEST:
            if len(self._answers) >= REMEMBERED:
                self._answers.clear()
            self._answers[data] = answer
        return answer

    def interim_lines(self, head: AnswerHead) -> list[bytes]:
        """The lines of an interim answer that pass."""
        return self._admission.interim_lines(head)
