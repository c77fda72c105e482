"""Phases of a request, the causes for which an exchange can end, and one verdict for every cause.

    HEAD ─► ROUTE ─► PICK ─► CONNECT ─► SEND ─► ANSWER ─► BODY ─► FINISHED
                      ▲         │         │        │
                      └─────────┴─────────┴────────┘      a retry goes back to PICK

A phase is a member here, a method of `net/exchange.py`, a label of the metrics and a letter in the access log, so
the same words are used everywhere. The model is HAProxy's two-letter termination state (configuration manual,
section 8.5): *who* ended the exchange, and *in which phase*.

Every way in which a request can fail is one row of `VERDICTS`. Statuses, reasons and costs of failures are defined
nowhere else.
"""

import errno
from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import NamedTuple


class Phase(StrEnum):
    """The phase of a request. The value is the letter in the access log."""

    HEAD = "P"
    ROUTE = "R"
    PICK = "K"
    CONNECT = "C"
    SEND = "S"
    RESPONSE = "H"
    BODY = "D"
    FINISHED = "-"


NEXT_PHASES: Mapping[Phase, frozenset[Phase]] = {
    Phase.HEAD: frozenset({Phase.ROUTE, Phase.FINISHED}),
    Phase.ROUTE: frozenset({Phase.PICK, Phase.FINISHED}),
    Phase.PICK: frozenset({Phase.CONNECT, Phase.FINISHED}),
    # After a failed attempt, another backend is picked, or the route is looked up again if it may be out of date.
    Phase.CONNECT: frozenset({Phase.SEND, Phase.PICK, Phase.ROUTE, Phase.FINISHED}),
    # A response may begin before the request body has ended.
    Phase.SEND: frozenset({Phase.RESPONSE, Phase.BODY, Phase.PICK, Phase.ROUTE, Phase.FINISHED}),
    Phase.RESPONSE: frozenset({Phase.BODY, Phase.PICK, Phase.ROUTE, Phase.FINISHED}),
    Phase.BODY: frozenset({Phase.FINISHED}),
    Phase.FINISHED: frozenset(),
}
"Legal transitions. A request for which no backend is left ends in the phase of its last attempt."


class Blame(StrEnum):
    """Who ended the exchange. The value is the letter in the access log."""

    NOBODY = "-"
    CLIENT = "C"
    BACKEND = "B"
    CORE = "A"  # the core API, or its response about the site
    EDGE = "E"


class Retry(Enum):
    """The refusal ladder: which requests may be retried after this failure."""

    ANY = "A"  # no request byte was written: any method, any body
    UNPROCESSED = "B"  # proved not processed: any method, if its body can be sent again
    SAFE_ONLY = "C"  # unknown whether it was processed: GET HEAD OPTIONS TRACE, once
    NEVER = "D"


class Charge(Enum):
    """The charge to the backend for a failure."""

    NOTHING = "nothing"
    ERROR = "error"  # counts in its error ratio
    UNREACHABLE = "unreachable"  # gets no requests for a time, longer with each failure in a row
    REST = "rest"  # gets no requests for as long as it asked (Retry-After)


class Cause(StrEnum):
    """Why an attempt or an exchange ended as it did. The value is the label in metrics and logs."""

    OK = "ok"
    REDIRECTED = "redirected"
    LOCAL_REPLY = "local_reply"
    SERVER_ERROR = "server_error"

    BAD_REQUEST = "bad_request"
    NOT_IMPLEMENTED = "not_implemented"
    BAD_VERSION = "bad_version"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    LOOP_DETECTED = "loop_detected"
    EMPTY_HOST = "empty_host"
    HOST_NOT_COVERED = "host_not_covered"
    REQUEST_TIMEOUT = "request_timeout"
    BODY_TOO_LARGE = "body_too_large"
    URI_TOO_LONG = "uri_too_long"
    EXPECTATION_FAILED = "expectation_failed"
    HEADERS_TOO_LARGE = "headers_too_large"
    CLIENT_GONE = "client_gone"
    CLIENT_STALLED = "client_stalled"

    UNKNOWN_HOST = "unknown_host"
    UNKNOWN_HOST_LIMIT = "unknown_host_limit"
    NO_BACKENDS = "no_backends"
    DRAINED = "drained"
    LOOKUP_FAILED = "lookup_failed"
    MAINTENANCE = "maintenance"
    SITE_LIMIT = "site_limit"
    CLIENT_LIMIT = "client_limit"

    EDGE_OVERLOADED = "edge_overloaded"
    EDGE_STOPPED = "edge_stopped"
    BUFFER_LIMIT = "buffer_limit"

    CONNECT_FAILED = "connect_failed"
    CONNECT_TIMEOUT = "connect_timeout"
    HOST_UNREACHABLE = "host_unreachable"
    WRONG_BACKEND = "wrong_backend"
    CERTIFICATE_REFUSED = "certificate_refused"
    REFUSED = "refused"
    MISDIRECTED = "misdirected"
    EXPECT_REFUSED = "expect_refused"
    STALE_CONNECTION = "stale_connection"
    CONNECTION_UNACKNOWLEDGED = "connection_unacknowledged"
    CLOSED_EARLY = "closed_early"
    BAD_ANSWER = "bad_answer"
    RESPONSE_TOO_LARGE = "response_too_large"
    GATEWAY_ERROR = "gateway_error"
    RETRY_REQUESTED = "retry_requested"
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    NO_CONTINUE = "no_continue"
    COLD_START_TIMEOUT = "cold_start_timeout"
    STALLED = "stalled"
    TRUNCATED = "truncated"
    TUNNEL_IDLE = "tunnel_idle"
    TUNNEL_CUT = "tunnel_cut"


