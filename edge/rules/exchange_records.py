"""How a request was handled, as the access log writes it and the metrics count it: records without logic.

The order of the fields is their order in the log.
"""

import msgspec

from edge.rules.outcomes import Blame, Cause, Phase


class Attempted(msgspec.Struct, frozen=True):
    """One try at one backend, as told to the log."""

    backend: str
    result: Cause
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
    client: str
    method: str
    host: str
    target: str
    status: int
    "What the client got; 499 = it left before."
    bytes_in: int
    "Request body bytes taken from the client."
    bytes_out: int
    "Answer body bytes handed to the client."
    site: str
    environment: str
    backend: str
    "Who answered; empty = nobody did."
    phase: Phase
    blame: Blame
    cause: Cause
    resolve_ms: float
    connect_ms: float
    first_byte_ms: float
    total_ms: float
    overhead_ms: float
    """What styx itself added until the request was sent: without waiting for the core API or for a connection. Of
    a request without a body that was sent once; else 0."""
    attempts: list[Attempted]
