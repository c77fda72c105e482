"""Builds the writer of access log lines from the settings, once: format, fields, redaction.

    Outcome ─► redaction ─► format, of all fields or of the chosen ones ─► chosen header fields ─► line
               if asked for                                               if asked for

What is not asked for is not in the chain, so that the usual line costs no decision.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final, get_type_hints

import msgspec

from edge.admin.log.log_formats import (
    DEL,
    Append,
    JsonLines,
    append_combined,
    as_sent,
    printable,
    without_hazards,
)
from edge.rules.exchange_records import LOG_SCHEMA, Attempted, DetailedOutcome, Outcome
from edge.rules.http.head_validation import Request, Response
from edge.rules.http.messages import Fields
from edge.rules.log.logged_fields import CUT, LONGEST, text_of
from edge.rules.log.redaction import CREDENTIALS, REDACTED, URLS, network_address, redacted_query
from edge.rules.settings import AccessLogSettings

_TYPES: Final = get_type_hints(DetailedOutcome)
_WHOLE_RECORDS: Final = (Outcome.__struct_fields__, DetailedOutcome.__struct_fields__)


def line_writer(settings: AccessLogSettings, *, edge: str = "", worker: int = 0) -> Append:
    """The function that writes lines as the settings say. `edge`, `worker`: the constants of all lines."""
    fields, constants = _chosen(settings, edge, worker)
    headers = HeaderFields.chosen(settings)
    append: Append
    if settings.format == "combined":
        append = append_combined
    elif settings.format == "logfmt":
        append = LogfmtLines(fields, constants, headers).append
    elif headers is None and fields in _WHOLE_RECORDS:
        append = JsonLines(msgspec.json.encode(constants)[1:-1]).append
    else:
        append = ChosenJsonLines(fields, constants, headers).append
    if settings.redact_query or settings.truncate_addresses:
        return Redaction(append, settings).append
    return append


def plain_json_end(settings: AccessLogSettings, *, edge: str = "", worker: int = 0) -> bytes:
    """What follows the last member of the record in every line, if each is a whole record as JSON and nothing is
    left out; else empty."""
    fields, constants = _chosen(settings, edge, worker)
    changes = settings.redact_query or settings.truncate_addresses or HeaderFields.chosen(settings) is not None
    if settings.format != "json" or fields not in _WHOLE_RECORDS or changes or settings.sample_2xx < 1.0:
        return b""
    return JsonLines(msgspec.json.encode(constants)[1:-1]).end


def _chosen(settings: AccessLogSettings, edge: str, worker: int) -> tuple[tuple[str, ...], dict[str, object]]:
    """The chosen fields of the record, and the chosen constants."""
    known: dict[str, object] = {"schema": LOG_SCHEMA, "edge": edge, "worker": worker}
    constants = {name: known[name] for name in settings.chosen_fields if name in known}
    if settings.sample_2xx < 1.0:
        constants["sample_2xx"] = settings.sample_2xx
    return tuple(name for name in settings.chosen_fields if name not in known), constants


class Redaction:
    """Replaces in the record what must not be written down, before it is written."""

    def __init__(self, append: Append, settings: AccessLogSettings) -> None:
        self._append = append
        self._names = frozenset(name.lower() for name in settings.redact_query)
        self._truncates = settings.truncate_addresses

    def append(self, outcome: Outcome, request: Request | None, response: Response | None, line: bytearray) -> None:
        """Append one line."""
        changed: dict[str, Any] = {}
        if self._names:
            changed["target"] = redacted_query(outcome.target, self._names)
        if self._truncates:
            changed["client"] = network_address(outcome.client)
        if isinstance(outcome, DetailedOutcome):
            changed |= self._of_details(outcome)
        self._append(msgspec.structs.replace(outcome, **changed), request, response, line)

    def _of_details(self, outcome: DetailedOutcome) -> dict[str, Any]:
        changed: dict[str, Any] = {"referer": redacted_query(outcome.referer, self._names)} if self._names else {}
        if self._truncates:
            changed |= {"peer": network_address(outcome.peer), "peer_port": 0, "client_port": 0}
        return changed


class HeaderFields:
    """The values of chosen header fields of requests and responses."""

    def __init__(
        self, of_request: Sequence[str], of_response: Sequence[str], redacted: frozenset[str] = frozenset()
    ) -> None:
        """`redacted`: query parameters whose value is not written, in lower case."""
        self._of_request = {name.lower().encode("ascii"): name.lower() for name in of_request}
        self._of_response = {name.lower().encode("ascii"): name.lower() for name in of_response}
        self._redacted = redacted

    @classmethod
    def chosen(cls, settings: AccessLogSettings) -> "HeaderFields | None":
        """Those of the settings; None = none are chosen."""
        of_request, of_response = settings.request_headers, settings.response_headers
        if not (of_request or of_response):
            return None
        return cls(of_request, of_response, frozenset(name.lower() for name in settings.redact_query))

    def groups(self, request: Request | None, response: Response | None) -> Iterator[tuple[str, dict[str, str]]]:
        """`request` and `response`, each with its values by name, if it has any."""
        if self._of_request and request is not None and (values := self._values(request.fields, self._of_request)):
            yield "request", values
        if (
            self._of_response
            and response is not None
            and (values := self._values(response.fields, self._of_response))
        ):
            yield "response", values

    def _values(self, fields: Fields, names: dict[bytes, str]) -> dict[str, str]:
        """The values by name, at most LONGEST characters of each; those of a name that comes several times are
        joined by a comma. Of credentials, only that they are there."""
        found: dict[str, str] = {}
        for name, value in fields:
            known = names.get(name.lower())
            if known is None or len(found.get(known, "")) > LONGEST:
                continue
            text = self._text(known, value)
            text = f"{found[known]}, {text}" if known in found else text
            found[known] = text if len(text) <= LONGEST else text[:LONGEST] + CUT
        return found

    def _text(self, name: str, value: bytes) -> str:
        if name in CREDENTIALS:
            return REDACTED
        if self._redacted and name in URLS:  # before it is cut, which may divide a parameter
            return redacted_query(text_of(value, longest=len(value)), self._redacted)
        return text_of(value)


class ChosenJsonLines:
    """Writes chosen fields as JSON, in their order, then constants and header fields."""

    def __init__(
        self, fields: Sequence[str], constants: dict[str, object], headers: HeaderFields | None = None
    ) -> None:
        self._record = msgspec.defstruct("Line", [(name, _TYPES[name]) for name in fields])
        self._values = _values_of(fields)
        self._constants = msgspec.json.encode(constants)[1:-1]
        self._headers = headers

    def append(self, outcome: Outcome, request: Request | None, response: Response | None, line: bytearray) -> None:
        """Append one line."""
        try:
            members = self._encoded(outcome)
        except UnicodeEncodeError:
            members = self._encoded(printable(outcome))
        if not members.isascii() or DEL in members:
            members = without_hazards(self._encoded(printable(as_sent(outcome))))
        parts = [members, self._constants]
        if self._headers is not None:
            for of_what, values in self._headers.groups(request, response):
                parts.append(b'"%b_headers":' % of_what.encode() + without_hazards(msgspec.json.encode(values)))
        line += b"{" + b",".join(part for part in parts if part) + b"}"

    def _encoded(self, outcome: Outcome) -> bytes:
        return msgspec.json.encode(self._record(*self._values(outcome)))[1:-1]


def _values_of(fields: Sequence[str]) -> Callable[[Outcome], tuple[Any, ...]]:
    """A function that reads these fields. (`attrgetter` returns a tuple only for more than one.)"""
    if len(fields) > 1:
        return attrgetter(*fields)
    return lambda outcome: tuple(getattr(outcome, name) for name in fields)


# logfmt: key=value, quoted where necessary. Read by Loki, Grafana, and people.

_PLAIN: Final = re.compile(r"[!#-<>-\[\]-~]+")
"Printable ASCII but space, quote, equals sign and backslash."
_UNSAFE: Final = re.compile(r"[^ !#-\[\]-~]")


class LogfmtLines:
    """Writes chosen fields as logfmt, then constants and header fields."""

    def __init__(
        self, fields: Sequence[str], constants: dict[str, object], headers: HeaderFields | None = None
    ) -> None:
        self._values = _values_of(fields)
        self._texts = [(name, _TEXTS.get(_TYPES[name], _text)) for name in fields]
        self._constants = [f"{name}={_text(value)}" for name, value in constants.items()]
        self._headers = headers

    def append(self, outcome: Outcome, request: Request | None, response: Response | None, line: bytearray) -> None:
        """Append one line."""
        if not (outcome.target.isascii() and outcome.id.isascii()):
            outcome = as_sent(outcome)
        values = self._values(outcome)
        pairs = [f"{name}={text(value)}" for (name, text), value in zip(self._texts, values, strict=True)]
        pairs += self._constants
        if self._headers is not None:
            for of_what, named in self._headers.groups(request, response):
                pairs += [f"{of_what}_header_{n.replace('-', '_')}={_text(value)}" for n, value in named.items()]
        line += " ".join(pairs).encode("ascii")


def _text(value: object) -> str:
    text = str(value)
    if _PLAIN.fullmatch(text):
        return text
    # Escaped as a JSON string, which logfmt parsers accept.
    return '"' + _UNSAFE.sub(lambda found: _escaped(found[0]), text) + '"'


def _escaped(char: str) -> str:
    return "\\" + char if char in '"\\' else f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _attempts_text(attempts: Sequence[Attempted]) -> str:
    return _text(",".join(f"{attempt.backend}:{attempt.result.value}" for attempt in attempts))


_TEXTS: Final[dict[Any, Callable[[Any], str]]] = {
    float: lambda value: f"{value:.3f}",
    bool: lambda value: "true" if value else "false",
    list[Attempted]: _attempts_text,
}
"How values are written, by the type of the field; all others by `_text`."
