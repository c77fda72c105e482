"""Formats one exchange as a line of the access log: `json`, `logfmt` or `combined`. Pure.

The client chooses target, hostname, method, Referer and User-Agent. They are escaped, so that no byte of them can
end a line or pass for a field of the log.
"""

import re
import time
from collections.abc import Callable, Iterator
from typing import Final, Literal

import msgspec

from edge.rules.exchange_records import Outcome
from edge.rules.http.head_validation import Request

Format = Literal["json", "logfmt", "combined"]
Append = Callable[[Outcome, Request | None, bytearray], None]
"Appends one line to the buffer, without a newline."

TEXTS: Final = ("id", "client", "method", "host", "target")
"Members of `Outcome` that may hold bytes from the client."
CUT: Final = "..."

_encode_into: Final = msgspec.json.Encoder().encode_into


def appender(form: Format) -> Append:
    """The function that writes lines of this format."""
    return {"json": _json, "logfmt": _logfmt, "combined": _combined}[form]


def shortened(append: Append, outcome: Outcome, request: Request | None, most: int) -> bytearray:
    """Format a line of at most `most` bytes (at least 1024).

    It has no Referer and no User-Agent; the target and the list of attempts are cut shorter until the line fits.
    """
    line, whole = bytearray(), _decoded(outcome.target)
    for size, tries in ((2048, 30), (512, 30), (128, 10), (32, 3)):
        target = whole if len(whole) <= size else whole[:size] + CUT
        line.clear()
        append(msgspec.structs.replace(outcome, target=target, attempts=outcome.attempts[-tries:]), None, line)
        if len(line) <= most:
            break
    return line


def _json(outcome: Outcome, _: Request | None, line: bytearray) -> None:
    start = len(line)
    try:
        _encode_into(outcome, line, -1)
    except UnicodeEncodeError:
        del line[start:]
        _encode_into(_printable(outcome), line, -1)
    written = line[start:]
    if not written.isascii() or _DEL in written:  # rare: the check is on the hot path, the escaping is not
        del line[start:]
        _encode_into(_printable(_as_sent(outcome)), line, -1)
        line[start:] = _HAZARDS.sub(_as_json_escape, line[start:])


_DEL: Final = 0x7F
_HAZARDS: Final = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]")
"""Characters that JSON allows unescaped, but that a terminal or a program that splits lines interprets. In UTF-8:
DEL, C1 (0x9b begins an escape sequence), line and paragraph separators, marks that change the direction of text."""


def _as_json_escape(found: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(found[0].decode())


def _as_sent(outcome: Outcome) -> Outcome:
    """Decode UTF-8 in target and id. Both hold raw bytes as latin-1, and encoding that as UTF-8 would write two
    characters for one. Bytes that are not UTF-8 stay latin-1."""
    return msgspec.structs.replace(outcome, target=_decoded(outcome.target), id=_decoded(outcome.id))


def _decoded(text: str) -> str:
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


def _printable(outcome: Outcome) -> Outcome:
    """Replace lone surrogates (bytes that were not UTF-8), which JSON cannot hold, by a text such as `\\udcff`."""
    texts = {name: getattr(outcome, name) for name in TEXTS}
    clean = {name: text.encode("utf-8", "backslashreplace").decode() for name, text in texts.items()}
    return msgspec.structs.replace(outcome, **clean)


# logfmt: key=value, quoted where necessary. Read by Loki, Grafana, and people.

_PLAIN: Final = re.compile(r"[!#-<>-\[\]-~]+")
"Printable ASCII but space, quote, equals sign and backslash."


def _logfmt(outcome: Outcome, _: Request | None, line: bytearray) -> None:
    line += " ".join(f"{name}={value}" for name, value in _pairs(outcome)).encode("ascii")


def _pairs(outcome: Outcome) -> Iterator[tuple[str, str]]:
    if not (outcome.target.isascii() and outcome.id.isascii()):
        outcome = _as_sent(outcome)
    for name in Outcome.__struct_fields__:
        value = getattr(outcome, name)
        if name == "attempts":
            value = ",".join(f"{attempt.backend}:{attempt.result.value}" for attempt in value)
        elif isinstance(value, float):
            value = f"{value:.3f}"
        elif isinstance(value, bool):
            value = "true" if value else "false"
        yield name, _quoted(str(value))


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    # Escaped as a JSON string, which logfmt parsers accept.
    return '"' + _UNSAFE.sub(lambda found: _escaped(found[0]), text) + '"'


_UNSAFE: Final = re.compile(r"[^ !#-\[\]-~]")


def _escaped(char: str) -> str:
    return "\\" + char if char in '"\\' else f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


# combined: the format of Apache and nginx, escaped as nginx does (ngx_http_log_module: escape=default).

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DANGEROUS: Final = re.compile(rb'["\\\x00-\x1f\x7f-\xff]')


def _combined(outcome: Outcome, request: Request | None, line: bytearray) -> None:
    minor, referer, agent = 1, b"-", b"-"
    if request is not None:
        minor = request.minor
        for name, value in request.fields:
            lower = name.lower()
            if lower == b"referer":
                referer = _escaped_bytes(value)
            elif lower == b"user-agent":
                agent = _escaped_bytes(value)
    method, target = _escaped_bytes(_raw(outcome.method)), _escaped_bytes(_raw(outcome.target))
    line += b'%b - - [%b] "%b %b HTTP/1.%d" %d %d "%b" "%b"' % (
        _escaped_bytes(_raw(outcome.client)) or b"-",
        _clock(int(outcome.time)),
        method,
        target,
        minor,
        outcome.status,
        outcome.bytes_out,
        referer or b"-",
        agent or b"-",
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
