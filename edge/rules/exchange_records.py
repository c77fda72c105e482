"""Records of finished exchanges, which the access log writes and the metrics count. Without logic.

The order of the fields is their order in the log.
"""

import msgspec

from edge.rules.outcomes import Blame, Cause, Phase


class Attempted(msgspec.Struct, frozen=True):
    """The record of one attempt at one backend."""

    backend: str
    "Id of the backend."
    result: Cause
    "How it ended; for all but the last attempt, why the request was retried."
    status: int
    "The backend's status; 0 = no response."
    connect_ms: float
    "Time to get a connection; 0 = an idle one was reused."
    first_byte_ms: float
    "Request written to first byte of the response; 0 = there was none."


class Outcome(msgspec.Struct):
    """The record of one exchange: how it ended, and how long each part took."""

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
    "Status that the client got; 499 = it left before."
    bytes_in: int
    "Bytes of the request body received from the client."
    bytes_out: int
    "Bytes of the response body sent to the client."
    site: str
    "Name of the site in the core API; empty = the hostname has no route."
    environment: str
    backend: str
    "Id of the backend that sent the response; empty = none did."
    phase: Phase
    "Phase in which the exchange ended."
    blame: Blame
    "Who ended it."
    cause: Cause
    "Why it ended."
    resolve_ms: float
    "Time waited for the route; 0 = it was known."
    connect_ms: float
    "Time to get a connection, of the last attempt."
    first_byte_ms: float
    "Request written to first byte of the response, of the last attempt."
    total_ms: float
    "From the complete head of the request to the end of the response."
    overhead_ms: float
    """Latency added by styx until the request was sent, without the waits for the core API and for a connection.
    Only for a request without a body and with one attempt; else 0."""
    attempts: list[Attempted]
    "All attempts, in order."
    protocol: str = ""
    "Version of HTTP to the client, spelled as in ALPN: http/1.0, http/1.1 or h2; empty = nothing was read."
    stream: int = 0
    "Id of the stream of HTTP/2; 0 = there are no streams."
    tls: str = ""
    "Version of TLS to the client, such as 1.3; empty = none."
    resumed: bool = False
    "Whether the connection resumed an earlier TLS session."
    sni: str = ""
    "Hostname that the client sent in the TLS handshake; empty = none."
    client_cert: str = ""
    "Subject of the certificate that the client has shown (RFC 4514), at most 200 characters; empty = none."
