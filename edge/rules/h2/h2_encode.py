"""Turns responses into header lists of HTTP/2 (RFC 9113, section 8.3.2).

Responses are kept as lines of HTTP/1.1. Heads of backends repeat, so their header lists are cached. Pure.
"""

from typing import Final

from edge.rules.http.head_validation import Response
from edge.rules.http.local_reply import LocalReply
from edge.rules.http.messages import Fields, ResponseHead

REMEMBERED: Final = 1024
"Heads of responses whose header lists are cached."
LONGEST: Final = 4096
"Bytes of the longest head that is cached."
# TE is of requests only (RFC 9113, section 8.2.2).
_OF_CONNECTION: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te"}
)
_OF_HANDSHAKE: Final = _OF_CONNECTION | {b"sec-websocket-accept", b"content-length"}
_STATUS: Final = b":status"


class ResponseFields:
    """Makes the header lists of responses, with a cache: a head is stored at its second occurrence."""

    __slots__ = ("_known", "_seen")

    def __init__(self) -> None:
        self._known: dict[bytes, Fields] = {}
        self._seen: set[int] = set()
        "Hashes of heads that came once."

    def __len__(self) -> int:
        return len(self._known)

    def of_response(self, response: Response) -> Fields:
        """The header list of a backend's response, without what styx adds. It must not be changed."""
        head = response.head
        known = self._known.get(head)
        return self._learn(response.status, head) if known is None else known

    def _learn(self, status: int, head: bytes) -> Fields:
        fields = [(_STATUS, b"%d" % status), *fields_of(head.split(b"\r\n", 1)[1])]
        digest = hash(head)
        if digest in self._seen:
            if len(head) <= LONGEST:
                if len(self._known) >= REMEMBERED:
                    del self._known[next(iter(self._known))]
                self._known[head] = fields
        else:
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            self._seen.add(digest)
        return fields


def fields_of(lines: bytes, without: frozenset[bytes] = _OF_CONNECTION) -> Fields:
    """The fields in these lines, with names in lower case, but for those `without`."""
    fields: Fields = []
    for line in lines.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name = name.lower()
        if colon and name not in without:
            fields.append((name, value.strip(b" \t")))
    return fields


def local_reply_fields(page: LocalReply, own_lines: bytes) -> Fields:
    """The header list of a local reply. `own_lines`: the fields that every response of this edge has."""
    length = (b"content-length", b"%d" % len(page.body))
    return [(_STATUS, b"%d" % page.status), *fields_of(page.lines), length, *fields_of(own_lines)]


def interim_fields(head: ResponseHead, lines: bytes) -> Fields:
    """The header list of a 1xx response. `lines`: its fields that are forwarded."""
    return [(_STATUS, b"%d" % head.status), *fields_of(lines)]


def tunnel_fields(lines: bytes) -> Fields:
    """The header list of the response that begins a tunnel: 200, where HTTP/1.1 has 101 (RFC 8441, section 5).
    `lines`: fields of the 101 that are forwarded, and those of styx."""
    return [(_STATUS, b"200"), *fields_of(lines, _OF_HANDSHAKE)]