class Verdict(NamedTuple):
    """The consequences of a cause."""

    blame: Blame
    status: int
    "Status of the local reply; 0 = there is none: the backend's response is forwarded."
    reason: str
    "`X-Styx-Error` of the local reply; empty = there is none."
    retry: Retry
    charge: Charge


_C, _B, _A, _E, _N = Blame.CLIENT, Blame.BACKEND, Blame.CORE, Blame.EDGE, Blame.NOBODY
_FREE = Charge.NOTHING

VERDICTS: Mapping[Cause, Verdict] = {
    Cause.OK: Verdict(_N, 0, "", Retry.NEVER, _FREE),
    Cause.REDIRECTED: Verdict(_N, 301, "", Retry.NEVER, _FREE),
    # OPTIONS with Max-Forwards: 0 (RFC 9110, section 7.6.2).
    Cause.LOCAL_REPLY: Verdict(_N, 200, "", Retry.NEVER, _FREE),
    # The application's own 500, 501 or 503: forwarded unchanged, but it counts if its neighbours do better.
    Cause.SERVER_ERROR: Verdict(_N, 0, "", Retry.NEVER, Charge.ERROR),
    # the client
    Cause.BAD_REQUEST: Verdict(_C, 400, "bad_request", Retry.NEVER, _FREE),
    Cause.NOT_IMPLEMENTED: Verdict(_C, 501, "bad_request", Retry.NEVER, _FREE),
    Cause.BAD_VERSION: Verdict(_C, 505, "bad_request", Retry.NEVER, _FREE),
    Cause.METHOD_NOT_ALLOWED: Verdict(_C, 405, "method_not_allowed", Retry.NEVER, _FREE),
    # RFC 5842, section 7.2. The platform causes the loop, not the client.
    Cause.LOOP_DETECTED: Verdict(_A, 508, "loop_detected", Retry.NEVER, _FREE),
    Cause.EMPTY_HOST: Verdict(_C, 400, "empty_host", Retry.NEVER, _FREE),
    # Another hostname than those of the certificate that the connection got (RFC 9110, section 15.5.20).
    Cause.HOST_NOT_COVERED: Verdict(_C, 421, "host_not_covered", Retry.NEVER, _FREE),
    Cause.REQUEST_TIMEOUT: Verdict(_C, 408, "request_timeout", Retry.NEVER, _FREE),
    Cause.BODY_TOO_LARGE: Verdict(_C, 413, "body_too_large", Retry.NEVER, _FREE),
    Cause.URI_TOO_LONG: Verdict(_C, 414, "uri_too_long", Retry.NEVER, _FREE),
    Cause.EXPECTATION_FAILED: Verdict(_C, 417, "expectation_failed", Retry.NEVER, _FREE),
    Cause.HEADERS_TOO_LARGE: Verdict(_C, 431, "headers_too_large", Retry.NEVER, _FREE),
    Cause.CLIENT_GONE: Verdict(_C, 499, "client_gone", Retry.NEVER, _FREE),
    Cause.CLIENT_STALLED: Verdict(_C, 499, "client_gone", Retry.NEVER, _FREE),
    # the route
    Cause.UNKNOWN_HOST: Verdict(_C, 404, "unknown_host", Retry.NEVER, _FREE),
    # The client named too many hostnames that do not exist: no further one is looked up.
    Cause.UNKNOWN_HOST_LIMIT: Verdict(_C, 429, "unknown_host_limit", Retry.NEVER, _FREE),
    Cause.NO_BACKENDS: Verdict(_A, 503, "no_backends", Retry.NEVER, _FREE),
    # An operator of the edge drains every backend that the core API names.
    Cause.DRAINED: Verdict(_E, 503, "drained", Retry.NEVER, _FREE),
    Cause.LOOKUP_FAILED: Verdict(_A, 503, "lookup_failed", Retry.NEVER, _FREE),
    Cause.MAINTENANCE: Verdict(_A, 503, "maintenance", Retry.NEVER, _FREE),
    Cause.SITE_LIMIT: Verdict(_A, 503, "site_limit", Retry.NEVER, _FREE),
    # Slots of the environment are scarce, and the client has its share of them.
    Cause.CLIENT_LIMIT: Verdict(_C, 429, "client_limit", Retry.NEVER, _FREE),
    # the edge
    Cause.EDGE_OVERLOADED: Verdict(_E, 503, "edge_overloaded", Retry.NEVER, _FREE),
    # The request was still in flight at the end of `drain.timeout`.
    Cause.EDGE_STOPPED: Verdict(_E, 503, "edge_stopped", Retry.NEVER, _FREE),
    # The buffers of slow clients exceeded their limit, and this client held most of them.
    Cause.BUFFER_LIMIT: Verdict(_E, 503, "edge_overloaded", Retry.NEVER, _FREE),
    # the backend
    Cause.CONNECT_FAILED: Verdict(_B, 502, "connect_failed", Retry.ANY, Charge.UNREACHABLE),
    Cause.CONNECT_TIMEOUT: Verdict(_B, 504, "connect_timeout", Retry.ANY, Charge.UNREACHABLE),
    Cause.HOST_UNREACHABLE: Verdict(_B, 502, "connect_failed", Retry.ANY, Charge.UNREACHABLE),
    # Whoever is there has not proved to be the backend: a container that moved leaves its port to another one.
    Cause.WRONG_BACKEND: Verdict(_B, 502, "connect_failed", Retry.ANY, Charge.UNREACHABLE),
    # In TLS 1.3 the edge learns after its first request that its certificate is refused. The handshake of the
    # backend never ended, so it has read nothing (RFC 8446, section 4.4.2.4).
    Cause.CERTIFICATE_REFUSED: Verdict(_B, 502, "connect_failed", Retry.UNPROCESSED, Charge.ERROR),
    Cause.REFUSED: Verdict(_B, 503, "all_refused", Retry.UNPROCESSED, Charge.REST),
    Cause.MISDIRECTED: Verdict(_B, 502, "misdirected", Retry.UNPROCESSED, _FREE),
    # 417 to an Expect: 100-continue that the edge added (RFC 9110, section 10.1.1): retried without it.
    Cause.EXPECT_REFUSED: Verdict(_B, 0, "", Retry.UNPROCESSED, _FREE),
    # The backend closed an idle connection while a request was written: the race of RFC 9112, section 9.3.1.
    Cause.STALE_CONNECTION: Verdict(_B, 502, "closed_early", Retry.SAFE_ONLY, _FREE),
    # The bytes written were not acknowledged: the machine, or the network path to it, is gone.
    Cause.CONNECTION_UNACKNOWLEDGED: Verdict(_B, 504, "stalled", Retry.SAFE_ONLY, Charge.UNREACHABLE),
    Cause.CLOSED_EARLY: Verdict(_B, 502, "closed_early", Retry.SAFE_ONLY, Charge.ERROR),
    Cause.BAD_ANSWER: Verdict(_B, 502, "bad_answer", Retry.SAFE_ONLY, Charge.ERROR),
    # The application sends too large a head, and would on every backend: as with its own 500, the comparison with
    # its neighbours shows whether the backend is to blame.
    Cause.RESPONSE_TOO_LARGE: Verdict(_B, 502, "response_too_large", Retry.NEVER, Charge.ERROR),
    Cause.GATEWAY_ERROR: Verdict(_B, 0, "", Retry.SAFE_ONLY, Charge.ERROR),
    Cause.RETRY_REQUESTED: Verdict(_B, 0, "", Retry.SAFE_ONLY, _FREE),
    Cause.FIRST_BYTE_TIMEOUT: Verdict(_B, 504, "first_byte_timeout", Retry.NEVER, Charge.ERROR),
    # The client waits for 100, the backend perhaps for the body: it is unknown who should have sent.
    Cause.NO_CONTINUE: Verdict(_B, 504, "first_byte_timeout", Retry.NEVER, _FREE),
    # The request itself started the container, which may be slow once.
    Cause.COLD_START_TIMEOUT: Verdict(_B, 504, "cold_start_timeout", Retry.NEVER, _FREE),
    Cause.STALLED: Verdict(_B, 504, "stalled", Retry.NEVER, Charge.ERROR),
    Cause.TRUNCATED: Verdict(_B, 502, "closed_early", Retry.NEVER, Charge.ERROR),
    # Long after the 101 response. A backend that is replaced ends its tunnels, so this says nothing about its
    # health.
    Cause.TUNNEL_IDLE: Verdict(_N, 0, "", Retry.NEVER, _FREE),
    Cause.TUNNEL_CUT: Verdict(_B, 0, "", Retry.NEVER, _FREE),
}


_LOCAL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN})
_NO_SUCH_HOST = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN})


def connect_cause(number: int | None) -> Cause:
    """The cause for an errno of connect(). A lack of local sockets, ports or memory is not the backend's fault."""
    if number == errno.ETIMEDOUT:
        return Cause.CONNECT_TIMEOUT
    if number in _NO_SUCH_HOST:
        return Cause.HOST_UNREACHABLE
    return Cause.EDGE_OVERLOADED if number in _LOCAL else Cause.CONNECT_FAILED
