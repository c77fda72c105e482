"""Settings of request handling: timeouts, limits, connections to backends, retries, demerits, forwarding."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from edge.rules.balancing.expect_support import Asking
from edge.rules.settings.section import DAY, GIB, HOUR, KIB, MIB, MINUTE, Cold, Hot, Section
from edge.rules.settings.values import Count, Duration, Flag, Ratio, Size, Token, TrustedNetwork

NGINX_KEEPALIVE = 75
"Seconds after which nginx closes an idle connection (keepalive_timeout)."


class TimeoutSettings(Section):
    """How long each phase of a request may take."""

    head: Hot[Duration] = Field(default=10.0, ge=0.001, le=HOUR)
    "For a client to send the complete head of a request, from its first byte; 408 after it."
    handshake: Hot[Duration] = Field(default=10.0, ge=0.001, le=HOUR)
    "For a TLS handshake, with the wait for a certificate that is not there yet; the connection is closed after it."
    body: Hot[Duration] = Field(default=20.0, ge=0.001, le=HOUR)
    "Interval over which a client must send its request body at limits.body_rate; else 408 (Apache: 20 s)."
    keep_alive: Hot[Duration] = Field(default=75.0, ge=0.001, le=DAY)
    "How long a client's connection may stay idle between requests (nginx: 75 s)."
    write_stall: Hot[Duration] = Field(default=60.0, ge=0.001, le=HOUR)
    "How long a client may read no byte of a response that is ready to be sent."
    unacknowledged: Hot[Duration] = Field(default=60.0, ge=0, le=HOUR)
    "How long a client may acknowledge neither bytes nor keep-alive probes until it counts as gone; 0 = no limit."
    connect: Hot[Duration] = Field(default=0.25, ge=0.001, le=MINUTE)
    "For one connect to a backend while there are others to try; in one data center it takes a millisecond."
    connect_alone: Hot[Duration] = Field(default=1.5, ge=0.001, le=MINUTE)
    "For a connect when no other backend is left, if longer: the kernel sends a lost SYN again after 1 s."
    connect_total: Hot[Duration] = Field(default=5.0, ge=0.001, le=10 * MINUTE)
    "For all connects of one request together."
    first_byte: Hot[Duration] = Field(default=60.0, ge=0.001, le=DAY)
    "From the request sent to the first byte of a backend's response (nginx: proxy_read_timeout, 60 s)."
    first_byte_cold: Hot[Duration] = Field(default=60.0, ge=0.001, le=DAY)
    "As first_byte, for a cold backend: the request starts the container, which may take 30 s and more."
    between_bytes: Hot[Duration] = Field(default=60.0, ge=0.001, le=DAY)
    "Silence of a backend within a response (nginx: proxy_read_timeout, 60 s)."
    tunnel: Hot[Duration] = Field(default=1.0 * HOUR, ge=0.001, le=7 * DAY)
    "Silence of both sides after which a tunnel, such as a WebSocket, is closed (HAProxy: timeout tunnel)."
    deadline: Hot[Duration] = Field(default=120.0, ge=0.001, le=DAY)
    "For all attempts of one request together, until the first byte of a response."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        held = "must not be longer than connect_total, which holds all tries"
        yield from self.exceeding("connect_total", held, "connect", "connect_alone")
        held = "must not be longer than deadline, which holds all attempts"
        yield from self.exceeding("deadline", held, "connect_total", "first_byte", "first_byte_cold")


class LimitSettings(Section):
    """Limits of requests, responses and clients."""

    request_line: Hot[Size] = Field(default=8 * KIB, ge=64, le=MIB)
    "Method, target and version together; 414 beyond it (nginx: 8 KiB)."
    field: Hot[Size] = Field(default=16 * KIB, ge=64, le=16 * MIB)
    "One header field, name and value; 431 beyond it."
    cookie: Hot[Size] = Field(default=32 * KIB, ge=64, le=16 * MIB)
    "The value of a Cookie field, if larger than field: browsers send in it every cookie of a site."
    head: Hot[Size] = Field(default=64 * KIB, ge=128, le=16 * MIB)
    "The complete head of a request; 431 beyond it."
    fields: Hot[Count] = Field(default=200, ge=1, le=10_000)
    "Header fields in one request; 431 beyond it."
    body: Hot[Size] = Field(default=0, ge=0, le=1024 * GIB)
    "The body of a request; 413 beyond it. 0 = no limit: bodies are streamed, not stored."
    body_rate: Hot[Size] = Field(default=500, ge=0, le=GIB)
    "Lowest rate of a request body, in bytes per second over each timeouts.body (Apache: 500); 0 = no limit."
    in_flight_per_environment: Hot[Count] = Field(default=10_000, ge=1, le=10_000_000)
    "Slots: requests in flight of one environment; 503 beyond it, so that no site takes up the whole edge."
    slots_per_client: Hot[Ratio] = Field(default=0.25, gt=0, le=1)
    "Part of the slots for one client, at least 4, once half of them are taken; 429 beyond it. 1 = no limit."
    connections: Hot[Count] = Field(default=100_000, ge=1, le=10_000_000)
    "Clients connected at once; an idle one costs about 2 KiB. 503 for those beyond it."
    connections_per_client: Hot[Count] = Field(default=10_000, ge=0, le=10_000_000)
    "Of these, from one address (IPv6: /64); trusted proxies are not counted. 503 beyond it. 0 = no limit."
    handshakes: Hot[Count] = Field(default=1000, ge=0, le=10_000_000)
    "TLS handshakes in flight in a worker, and as many that wait for certificates; beyond it old ones end. 0 = any."
    handshakes_per_client: Hot[Ratio] = Field(default=50.0, ge=0, le=1_000_000)
    "Handshakes per second of one client (IPv6: /64), twice as many at once; closed beyond it. 0 = no limit."
    buffers: Hot[Size] = Field(default=256 * MIB, ge=MIB, le=1024 * GIB)
    "Buffers of a worker for slow clients, in all; beyond it, the clients that hold most of them are cut off."
    unknown_hosts_per_client: Hot[Ratio] = Field(default=10.0, ge=0, le=1_000_000)
    "Unknown hostnames per second of one client (IPv6: a /64 to /48), 10 s' worth at once. 0 = any number."
    unknown_hosts: Hot[Ratio] = Field(default=100.0, ge=0, le=1_000_000)
    "Per second, of all clients of a worker that named one within a minute; others have as much again. 0 = any."
    streams: Hot[Count] = Field(default=128, ge=1, le=10_000)
    "Requests in flight on one HTTP/2 connection, for connections that begin from now on (nginx: 128)."
    requests_per_connection: Hot[Count] = Field(default=10_000, ge=1, le=1_000_000_000)
    "Requests on one client connection before it is closed, so that busy clients are redistributed at times."
    response_head: Hot[Size] = Field(default=64 * KIB, ge=KIB, le=16 * MIB)
    "The head of a backend's response; 502 response_too_large beyond it, with its size in the event log."
    response_fields: Hot[Count] = Field(default=200, ge=1, le=10_000)
    "Header fields in one response of a backend; 502 response_too_large beyond it."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        contained = "must not be larger than head, which contains it"
        yield from self.exceeding("head", contained, "request_line", "field", "cookie")
        counted = "must not be more than connections, which counts all clients"
        yield from self.exceeding("connections", counted, "connections_per_client")


class PoolSettings(Section):
    """The pool of idle connections to backends."""

    idle_per_backend: Hot[Count] = Field(default=32, ge=0, le=10_000)
    "Idle connections to one backend; 0 = a new connection for every request."
    idle_total: Hot[Count] = Field(default=4096, ge=0, le=1_000_000)
    "Idle connections to all backends together; each is one open file."
    unacknowledged: Hot[Duration] = Field(default=5.0, ge=0, le=HOUR)
    "How long a request's head may stay unacknowledged by the backend's machine; 0 = the kernel's 15 min."
    idle_timeout: Hot[Duration] = Field(default=30.0, ge=0.001, le=DAY)
    "Longest idle time. Well below 75s, when nginx closes its end: a request sent just then would be lost."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.idle_timeout >= NGINX_KEEPALIVE:
            yield (
                "idle_timeout",
                "must be less than 75s: nginx closes its end at keepalive_timeout 75s",
            )
        counted = "must not be more than idle_total, which counts all backends"
        yield from self.exceeding("idle_total", counted, "idle_per_backend")


class RetrySettings(Section):
    """Retries. Each environment has two retry budgets; a retry takes one token from the budget of its kind."""

    attempts: Hot[Count] = Field(default=5, ge=1, le=30)
    "Backends tried for one request, the first included; 1 = no retry."
    demerited: Hot[Count] = Field(default=3, ge=0, le=30)
    "How many of those may be backends with many demerits, tried after the healthy ones."
    replay_buffer: Hot[Size] = Field(default=64 * KIB, ge=0, le=64 * MIB)
    "Part of a body buffered for retries; once more was read, no retry after the connect (Linkerd: 64 KiB)."
    ask_before_upload: Hot[Asking] = "auto"
    "Whether to send Expect: 100-continue with larger bodies; auto: not for 10m to a backend that ignored it."
    queue_timeout: Hot[Duration] = Field(default=0.25, ge=0, le=MINUTE)
    "How long a request may wait when all backends of a small environment are full; 0 = 503 at once."
    queue_backends: Hot[Count] = Field(default=3, ge=0, le=1000)
    "Environments of at most this many backends are small. As many requests of each may wait."
    boot: Hot[Duration] = Field(default=10.0, ge=0, le=10 * MINUTE)
    "How long a safe request is retried at a starting backend that responds 502 or 503 because it is not ready."
    unprocessed_ratio: Hot[Ratio] = Field(default=1.0, ge=0, le=100)
    "Tokens per request for the budget for requests proved not processed; 0.26-0.44 are used at full load."
    unprocessed_per_second: Hot[Ratio] = Field(default=10.0, ge=0, le=100_000)
    "Tokens per second for this budget, so that an environment with little traffic may retry too."
    unprocessed_cap: Hot[Ratio] = Field(default=100.0, ge=0, le=1_000_000)
    "Most tokens in this budget."
    failed_ratio: Hot[Ratio] = Field(default=0.1, ge=0, le=100)
    "Tokens per request for the budget for safe methods after a failure (Google SRE book: 10 %)."
    failed_per_second: Hot[Ratio] = Field(default=1.0, ge=0, le=100_000)
    "Tokens per second for this budget."
    failed_cap: Hot[Ratio] = Field(default=100.0, ge=0, le=1_000_000)
    "Most tokens in this budget. A container that dies fails all its requests in flight, which may be dozens."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        counted = "must not be more than attempts, which counts all backends tried"
        yield from self.exceeding("attempts", counted, "demerited")


class DemeritSettings(Section):
    """Points against a backend: one point makes it e times (2.7 times) less likely to be picked."""

    half_life: Hot[Duration] = Field(default=10.0, ge=0.1, le=DAY)
    "Time in which points halve (as long as the windows of Finagle, HAProxy and nginx)."
    latency_power: Hot[Ratio] = Field(default=3.0, ge=0, le=20)
    "Weight falls with this power of slowness; at 1 a container 10 x slow still gets 1 % of the requests."
    error_points: Hot[Ratio] = Field(default=6.0, ge=0, le=100)
    "Points of a backend that always fails while the other backends of its environment never do."
    active_request_bias: Hot[Ratio] = Field(default=16.0, ge=0, le=32)
    "Weight falls with this power of 1 + requests in flight: high = the least busy backend, 0 = any."
    refresh: Hot[Duration] = Field(default=0.02, ge=0, le=MINUTE)
    "Shortest time between two computations of an environment's weights (five times it while all are healthy)."
    shadow_probes: Hot[Flag] = True
    "Whether copies of safe requests probe backends on probation; false: single real requests do."
    idle_after: Hot[Duration] = Field(default=300.0, ge=1, le=DAY)
    "A backend idle for this long counts as cold: timeouts.first_byte_cold applies, and others are preferred."
    forget_after: Hot[Duration] = Field(default=600.0, ge=1, le=DAY)
    "After this long without a request, what was learned about an environment is forgotten."
    capacity: Cold[Count] = Field(default=200_000, ge=1, le=10_000_000)
    "Environments in the table; beyond it, the least recently used one is evicted."


class ForwardingSettings(Section):
    """Fields that tell backends about the client, and what is forwarded at all."""

    trusted: Cold[tuple[TrustedNetwork, ...]] = ()
    "Networks of proxies before styx, as [10.0.0.0/8, fd00::/8]: X-Forwarded-* of other clients is replaced."
    via_name: Cold[Token] = Field(default="styx", min_length=1)
    'Name of this proxy in Via, after the version: "1.1 styx".'
    max_via: Cold[Count] = Field(default=3, ge=1, le=100)
    "A request with this many members of this name in Via is in a loop; 508."
    upgrades: Cold[Literal["any", "websocket", "none"]] = "any"
    "Protocols that a client and a backend may switch to: any, websocket or none. Never h2c, HTTP or TLS."
    trace: Cold[Flag] = False
    "Whether TRACE is forwarded, which shows HttpOnly cookies to scripts; 405 if not."
