"""How a request was handled, as the access log writes it and the metrics count it: records without logic.

The order of the fields is their order in the log.
"""

import msgspec

from edge.rules.outcomes import Blame, Cause, Phase


class Attempted(msgspec.Struct, frozen=True):
    """One try at one backend, as told to the log."""

    backend: str
    "Id of the backend."
    result: Cause
    "How it ended; for all but the last one, why the request was retried."
    status: int
    "The backend's status; 0 = it never answered."
    connect_ms: float
    "Time to get a connection; 0 = a kept one was used."
    first_byte_ms: float
    "Request written to first answer byte; 0 = there was none."


class Outcome(msgspec.Struct):
    """How one exchange ended: the record that the log writes and the metrics count."""

    time: float
    "Wall clock at the end, seconds since the epoch."
    id: str
    "X-Request-Id."
    client: str
    "Address of the connection, or of the client that a trusted proxy names in its PROXY header."
    method: str
    host: str
    "Hostname, lower case, without port."
    target: str
    "Path and query, as sent by the client."
    status: int
    "What the client got; 499 = it left before."
    bytes_in: int
    "Request body bytes taken from the client."
    bytes_out: int
    "Answer body bytes handed to the client."
    site: str
    "As the core API names it; empty = the hostname has no route."
    environment: str
    backend: str
    "Who answered; empty = nobody did."
    phase: Phase
    "Where it ended."
    blame: Blame
    "Who ended it."
    cause: Cause
    "Why."
    resolve_ms: float
    "Time spent on waiting for the route; 0 = it was known."
    connect_ms: float
    "Of the last attempt: time to get a connection."
    first_byte_ms: float
    "Of the last attempt: request written to first byte of the response."
    total_ms: float
    "From the complete head of the request to the end of the response."
    overhead_ms: float
    """What styx itself added until the request was sent: without waiting for the core API or for a connection. Of
    a request without a body that was sent once; else 0."""
    attempts: list[Attempted]
    "All of them, in order."
