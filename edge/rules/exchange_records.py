"""Records of finished exchanges, which the access log writes and the metrics count. Without logic.

The order of the fields is their order in the log. No record refers to itself, so the garbage collector need not
look at them.
"""

import msgspec

from edge.rules.outcomes import Blame, Cause, Phase

LOG_SCHEMA = 1
"Version of the fields of the access log; a field that is removed or gets another meaning raises it, a new one not."


LOG_CONSTANTS = {
    "schema": "Version of these fields, a number.",
    "edge": "Name of the edge, as in X-Styx-Edge.",
    "worker": "Slot of the worker, as in the metrics.",
}
"Fields of a line besides those of the record, the same in all lines of one worker."


class Attempted(msgspec.Struct, frozen=True, gc=False):
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


class DetailedAttempt(Attempted, frozen=True):
    """The record of one attempt, in a `DetailedOutcome`."""

    address: str = ""
    "Address and port of the backend, with `tls:` before it if TLS is spoken there; or unix:/path."


class Outcome(msgspec.Struct, gc=False):
    """The record of one exchange: how it ended, and how long each part took."""

    time: float
    "Wall clock at the end, seconds since the epoch, to the microsecond."
    id: str
    "X-Request-Id."
    client: str
    """Address of the client: that of the connection, or the one that a trusted proxy names in a PROXY header or as
    the last one of X-Forwarded-For."""
    method: str
    "Method of the request; empty = nothing was read."
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
    "Name of the environment of the site: dev, test, live, …"
    backend: str
    "Id of the backend that sent the response; empty = none did."
    phase: Phase
    "Phase in which the exchange ended, as a letter."
    blame: Blame
    "Who ended it, as a letter."
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


class DetailedOutcome(Outcome):
    """The record of one exchange with what only a detailed log writes. A line costs more than twice as much with
    all of it, so it is made only if the settings of the access log ask for one of its fields."""

    scheme: str = ""
    "http or https, of the connection."
    client_port: int = 0
    "Port of the client; 0 = not known."
    peer: str = ""
    "Address of the other end of the connection: the client, or the proxy through which it came."
    peer_port: int = 0
    "Port of the other end; 0 = a Unix socket."
    listener: str = ""
    "Address of the listener, as in the settings."
    user_agent: str = ""
    "User-Agent, at most 1000 characters."
    referer: str = ""
    "Referer, at most 1000 characters."
    trace_id: str = ""
    "Id of the trace in `traceparent` (W3C Trace Context); empty = none."
    backend_address: str = ""
    "Address of the backend that sent the response, as in `attempts[].address`."
    freshness: str = ""
    "Of the route: fresh, stale, or looked_up = the request waited for the core API; empty = none was looked for."
    queue_ms: float = 0.0
    "Time waited between attempts: for a backend with a free slot, or for one to start."
    retries: int = 0
    "Attempts after the first."
    phase_name: str = "finished"
    "The phase as a word, as in the metrics."
    blame_name: str = "nobody"
    "Who ended it, as a word, as in the metrics."
    ended: bool = True
    """Whether the exchange is over. `false` in the lines that `access_log.long_after` asks for: `phase` is the
    present one, sizes and times are those so far, and `cause` is `ok`."""
