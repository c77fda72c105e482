"""Writes the line of a usual exchange: one attempt, a response that was passed on, and texts without escapes.

    prepared once: of a request, of a connection, of a backend ─┐
    numbers, from tables ───────────────────────────────────────┴─► one join ─► the line that the record would give

A record (`Outcome`) of 27 fields is made, encoded and thrown away. All other exchanges are written from theirs; a
test compares both ways.
"""

import re
from typing import TYPE_CHECKING, Final

from edge.rules.balancing.backend_state import Candidate
from edge.rules.http.head_validation import Request
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.routing.route_response import RouteResponse

if TYPE_CHECKING:
    from mypy_extensions import i64  # a machine integer, when compiled

ESCAPED: Final = "\\"
"Instead of prepared members, some of which need an escape."

_PLAIN: Final = re.compile(r"[ !#-\[\]-~]*")
"Texts that are the same in JSON, and that no terminal interprets."
_TABLE: Final = 1000
_NUMBERS: Final = [str(number) for number in range(_TABLE)]
"Of most fields. A lookup takes 20 instructions, `str` of a number 200 and of a float up to 6,000."
_DIGITS: Final = [f"{number:03}" for number in range(_TABLE)]
_DECIMALS: Final = [f"{number:03}".rstrip("0") or "0" for number in range(_TABLE)]
"The last digits of a fraction: JSON has no zeros at its end but the only one."

_MOST_CONNECTIONS: Final = 1000
"Different texts of connections that are kept to be shared."
_NO_BYTES_IN: Final = ',"bytes_in":0,"bytes_out":'
_NO_WAITS: Final = '0.0,"connect_ms":0.0,"first_byte_ms":'
_NO_CONNECT: Final = ',"connect_ms":0.0,"first_byte_ms":'
_NOT_PREPARED: Final = "http/1.0"
"A protocol of lines that are written from a record: a connection may change between it and HTTP/1.1."
_CARRIERS: Final = {name: f'}}],"protocol":"{name}","stream":' for name in ("http/1.1", "h2")}


class UsualLines:
    """Puts lines together. Each is ASCII, and ends with the constants of all lines."""

    __slots__ = ("_connections", "_end", "_second", "_second_text")

    def __init__(self, end: str) -> None:
        """`end`: what follows the last member of the record."""
        self._end = end
        self._connections: dict[str, str] = {}
        "Prepared members of connections, each text once: idle ones keep them."
        self._second = -1.0
        "The second in which the latest line was written, since the epoch."
        self._second_text = ""
        "The beginning of lines of that second."

    @property
    def kept(self) -> int:
        """Texts of connections that are kept."""
        return len(self._connections)

    def line(
        self,
        request: Request,
        info: ClientInfo,
        route: RouteResponse,
        candidate: Candidate,
        *,
        at: float,
        request_id: str,
        client: str,
        protocol: str,
        stream: int,
        status: int,
        bytes_in: int,
        bytes_out: int,
        times: tuple[float, float, float, float, float],
    ) -> str:
        """The line, or "" if it is to be made from a record: one of its texts needs an escape, or the protocol is
        HTTP/1.0. The arguments are fields of `Outcome` or hold some.

        `client` and `request_id` are checked only for a trusted proxy: else they are made by styx. `at`: in whole
        microseconds."""
        if protocol == _NOT_PREPARED:
            return ""
        asked = request.logged_members or request_members(request)
        place = candidate.logged_members or place_members(candidate, route)
        tail = info.logged_members or self._connection_members(info, protocol)
        if asked == ESCAPED or tail == ESCAPED or place == ESCAPED:
            return ""
        if info.trusted and (_PLAIN.fullmatch(client) is None or _PLAIN.fullmatch(request_id) is None):
            return ""
        digits, decimals = self._decimals(at)
        sizes, waits, connected = _NO_BYTES_IN, _NO_WAITS, _NO_CONNECT
        if bytes_in:
            sizes = f',"bytes_in":{bytes_in},"bytes_out":'
        if times[0] or times[1]:
            connect_text = milliseconds_text(times[1])
            waits = f'{milliseconds_text(times[0])},"connect_ms":{connect_text},"first_byte_ms":'
            connected = f',"connect_ms":{connect_text},"first_byte_ms":'
        status_text, first_byte_text = number_text(status), milliseconds_text(times[2])
        # Each part takes 65 instructions: what stands between two values is prepared with one of them.
        return (
            f'{self._second_text}{digits}{decimals},"id":"{request_id}","client":"{client}{asked}{status_text}'
            f'{sizes}{number_text(bytes_out)}{place}{waits}{first_byte_text},"total_ms":{milliseconds_text(times[3])},'
            f'"overhead_ms":{milliseconds_text(times[4])}{candidate.logged_attempt}{status_text}{connected}'
            f"{first_byte_text}{info.logged_carrier}{number_text(stream)}{tail}"
        )

    def _connection_members(self, info: ClientInfo, protocol: str) -> str:
        """Prepare the members of a connection."""
        members, known = connection_members(info, protocol, self._end), self._connections
        if len(known) >= _MOST_CONNECTIONS:
            known.clear()
        info.logged_members = members = known.setdefault(members, members)
        return members

    def _decimals(self, at: float) -> tuple[str, str]:
        """The decimals of the time, up to six in two parts. Prepares the beginning of the line, if its second is
        another one than that of the line before."""
        since = at - self._second
        if not 0.0 <= since < 1.0:
            second = int(at)
            self._second, self._second_text = float(second), f'{{"time":{second}.'
            since = at - self._second
        micros: i64 = int(since * 1e6 + 0.5)
        thousands: i64 = micros // 1000
        rest: i64 = micros % 1000
        if rest:
            return _DIGITS[thousands], _DECIMALS[rest]
        return "", _DECIMALS[thousands]


