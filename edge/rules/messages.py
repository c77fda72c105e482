"""Heads of requests and answers, as the parser hands them over."""

import msgspec

Fields = list[tuple[bytes, bytes]]
"Header fields in the order of the wire, names as they were spelled."


class RequestHead(msgspec.Struct, gc=False):
    """Request line and fields, byte for byte (RFC 9112, sections 3 and 5)."""

    method: bytes
    target: bytes
    minor: int
    "The y of HTTP/1.y."
    fields: Fields


class AnswerHead(msgspec.Struct, gc=False):
    """Status line and fields (RFC 9112, sections 4 and 5)."""

    status: int
    reason: bytes
    minor: int
    fields: Fields


SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
"Methods that may be said twice without being asked (RFC 9110, section 9.2.1)."
