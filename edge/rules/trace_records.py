"""Records of sampled exchanges, from which spans are made. Without logic. Times are seconds since the epoch."""

import msgspec

from edge.rules.outcomes import Blame, Cause


class AttemptTrace(msgspec.Struct):
    """One attempt at one backend."""

    span_id: int
    backend: str
    address: str
    port: int
    "0 = a Unix socket, whose path is `address`."
    began: float
    ended: float
    cause: Cause
    "How it ended."
    status: int
    "0 = no response."
    connect_ms: float
    first_byte_ms: float
    cold: bool


class ExchangeTrace(msgspec.Struct):
    """One exchange, with all its attempts."""

    trace_id: int
    span_id: int
    parent_id: int
    "The span of the client; 0 = the trace begins here."
    state: str
    "`tracestate` of the client."
    began: float
    ended: float
    id: str
    "X-Request-Id."
    method: str
    scheme: str
    host: str
    path: str
    "Without the query, which may hold secrets."
    protocol: str
    "As in the access log."
    client: str
    peer: str
    user_agent: str
    status: int
    site: str
    environment: str
    cause: Cause
    blame: Blame
    attempts: list[AttemptTrace]