def number_text(number: int) -> str:
    """A number that is not negative."""
    return _NUMBERS[number] if number < _TABLE else str(number)


def milliseconds_text(ms: float) -> str:
    """Milliseconds that have at most three decimals."""
    if ms == 0.0:
        return "0.0"
    micros: i64 = int(ms * 1000.0 + 0.5)
    if ms < 0.0 or micros >= _TABLE * 1000:
        return repr(ms)
    whole: i64 = micros // 1000
    rest: i64 = micros % 1000
    return f"{_NUMBERS[whole]}.{_DECIMALS[rest]}"


def request_members(request: Request) -> str:
    """Prepare the members of a request, for all exchanges with the same head; ESCAPED = they are not plain."""
    method, target = request.method.decode("latin-1"), request.target.decode("latin-1")
    is_plain = _PLAIN.fullmatch(f"{method}{request.host}{target}") is not None
    request.logged_members = members = (
        f'","method":"{method}","host":"{request.host}","target":"{target}","status":' if is_plain else ESCAPED
    )
    return members


def place_members(candidate: Candidate, route: RouteResponse) -> str:
    """Prepare the members of a backend and its environment; ESCAPED = they are not plain."""
    texts = (route.site, route.environment, candidate.backend_id)
    is_plain = _PLAIN.fullmatch("".join(texts)) is not None
    candidate.logged_attempt = f',"attempts":[{{"backend":"{texts[2]}","result":"ok","status":'
    candidate.logged_members = members = (
        f',"site":"{texts[0]}","environment":"{texts[1]}","backend":"{texts[2]}",'
        '"phase":"-","blame":"-","cause":"ok","resolve_ms":'
        if is_plain
        else ESCAPED
    )
    return members


def connection_members(info: ClientInfo, protocol: str, end: str) -> str:
    """Prepare the members of a connection, and the end of its lines; ESCAPED = they are not plain."""
    is_plain = _PLAIN.fullmatch(f"{info.address}{info.tls}{info.sni}{info.certificate_subject}") is not None
    info.logged_carrier = _CARRIERS[protocol]
    return (
        f',"tls":"{info.tls}","resumed":{"true" if info.resumed else "false"},"sni":"{info.sni}",'
        f'"client_cert":"{info.certificate_subject}"{end}'
        if is_plain
        else ESCAPED
    )
