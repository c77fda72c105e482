"""Parses, filters and formats lines of the access log, for `styx log`. Pure.

one line, JSON or logfmt ─► parse_line ─► LogFilter.takes ─► rendered, in pieces with a colour each
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

import msgspec

from edge.rules.outcomes import Blame, Phase

Record = Mapping[str, Any]
"The fields of one line; values of logfmt are texts."

_STATUS: Final = re.compile(r"(?P<class>[1-9])xx|(?P<first>[1-9][0-9]{2})(-(?P<last>[1-9][0-9]{2}))?")
_PAIR: Final = re.compile(r'([A-Za-z0-9_]+)=("(?:[^"\\]|\\.)*"|[^ "]*)(?: |$)')
_ESCAPED: Final = re.compile(r"\\(?:u([0-9a-f]{4})|U([0-9a-f]{8})|(.))")
SLOW_MS: Final = 1000.0
"From this time on a request is shown as slow."
WIDEST: Final = 120
"Characters of a target that are shown."


class BadFilter(ValueError):
    """A filter that cannot be used; the text says why."""


class LogFilter(NamedTuple):
    """Which lines are shown; an empty part takes all."""

    hosts: tuple[str, ...] = ()
    "Hostnames, in lower case; `*` stands for any characters."
    causes: frozenset[str] = frozenset()
    statuses: tuple[range, ...] = ()
    sites: frozenset[str] = frozenset()
    least_ms: float = 0.0
    "Least time of an exchange."

    def takes(self, record: Record) -> bool:
        """Whether this line is shown."""
        host = str(record.get("host", "")).lower()
        return (
            (not self.hosts or any(fnmatchcase(host, wanted) for wanted in self.hosts))
            and (not self.causes or record.get("cause") in self.causes)
            and (not self.statuses or any(int(_number(record, "status")) in wanted for wanted in self.statuses))
            and (not self.sites or record.get("site") in self.sites)
            and _number(record, "total_ms") >= self.least_ms
        )


def statuses(text: str) -> range:
    """Parse `404`, `5xx` or `500-503`. Raises BadFilter."""
    match = _STATUS.fullmatch(text)
    if match is None:
        raise BadFilter(f"{text!r} is no status: write 404, 5xx or 500-503")
    if match["class"]:
        return range(int(match["class"]) * 100, int(match["class"]) * 100 + 100)
    return range(int(match["first"]), int(match["last"] or match["first"]) + 1)


def parse_line(line: bytes) -> Record | None:
    """The fields of a line in JSON or logfmt; None = it is neither."""
    if line.startswith(b"{"):
        try:
            record = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return record if isinstance(record, dict) else None
    text = line.decode("utf-8", "replace").strip()
    pairs = _PAIR.findall(text)
    if not pairs or sum(len(name) + len(value) + 2 for name, value in pairs) != len(text) + 1:
        return None
    return {name: _unquoted(value) for name, value in pairs}


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    return _ESCAPED.sub(lambda found: found[3] or chr(int(found[1] or found[2], 16)), value[1:-1])


def _number(record: Record, name: str) -> float:
    try:
        return float(record.get(name, 0))
    except (TypeError, ValueError):
        return 0.0


# for people

Piece = tuple[str, str]
"Text, and its colour; empty = none."
_PHASES: Final[Mapping[Any, str]] = {phase.value: phase.name.lower() for phase in Phase}
_BLAMES: Final[Mapping[Any, str]] = {blame.value: blame.name.lower() for blame in Blame}
"Words of the letters, for lines that have no words."
_COLOURS: Final = {2: "green", 3: "cyan", 4: "yellow", 5: "red"}
"By class of status."


def rendered(record: Record, local_time: Callable[[float], time.struct_time] = time.localtime) -> list[Piece]:
    """One line for people: time, status, duration, request, backend, client; and for all but a plain success what
    happened."""
    at, total = _number(record, "time"), _number(record, "total_ms")
    status = int(_number(record, "status"))
    clock = time.strftime("%H:%M:%S", local_time(at)) + f".{int(at * 1000) % 1000:03d}"
    target = _text(record, "target")
    target = target if len(target) <= WIDEST else target[:WIDEST] + "…"
    ended = record.get("ended") not in (False, "false")
    pieces = [
        (f"{clock} ", "bright_black"),
        (f"{status or '...'} ", _COLOURS.get(status // 100, "magenta")),
        (f"{_duration(total):>7} ", "yellow" if total >= SLOW_MS else ""),
        (f"{_text(record, 'method') or '-'} ", ""),
        (_text(record, "host") or "-", "bold"),
        (f"{target} ", ""),
        (_backend(record), "bright_black"),
        (f" from {_text(record, 'client') or '-'}", "bright_black"),
    ]
    if not ended:
        pieces.append((f" | lasts still, in {_text(record, 'phase_name')}", "cyan"))
    if remarks := ", ".join(_remarks(record)):
        pieces.append((f" | {remarks}", "red" if record.get("cause") not in ("ok", None) else "yellow"))
    return pieces


def _backend(record: Record) -> str:
    backend, address = _text(record, "backend"), _text(record, "backend_address")
    return f"to {backend}{'@' if address else ''}{address}" if backend else "to no backend"


def _remarks(record: Record) -> Iterable[str]:
    """What is unusual about the exchange."""
    cause = _text(record, "cause")
    if cause not in ("ok", ""):
        blame = _text(record, "blame_name") or _BLAMES.get(record.get("blame"), "")
        phase = _text(record, "phase_name") or _PHASES.get(record.get("phase"), "")
        who = "" if blame in ("", "nobody") else f" ({blame}, in {phase})"
        yield f"{cause}{who}"
    tried = _attempts(record.get("attempts", ""))
    if len(tried) > 1:
        yield f"tried {_printable(', '.join(tried))}"
    if queued := _number(record, "queue_ms"):
        yield f"queued {_duration(queued)}"
    if _text(record, "freshness") == "stale":
        yield "stale route"
    if looked_up := _number(record, "resolve_ms"):
        yield f"waited {_duration(looked_up)} for the route"


def _attempts(attempts: Sequence[Any] | str) -> list[str]:
    if isinstance(attempts, str):  # logfmt: backend:result, joined by commas
        tried = [attempt.rpartition(":")[::2] for attempt in attempts.split(",")]
    else:
        tried = [(str(a.get("backend", "")), str(a.get("result", ""))) for a in attempts if isinstance(a, dict)]
    return [f"{backend} {result}" for backend, result in tried]


def _duration(ms: float) -> str:
    if ms >= 10_000:
        return f"{ms / 1000:.0f} s"
    if ms >= 1_000:
        return f"{ms / 1000:.1f} s"
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"


def _text(record: Record, name: str) -> str:
    return _printable(str(record.get(name, "")))


def _printable(text: str) -> str:
    """Escape what a terminal may interpret, for the client chose it: controls, separators, and marks that change
    the direction of text."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
