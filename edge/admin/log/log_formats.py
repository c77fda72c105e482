"""Formats one exchange as a line of the access log: `json`, `logfmt` or `combined`. Pure.

Which function writes a line is decided once, from the settings (`line_writers.py`). The usual one, JSON with all
fields, encodes the record as it is and puts the constants behind it.

The client chooses target, hostname, method, Referer and User-Agent. They are escaped, so that no byte of them can
end a line or pass for a field of the log.
"""

import re
import time
from collections.abc import Callable
from typing import Final

import msgspec

from edge.rules.exchange_records import DetailedOutcome, Outcome
from edge.rules.http.head_validation import Request, Response
from edge.rules.log.logged_fields import CUT

Append = Callable[[Outcome, Request | None, Response | None, bytearray], None]
"Appends one line to the buffer, without a newline. A line without request and response has no header fields."

TEXTS: Final = ("id", "client", "method", "host", "target", "sni")
"Members of `Outcome` that may hold bytes from the client. (Those of its fields are decoded.)"


def shortened(append: Append, outcome: Outcome, most: int) -> bytearray:
    """Format a line of at most `most` bytes (at least 1024).

    It has no chosen header fields; its texts and the list of attempts are cut shorter until the line fits.
    """
    line, whole = bytearray(), decoded(outcome.target)
    for size, tries in ((2048, 30), (512, 30), (128, 10), (32, 3), (0, 0)):
        target = _cut(whole, size)
        attempts = outcome.attempts[-tries:] if tries else []
        line.clear()
        short = msgspec.structs.replace(outcome, target=target, attempts=attempts)
        if isinstance(short, DetailedOutcome):
            short.user_agent, short.referer = _cut(short.user_agent, size // 4), _cut(short.referer, size // 4)
        append(short, None, None, line)
        if len(line) <= most:
            break
    return line


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[:size] + CUT


class JsonLines:
    """Writes all fields of the record as JSON, whichever kind it is, and constants behind them."""

    def __init__(self, constants: bytes) -> None:
        """`constants`: members of a JSON object, without braces."""
        self.end = b"," + constants + b"}" if constants else b"}"
        "What follows the last member of the record."

    def append(self, outcome: Outcome, request: Request | None, response: Response | None, line: bytearray) -> None:
        """Append one line. `AccessLog.write` does the same by itself when nothing else is asked for."""
        try:
            record = msgspec.json.encode(outcome)
        except UnicodeEncodeError:
            record = escaped_json(outcome)
        if not record.isascii() or DEL in record:
            record = escaped_json(outcome)
        line += record[:-1] + self.end


DEL: Final = 0x7F
_HAZARDS: Final = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]")
"""Characters that JSON allows unescaped, but that a terminal or a program that splits lines interprets. In UTF-8:
DEL, C1 (0x9b begins an escape sequence), line and paragraph separators, marks that change the direction of text."""


def escaped_json(outcome: Outcome) -> bytes:
    """The record as JSON, whatever it holds: with escapes for bytes that are not text, and for characters that a
    terminal interprets."""
    return without_hazards(msgspec.json.encode(printable(as_sent(outcome))))


def without_hazards(json: bytes | bytearray) -> bytes:
    """JSON in which the characters that a terminal interprets are escaped."""
    return _HAZARDS.sub(_as_json_escape, json)


def _as_json_escape(found: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(found[0].decode())


def as_sent(outcome: Outcome) -> Outcome:
    """Decode UTF-8 in target and id. Both hold raw bytes as latin-1, and encoding that as UTF-8 would write two
    characters for one. Bytes that are not UTF-8 stay latin-1."""
    return msgspec.structs.replace(outcome, target=decoded(outcome.target), id=decoded(outcome.id))


def decoded(text: str) -> str:
    """Decode UTF-8 that is held as latin-1; other text is returned as it is."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


def printable(outcome: Outcome) -> Outcome:
    """Replace lone surrogates (bytes that were not UTF-8), which JSON cannot hold, by a text such as `\\udcff`."""
    texts = {name: getattr(outcome, name) for name in TEXTS}
    clean = {name: text.encode("utf-8", "backslashreplace").decode() for name, text in texts.items()}
    return msgspec.structs.replace(outcome, **clean)


# combined: the format of Apache and nginx, escaped as nginx does (ngx_http_log_module: escape=default).

_VERSIONS: Final = {"http/1.0": b"1.0", "h2": b"2.0"}
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DANGEROUS: Final = re.compile(rb'["\\\x00-\x1f\x7f-\xff]')


def append_combined(outcome: Outcome, request: Request | None, response: Response | None, line: bytearray) -> None:
    """Append one line in the combined format."""
    referer, agent = "", ""
    if isinstance(outcome, DetailedOutcome):
        referer, agent = outcome.referer, outcome.user_agent
    line += b'%b - - [%b] "%b %b HTTP/%b" %d %d "%b" "%b"' % (
        _escaped_bytes(_raw(outcome.client)) or b"-",
        _clock(int(outcome.time)),
        _escaped_bytes(_raw(outcome.method)),
        _escaped_bytes(_raw(outcome.target)),
        _VERSIONS.get(outcome.protocol, b"1.1"),
        outcome.status,
        outcome.bytes_out,
        _escaped_bytes(referer.encode("utf-8", "backslashreplace")) or b"-",
        _escaped_bytes(agent.encode("utf-8", "backslashreplace")) or b"-",
    )


def _raw(text: str) -> bytes:
    return text.encode("latin-1", "backslashreplace")


def _escaped_bytes(data: bytes) -> bytes:
    return _DANGEROUS.sub(lambda found: b"\\x%02X" % found[0][0], data)


_last_second = (0, b"")


def _clock(second: int) -> bytes:
    """Format a Unix time as 10/Oct/2000:13:55:36 +0000; names of months do not depend on the locale."""
    global _last_second
    if _last_second[0] != second:
        at = time.gmtime(second)
        text = time.strftime(f"%d/{_MONTHS[at.tm_mon - 1]}/%Y:%H:%M:%S +0000", at)
        _last_second = (second, text.encode("ascii"))
    return _last_second[1]
