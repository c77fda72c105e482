"""How one exchange is written in the access log: `json`, `logfmt` or `combined`. Pure.

A client chooses the target, the hostname, the method, the referrer and its own name: no byte of them may end a line
or look like a field of ours.
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
"Writes one line, without its end, behind what is in the buffer."

TEXTS = ("id", "client", "method", "host", "target")
"Members that may hold what a client said."
CUT = "..."

_encode_into = msgspec.json.Encoder().encode_into


def appender(form: Format) -> Append:
    """Who writes lines of this format."""
    return {"json": _json, "logfmt": _logfmt, "combined": _combined}[form]


def shortened(append: Append, outcome: Outcome, request: Request | None, most: int) -> bytearray:
    """The same line in at most so many bytes: without what the client said about itself, then with less and less of
    the target, then of the attempts. `most` is 1024 at the least."""
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
    if not written.isascii() or _DEL in written:  # rarely: this is on the way of every request
        del line[start:]
        _encode_into(_printable(_as_sent(outcome)), line, -1)
        line[start:] = _HAZARDS.sub(_as_json_escape, line[start:])


_DEL = 0x7F
_HAZARDS = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]")
"""What JSON may hold as it is, but a terminal, or a reader that splits lines, takes for more than text. In UTF-8:
DEL, C1 (0x9b begins an escape sequence), line and paragraph separators, marks that turn the direction of text."""


def _as_json_escape(found: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(found[0].decode())


def _as_sent(outcome: Outcome) -> Outcome:
    """Raw UTF-8 in a target or an id is held byte for byte, as latin-1: to encode that once more would write two
    characters for one. What is no UTF-8 stays latin-1."""
    return msgspec.structs.replace(outcome, target=_decoded(outcome.target), id=_decoded(outcome.id))


def _decoded(text: str) -> str:
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


def _printable(outcome: Outcome) -> Outcome:
    """JSON cannot hold lone surrogates (bytes that were no UTF-8): they become the text `\\udcff`."""
    texts = {name: getattr(outcome, name) for name in TEXTS}
    clean = {name: text.encode("utf-8", "backslashreplace").decode() for name, text in texts.items()}
    return msgspec.structs.replace(outcome, **clean)


# logfmt: key=value, in quotes where it must be. Read by Loki, Grafana, and people.

_PLAIN = re.compile(r"[!#-<>-\[\]-~]+")
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
        yield name, _quoted(str(value))


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    # As JSON writes a string: the readers of logfmt take that.
    return '"' + _UNSAFE.sub(lambda found: _escaped(found[0]), text) + '"'


_UNSAFE = re.compile(r"[^ !#-\[\]-~]")


def _escaped(char: str) -> str:
    return "\\" + char if char in '"\\' else f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


# combined: as Apache and nginx write it, escaped as nginx does (ngx_http_log_module: escape=default).

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DANGEROUS = re.compile(rb'["\\\x00-\x1f\x7f-\xff]')


def _combined(outcome: Outcome, request: Request | None, line: bytearray) -> None:
    minor, referer, agent = 1, b"-", b"-"
    if request is not None:
        minor = request.minor
        for name, value in request.fields:
            lower = name.lower()
            if lower == b"referer":
                referer = _hidden(value)
            elif lower == b"user-agent":
                agent = _hidden(value)
    method, target = _hidden(_raw(outcome.method)), _hidden(_raw(outcome.target))
    line += b'%b - - [%b] "%b %b HTTP/1.%d" %d %d "%b" "%b"' % (
        _hidden(_raw(outcome.client)) or b"-",
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


def _hidden(data: bytes) -> bytes:
    return _DANGEROUS.sub(lambda found: b"\\x%02X" % found[0][0], data)


_last_second = (0, b"")


def _clock(second: int) -> bytes:
    """10/Oct/2000:13:55:36 +0000; a month has the same name everywhere."""
    global _last_second
    if _last_second[0] != second:
        at = time.gmtime(second)
        text = time.strftime(f"%d/{_MONTHS[at.tm_mon - 1]}/%Y:%H:%M:%S +0000", at)
        _last_second = (second, text.encode("ascii"))
    return _last_second[1]
