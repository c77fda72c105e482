"""Parsed heads of requests and responses, before any validation."""

from typing import Final

Fields = list[tuple[bytes, bytes]]
"Header fields in the order in which they came, names as the sender spelled them."


def fields_of(block: bytes) -> Fields:
    """The fields of a valid block: from behind the start line through the blank line. Blanks behind values stay."""
    fields: Fields = []
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            fields.append((name, value.lstrip(b" \t")))
    return fields


NO_LINES: Final[list[bytes]] = []
"Never modified; a tuple would be another type."


class ReceivedFields:
    """All fields of one head as received. Few heads are asked for them, so a block is split when that happens."""

    __slots__ = ("_listed", "block", "plain_lines", "validator")

    def __init__(self, listed: Fields | None, block: bytes = b"") -> None:
        """`listed`: None = the fields are those of `block`, which is valid."""
        self._listed = listed
        self.block = block
        'From behind the start line through the blank line; b"" = it was not kept.'
        self.plain_lines = NO_LINES
        """The lines that are forwarded as they are, each with its CRLF, and empty ones in place of others, to be
        compared with the next request of the same client. None at all = they were not kept."""
        self.validator: object = None
        """The `HeadValidator` that accepted a head with them that may be repeated, a plain request or response;
        None = none did."""

    @property
    def listed(self) -> Fields:
        """The fields, one by one."""
        if self._listed is None:
            self._listed = fields_of(self.block)
        return self._listed


class RequestHead:
    """Request line and fields, byte for byte (RFC 9112, sections 3 and 5)."""

    __slots__ = ("method", "minor", "received", "target")

    def __init__(self, method: bytes, target: bytes, minor: int, fields: Fields | None, block: bytes = b"") -> None:
        """`minor`: the y of HTTP/1.y. `fields`: None = those of `block`, which is valid."""
        self.method = method
        self.target = target
        self.minor = minor
        self.received = ReceivedFields(fields, block)

    @property
    def fields(self) -> Fields:
        """All fields as received."""
        return self.received.listed


class ResponseHead:
    """Status line and fields (RFC 9112, sections 4 and 5)."""

    __slots__ = ("minor", "reason", "received", "status")

    def __init__(self, status: int, reason: bytes, minor: int, fields: Fields | None, block: bytes = b"") -> None:
        """`minor`: the y of HTTP/1.y. `fields`: None = those of `block`, which is valid."""
        self.status = status
        self.reason = reason
        self.minor = minor
        self.received = ReceivedFields(fields, block)

    @property
    def fields(self) -> Fields:
        """All fields as received."""
        return self.received.listed


SAFE_METHODS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
"Safe methods, which styx may retry by itself (RFC 9110, section 9.2.1)."
