"""Sorts the fields of a head: some are forwarded, some are read by styx itself, some are dropped.

Every line that is forwarded was understood. `sift` encodes it from a parsed name and value. `sift_block` validates
a block of fields byte by byte, and cuts from it what it would have encoded alike; it takes a quarter of the time
when it is compiled, and fifteen times as long when it is not.

Spellings of fields that describe the client are dropped when they have underscores, because PHP (like every CGI)
reads `X_Forwarded_For` and `X-Forwarded-For` as one name.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from edge.rules.http.framing import BadResponse, FieldValues, RejectedRequest, TooManyMembers
from edge.rules.http.hop_by_hop import PASSED_FROM_TRUSTED, tokens
from edge.rules.http.messages import NO_LINES, Fields, fields_of
from edge.rules.outcomes import Cause

if TYPE_CHECKING:
    from mypy_extensions import i64  # a machine integer, when compiled

Sifted = tuple[list[bytes], FieldValues, int]
"Pieces of the lines to forward, ready to be joined; values of the fields that styx reads; the number of fields."
PASS: Final = b""
DROP: Final = b"-"
"What is done with a field. Any other value is the name under which styx reads it, and encodes it again if needed."

_TAKEN_FROM_REQUESTS: Final = frozenset(
    b"host content-length transfer-encoding connection expect te upgrade via forwarded x-request-id"
    b" x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port x-styx-attempt x-real-ip".split()
).union(PASSED_FROM_TRUSTED)
_TAKEN_FROM_RESPONSES: Final = frozenset(
    b"content-length transfer-encoding connection keep-alive upgrade x-styx-refused".split()
)
# RFC 9110, section 7.6.1. `Proxy` is not a hop-by-hop field but an attack: CGI turns it into HTTP_PROXY.
_DROPPED: Final = frozenset(
    b"keep-alive proxy-connection proxy-authenticate proxy-authorization http2-settings proxy".split()
)
_DROPPED_FROM_RESPONSES: Final = frozenset({b"proxy-connection", b"x-request-id"})
# RFC 9110, section 6.5.1: fields for framing, routing, authentication or caching belong in the head.
_NEVER_TRAILERS: Final = frozenset(
    b"age allow authentication-info authorization cache-control content-encoding content-language content-location"
    b" content-range content-type cookie date expect expires if-match if-modified-since if-none-match if-range"
    b" if-unmodified-since location max-forwards pragma proxy-authentication-info range retry-after set-cookie"
    b" strict-transport-security te trailer vary warning www-authenticate".split()
)
MEMO_SIZE: Final = 4096
"Spellings of field names cached per direction; real clients use a few hundred."
MEMO_LONGEST: Final = 64
"Longest name that is cached, in bytes: untrusted clients choose them."
_OWN_TOKENS: Final = frozenset({b"close", b"keep-alive", b"upgrade", b"te"})


# CGI turns all that is neither letter nor digit into one character: X_A, X.A and X-A are one name.
_AS_IN_CGI: Final = bytes(byte if chr(byte).isalnum() and byte < 0x80 else ord("-") for byte in range(256))


_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NO_FIELD: Final = "a line of the head is not a field"
_NONE: Final[frozenset[bytes]] = frozenset()
_TAB: Final = 9
_LF: Final = 10
_CR: Final = 13
_SPACE: Final = 32
_COLON: Final = 58
_DEL: Final = 127


class FieldFilter:
    """Sorts the fields of a head in one pass into lines to forward and fields that styx reads itself."""

    __slots__ = ("_actions", "_dropped", "_families", "_malformed", "_refusal", "_taken")

    def __init__(
        self,
        taken: frozenset[bytes],
        dropped: frozenset[bytes],
        refusal: Callable[[str], Exception],
        malformed: Callable[[str], Exception],
        *,
        families: tuple[bytes, ...] = (),
    ) -> None:
        """`refusal` makes the error for a head that would take long to sort, `malformed` for one that cannot be
        read. `families`: prefixes of names that are dropped, except those in `taken`."""
        self._taken = taken
        self._dropped = dropped
        self._refusal = refusal
        self._malformed = malformed
        self._families = (b"x-styx-", *families)
        self._actions: dict[bytes, bytes] = {}

    def sift(self, fields: Fields) -> Sifted:
        """Sort parsed fields, whose names have been validated. Raises the error of `refusal` when `Connection` has
        too many members."""
        lines: list[bytes] = []
        found: FieldValues = {}
        actions = self._actions
        for name, value in fields:
            action = actions.get(name)
            if action is None:
                action = self._learn(name)
            if not action:
                lines += (name, b": ", value, b"\r\n")
            elif action != DROP:
                self._take(found, action, value)
        if b"connection" in found and (nominated := self._nominated(found)):
            lines = self._without_nominated(fields, nominated)
        return lines, found, len(fields)

    def sift_block(
        self, block: bytes, most: int, known: list[bytes] = NO_LINES, plain: list[bytes] | None = None
    ) -> Sifted:
        """The same for a block of at most `most` fields as it came: from behind the start line through the blank
        line. Raises the errors of `refusal` and `malformed`.

        `plain` gets the lines that are forwarded as they are, and empty ones in place of others. `known`: these of
        another block, which are compared instead of read where they come again: a client repeats most of its lines.
        """
        try:
            if not block.endswith(b"\r\n"):  # so no line is read beyond its end
                raise ValueError(_NO_FIELD)
            lines, found, count = self._scan(block, most, known, plain)
        except ValueError as error:
            if block.count(b"\n") - 1 > most:
                raise self._refusal(f"more than {most} fields") from error
            raise self._malformed(str(error)) from error
        if b"connection" in found and (nominated := self._nominated(found)):
            lines = self._without_nominated(fields_of(block), nominated)
        return lines, found, count

    def _scan(self, block: bytes, most: int, known: list[bytes], plain: list[bytes] | None) -> Sifted:
        """Read, validate and sort a block in one pass over its bytes. Raises ValueError.

        Lines are forwarded as slices of the block. Of each byte in a slice it is known what it is: names are those
        that `_learn` has accepted, a colon and one space follow, then text, then CRLF.
        """
        lines: list[bytes] = []
        found: FieldValues = {}
        actions = self._actions
        end: i64 = len(block) - 2
        left: i64 = most
        at: i64 = 0
        unsliced: i64 = 0
        while at < end and left > 0:
            start: i64 = at
            number: i64 = most - left
            at += _length_of_known(block, at, known, number)
            left -= 1
            if at > start:
                if plain is not None:
                    plain.append(known[number])
                continue
            colon: i64 = _name_end(block, at)
            value: i64 = colon + 1
            while block[value] == _SPACE or block[value] == _TAB:
                value += 1
            at = _text_end(block, value) + 2
            name = block[start:colon]
            action = actions.get(name)
            if action is None:
                if _NAME.fullmatch(name) is None:
                    raise ValueError(_NO_FIELD)
                action = self._learn(name)
            is_plain = not action and value == colon + 2 and block[colon + 1] == _SPACE
            if plain is not None:
                plain.append(block[start:at] if is_plain else b"")
            if is_plain:
                continue
            if start > unsliced:
                lines.append(block[unsliced:start])
            unsliced = at
            if not action:
                lines += (name, b": ", block[value : at - 2], b"\r\n")
            elif action != DROP:
                self._take(found, action, block[value : at - 2])
        if at != end:
            raise ValueError(_NO_FIELD)
        if end > unsliced:
            lines.append(block[unsliced:end])
        return lines, found, most - left

    def _take(self, found: FieldValues, action: bytes, value: bytes) -> None:
        """Keep the value of a field that styx reads, without blanks behind it (RFC 9112, section 5.1). A tab behind
        a transfer coding is an error: there are parsers that take it for a part of the coding."""
        plain = value.rstrip(b" \t")
        if action == b"transfer-encoding" and b"\t" in value[len(plain) :]:
            raise self._malformed("a tab behind a transfer coding")
        if action in found:
            found[action].append(plain)
        else:
            found[action] = [plain]

    def _nominated(self, found: FieldValues) -> frozenset[bytes]:
        """The names in `Connection`, if there are any but those that styx handles itself."""
        try:
            nominated = tokens(found[b"connection"])
        except TooManyMembers as error:
            raise self._refusal(f"Connection has {error}") from error
        return _NONE if _OWN_TOKENS.issuperset(nominated) else nominated

    def _learn(self, name: bytes) -> bytes:
        """What is done with a field of this name, which is cached. It is known to be a name."""
        action = self.action_for(name)
        if len(name) <= MEMO_LONGEST:
            if len(self._actions) >= MEMO_SIZE:
                self._actions.clear()  # most of them are made up; the real ones are soon cached again
            self._actions[name] = action
        return action

    def action_for(self, name: bytes) -> bytes:
        """What is done with a field of this name: PASS, DROP, or the name under which styx reads it."""
        lower = name.lower()
        if lower in self._taken:
            return lower
        plain = lower.translate(_AS_IN_CGI)
        if plain.startswith(self._families) or plain in self._dropped or (plain != lower and plain in self._taken):
            return DROP
        return PASS

    def sift_trailers(self, fields: Fields) -> bytes:
        """The trailers that are forwarded, encoded: fields that may be trailers and would pass in a head."""
        return b"".join(
            b"%b: %b\r\n" % (name, value.rstrip(b" \t"))
            for name, value in fields
            if self.action_for(name) == PASS and name.lower() not in _NEVER_TRAILERS
        )

    def _without_nominated(self, fields: Fields, nominated: frozenset[bytes]) -> list[bytes]:
        """The lines to forward, without the fields that `Connection` names (RFC 9110, section 7.6.1)."""
        lines: list[bytes] = []
        for name, value in fields:
            action = self._actions.get(name)
            if action is None:  # too long to be cached
                action = self.action_for(name)
            if action == PASS and name.lower() not in nominated:
                lines += (name, b": ", value, b"\r\n")
        return lines


def _length_of_known(block: bytes, at: "i64", known: list[bytes], number: "i64") -> "i64":
    """Bytes of the known line of this number, if it comes again at `at`; else 0."""
    if number >= len(known):
        return 0
    line = known[number]
    return len(line) if line and block[at : at + len(line)] == line else 0


def _name_end(block: bytes, at: "i64") -> "i64":
    """Where the colon is that ends the name at `at`. Raises ValueError."""
    while block[at] > _SPACE and block[at] != _COLON:
        at += 1
    if block[at] != _COLON:
        raise ValueError(_NO_FIELD)
    return at


def _text_end(block: bytes, at: "i64") -> "i64":
    """Where the CRLF is that ends the text at `at` (RFC 9110, section 5.5). Raises ValueError."""
    while (block[at] >= _SPACE and block[at] != _DEL) or block[at] == _TAB:
        at += 1
    if block[at] != _CR or block[at + 1] != _LF:
        raise ValueError(_NO_FIELD)
    return at


def request_filter() -> FieldFilter:
    """The filter for heads from clients."""
    return FieldFilter(
        _TAKEN_FROM_REQUESTS,
        _DROPPED,
        lambda why: RejectedRequest(Cause.HEADERS_TOO_LARGE, why),
        lambda why: RejectedRequest(Cause.BAD_REQUEST, why),
        families=(b"x-forwarded-", b"x-client-cert-"),
    )


def response_filter() -> FieldFilter:
    """The filter for heads from backends."""
    return FieldFilter(_TAKEN_FROM_RESPONSES, _DROPPED_FROM_RESPONSES, BadResponse, BadResponse)
