"""Parsed heads of requests and responses, before any validation."""

from typing import Final

Fields = list[tuple[bytes, bytes]]
"Header fields in the order in which they came, names as the sender spelled them."


class RequestHead:
    """Request line and fields, byte for byte (RFC 9112, sections 3 and 5)."""

    __slots__ = ("fields", "method", "minor", "target")

    def __init__(self, method: bytes, target: bytes, minor: int, fields: Fields) -> None:
        """`minor`: the y of HTTP/1.y."""
        self.method = method
        self.target = target
        self.minor = minor
        self.fields = fields


class ResponseHead:
    """Status line and fields (RFC 9112, sections 4 and 5)."""

    __slots__ = ("fields", "minor", "reason", "status")

    def __init__(self, status: int, reason: bytes, minor: int, fields: Fields) -> None:
        self.status = status
        self.reason = reason
        self.minor = minor
        self.fields = fields


SAFE_METHODS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
"Safe methods, which styx may retry by itself (RFC 9110, section 9.2.1)."
