"""Every setting of styx: its name, type, default, bounds and meaning. Nothing else declares one.

One frozen class is one section of the file; a part of styx is handed its section and nothing more. The text
under a field is its description: `settings_reference.py` makes config/styx.yaml out of it. `settings_file.py`
reads a file into these classes. A setting stands here only if something obeys it.

Bounds exist to catch slips of the pen (a timeout of 60d for 60s), not to forbid unusual machines.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from edge.rules.expect_memory import Asking
from edge.rules.settings_values import (
    FILE,
    Count,
    Duration,
    FilePath,
    Flag,
    Ratio,
    RedisAddress,
    Size,
    SocketAddress,
    Text,
    Token,
    TrustedNetwork,
    WebAddress,
    Workers,
    address,
)
from edge.rules.settings_values import Address as Address

MINUTE, HOUR, DAY = 60, 3600, 86400
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
NGINX_KEEPALIVE = 75
MAX_WORKERS = 128


def contradictory(faults: list[tuple[str, str]]) -> PydanticCustomError:
    """An error about several settings at once: (name, words) of each one that is wrong."""
    words = "; ".join(f"{name} {said}" for name, said in faults)
    return PydanticCustomError("contradictory", "{words}", {"words": words, "faults": faults})


class Section(BaseModel):
    """What all sections have in common: strict, frozen, no unknown names, checked as a whole."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        # `pool:` with every line below it commented out is an empty section, not a mistake.
        return {} if value is None else value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if faults := list(self.contradictions()):
            raise contradictory(faults)
        return self

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Settings, each fine alone, that cannot hold together: the name of one, and why."""
        yield from ()

    def exceeds(self, name: str, bound: "Section", bound_name: str) -> bool:
        """Whether a value that was given is larger than one that bounds it. A default gives way without a word: who
        lowers a bound need not know all that it holds."""
        return name in self.model_fields_set and getattr(self, name) > getattr(bound, bound_name)

    def exceeding(self, *bounds: tuple[str, str, str]) -> Iterator[tuple[str, str]]:
        """Of these names, each with the one that bounds it and what is to be said, those that exceed it."""
        yield from ((name, words) for name, bound, words in bounds if self.exceeds(name, self, bound))


class ListenerSettings(Section):
    """An address on which clients are served; there may be several."""

    address: SocketAddress = Field(examples=["127.0.0.1:8080"])
    "Where to listen: host:port, [::1]:8080, :8080 (every interface), unix:/path, or port 0 for any free one."
    backlog: Count = Field(default=4096, ge=1, le=65535)
    "Connections the kernel holds before styx accepts them; it cuts this down to net.core.somaxconn."
    trusted: tuple[TrustedNetwork, ...] | None = None
    "Networks of proxies before this listener, as [10.0.0.0/8]; null = forwarding.trusted. Unix sockets trust all."
    proxy_protocol: Flag = False
    "Every connection must begin with a PROXY header, v1 or v2, and come from a trusted network; others are closed."


class CoreApiSettings(Section):
    """The platform's core API, which tells where the containers of a hostname are."""

    url: WebAddress = Field(examples=["http://127.0.0.1:9900"])
    "Where the core API is; /v1/routes/HOSTNAME is added. Or file:/etc/styx/routes.yaml: a file takes its place."
    timeout: Duration = Field(default=5.0, ge=0.01, le=MINUTE)
    'How long one question may take before it counts as "could not ask" (as Envoy\'s on-demand discovery).'
    concurrency: Count = Field(default=64, ge=1, le=10_000)
    "Questions in flight at once; more wait, so that a cold edge does not flatten the core API."
    token_file: FilePath = None
    "File with the bearer token for the core API; null = none is sent."
    backend_networks: tuple[TrustedNetwork, ...] | None = None
    "Where backends may be, as [10.0.0.0/8]; null = not link-local, nor on loopback unless the core API is there."
    unix_backends: Flag | None = None
    "Whether the core API may name Unix sockets (unix:/path) as backends; null = if it is on this machine."
    changes: Flag = True
    "Whether to read the core API's stream of changes (/v1/changes): moved containers are known at once."

    @property
    def file(self) -> str | None:
        """The file of routes that takes the place of a core API."""
        return self.url.removeprefix(FILE) if self.url.startswith(FILE) else None

    @property
    def is_local(self) -> bool:
        """Whether the core API is on this machine: a file, or an address on loopback."""
        return self.file is not None or Address(urlsplit(self.url).hostname or "", 0).is_local

    @property
    def allows_unix_backends(self) -> bool:
        """What `unix_backends` comes to."""
        return self.is_local if self.unix_backends is None else self.unix_backends


class RouteSettings(Section):
    """The cache of routes. Cache-Control in an answer of the core API goes before the times given here."""

    capacity: Count = Field(default=100_000, ge=1, le=10_000_000)
    "Hostnames remembered; beyond it the least recently used one is forgotten."
    ready: Count = Field(default=50_000, ge=1, le=10_000_000)
    "Of these, so many are kept ready in each worker, 6 KiB each; the others compact (0.7 KiB) until asked for."
    negative_capacity: Count = Field(default=50_000, ge=1, le=10_000_000)
    "Unknown hostnames remembered, apart from the real ones, which a scan of made-up names must not push out."
    max_age: Duration = Field(default=60.0, ge=0, le=DAY)
    "How long a route is used without asking again."
    negative_max_age: Duration = Field(default=10.0, ge=0, le=HOUR)
    'How long "no such hostname" is believed; short, because a new site is tried at once.'
    stale_while_revalidate: Duration = Field(default=600.0, ge=0, le=30 * DAY)
    "How long after max_age a route is still used at once, while it is asked for again in the background."
    stale_if_error: Duration = Field(default=1.0 * DAY, ge=0, le=30 * DAY)
    "How long after max_age a route is still used when the core API cannot be asked."
    per_environment: Count = Field(default=1000, ge=1, le=10_000_000)
    "Hostnames remembered of one environment, which may have a wildcard; beyond it its own oldest is forgotten."
    removal_hold: Duration = Field(default=30.0, ge=0, le=HOUR)
    "How long it must be said that hostnames are gone, or have no backends, where that is not sure to be meant."
    regression_after: Duration = Field(default=60.0, ge=0, le=DAY)
    "How long the core API must answer with a lower generation than the known one before it is believed."
    directory: str = ""
    "Where routes are kept on disk for the next start; empty = systemd's state directory, else only until the end."
    jitter: Ratio = Field(default=0.2, ge=0, le=0.5)
    "Largest part of max_age by which a route is kept shorter, at random: learned together, asked for apart."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        yield from self.exceeding(
            ("ready", "capacity", "must not be more than capacity, which counts all hostnames"),
            (
                "stale_while_revalidate",
                "stale_if_error",
                "must not be longer than stale_if_error: a route is not used for longer when all is well",
            ),
            ("per_environment", "capacity", "must not be more than capacity, which counts all hostnames"),
        )


class SharedSettings(Section):
    """Routes and changes that several edges share, in Redis or Valkey. A help and no condition; off by default."""

    url: RedisAddress = None
    "redis://HOST:PORT/DB, rediss:// (TLS) or unix:///PATH; null = off. Needs `pip install styx-edge[redis]`."
    prefix: Token = "styx"
    "How the names of all keys begin: edges with the same one share."
    password_file: FilePath = None
    "File with the password; null = there is none."
    timeout: Duration = Field(default=0.1, ge=0.001, le=10)
    "How long a question to it may take; then the core API is asked. Three in a row: it is left alone for a while."


class TimeoutSettings(Section):
    """How long each phase of a request may take."""

    head: Duration = Field(default=10.0, ge=0.001, le=HOUR)
    "For a client to send the whole head of a request, from its first byte; 408 after it."
    body: Duration = Field(default=20.0, ge=0.001, le=HOUR)
    "In each such time a client must send as much of its body as limits.body_rate asks; else 408 (Apache: 20 s)."
    keep_alive: Duration = Field(default=75.0, ge=0.001, le=DAY)
    "How long a client's connection may stay idle between requests (nginx: 75 s)."
    write_stall: Duration = Field(default=60.0, ge=0.001, le=HOUR)
    "How long a client may take no byte of an answer that waits for it."
    unacknowledged: Duration = Field(default=60.0, ge=0, le=HOUR)
    "How long a client may acknowledge neither bytes nor keep-alive probes before it counts as gone; 0 = for ever."
    connect: Duration = Field(default=0.25, ge=0.001, le=MINUTE)
    "For one try to connect to a backend while there are others; within a site it takes a millisecond."
    connect_alone: Duration = Field(default=1.5, ge=0.001, le=MINUTE)
    "The same when no other is left, if longer: after 1 s the kernel sends a lost SYN again."
    connect_total: Duration = Field(default=5.0, ge=0.001, le=10 * MINUTE)
    "For all tries to connect of one request together (Heroku's router: 5 s)."
    first_byte: Duration = Field(default=60.0, ge=0.001, le=DAY)
    "From the request sent to the first byte of a backend's answer (Pantheon: 59 s)."
    first_byte_cold: Duration = Field(default=60.0, ge=0.001, le=DAY)
    "The same for a backend that was asleep: the request starts the container, which may take 30 s and more."
    between_bytes: Duration = Field(default=60.0, ge=0.001, le=DAY)
    "Silence of a backend within an answer (Pantheon: 59 s, Heroku: 55 s)."
    tunnel: Duration = Field(default=1.0 * HOUR, ge=0.001, le=7 * DAY)
    "Silence of both sides of a tunnel, such as a WebSocket, after which it is closed (HAProxy: timeout tunnel)."
    deadline: Duration = Field(default=120.0, ge=0.001, le=DAY)
    "For all attempts of one request together, until the first byte of an answer."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        yield from self.exceeding(
            ("connect", "connect_total", "must not be longer than connect_total, which holds all tries"),
            ("connect_alone", "connect_total", "must not be longer than connect_total, which holds all tries"),
            ("connect_total", "deadline", "must not be longer than deadline, which holds all attempts"),
            ("first_byte", "deadline", "must not be longer than deadline, which holds all attempts"),
            ("first_byte_cold", "deadline", "must not be longer than deadline, which holds all attempts"),
        )


class LimitSettings(Section):
    """What a client, or an answer, may be at most."""

    request_line: Size = Field(default=8 * KIB, ge=64, le=MIB)
    "Method, target and version together; 414 beyond it (nginx and Heroku: 8 KiB)."
    field: Size = Field(default=16 * KIB, ge=64, le=16 * MIB)
    "One header field, name and value; 431 beyond it."
    cookie: Size = Field(default=32 * KIB, ge=64, le=16 * MIB)
    "The value of a Cookie field, if larger than field: browsers send in it all that a site ever set."
    head: Size = Field(default=64 * KIB, ge=128, le=16 * MIB)
    "The whole head of a request; 431 beyond it."
    fields: Count = Field(default=200, ge=1, le=10_000)
    "Header fields in one request; 431 beyond it."
    body: Size = Field(default=0, ge=0, le=1024 * GIB)
    "The body of a request; 413 beyond it. 0 = no limit: bodies are passed on, not stored."
    body_rate: Size = Field(default=500, ge=0, le=GIB)
    "Bytes a second of a body that a client must send over each timeouts.body (Apache: 500); 0 = any at all."
    in_flight_per_environment: Count = Field(default=10_000, ge=1, le=10_000_000)
    "Requests of one environment in hand at once; 503 beyond it, so that no site can take up the whole edge."
    slots_per_client: Ratio = Field(default=0.25, gt=0, le=1)
    "Part of these that one client may have, 4 at least, while half of them are taken; 429 beyond it. 1 = all."
    connections: Count = Field(default=100_000, ge=1, le=10_000_000)
    "Clients connected at once; an idle one costs about 2 KiB. 503 for those beyond it."
    connections_per_client: Count = Field(default=10_000, ge=0, le=10_000_000)
    "Of these, from one address (IPv6: from one /64); trusted proxies are not counted. 503 beyond it. 0 = no limit."
    buffers: Size = Field(default=256 * MIB, ge=MIB, le=1024 * GIB)
    "What a worker keeps for clients that read or send slowly; beyond it those that hold most are cut off."
    unknown_hosts_per_client: Ratio = Field(default=10.0, ge=0, le=1_000_000)
    "Unknown hostnames that one client (IPv6: a /64 to /48) may name each second, 10 s' worth at once. 0 = any."
    unknown_hosts: Ratio = Field(default=100.0, ge=0, le=1_000_000)
    "The same for all clients of a worker that named one within a minute; the others have as much again. 0 = any."
    requests_per_connection: Count = Field(default=10_000, ge=1, le=1_000_000_000)
    "Requests on one client connection before it is closed, so that busy clients are spread anew at times."
    answer_head: Size = Field(default=64 * KIB, ge=KIB, le=16 * MIB)
    "The whole head of a backend's response; 502 response_too_large beyond it, with its size in the event log."
    response_fields: Count = Field(default=200, ge=1, le=10_000)
    "Header fields in one response of a backend; 502 response_too_large beyond it."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        yield from self.exceeding(
            ("request_line", "head", "must not be larger than head, which contains it"),
            ("field", "head", "must not be larger than head, which contains it"),
            ("cookie", "head", "must not be larger than head, which contains it"),
            (
                "connections_per_client",
                "connections",
                "must not be more than connections, which counts all clients",
            ),
        )


class PoolSettings(Section):
    """Idle connections to backends, kept for the next request."""

    idle_per_backend: Count = Field(default=32, ge=0, le=10_000)
    "Idle connections kept for one backend; 0 = a new connection for every request."
    idle_total: Count = Field(default=4096, ge=0, le=1_000_000)
    "Idle connections kept for all backends together; each is one open file."
    unacknowledged: Duration = Field(default=5.0, ge=0, le=HOUR)
    "How long a request's head may stay unacknowledged by the backend's machine; 0 = 15 min, as the kernel likes."
    idle_timeout: Duration = Field(default=30.0, ge=0.001, le=DAY)
    "How long one is kept. Well below 75s, when nginx closes its end: a request sent just then would be lost."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.idle_timeout >= NGINX_KEEPALIVE:
            yield (
                "idle_timeout",
                "must be less than 75s: nginx closes its end at keepalive_timeout 75s",
            )
        yield from self.exceeding(
            ("idle_per_backend", "idle_total", "must not be more than idle_total, which counts all backends")
        )


class RetrySettings(Section):
    """Trying other backends. Each environment has two budgets; a retry takes one from that of its kind."""

    attempts: Count = Field(default=5, ge=1, le=30)
    "Backends tried for one request, the first included; 1 = no retry."
    demerited: Count = Field(default=3, ge=0, le=30)
    "How many of those may be badly demerited ones, tried after the healthy ones (Pantheon: 3)."
    replay_buffer: Size = Field(default=64 * KIB, ge=0, le=64 * MIB)
    "Part of a body kept to send it again; once more was read, no retry after the connect (Linkerd: 64 KiB)."
    ask_before_upload: Asking = "auto"
    "Whether to ask backends for larger bodies (Expect: 100-continue); auto: not for 10m where that was ignored."
    wait: Duration = Field(default=0.25, ge=0, le=MINUTE)
    "How long a request may wait when all backends of a small environment are full; 0 = refuse it at once."
    wait_backends: Count = Field(default=3, ge=0, le=1000)
    "Environments of at most so many backends are small. As many requests of each may wait."
    boot: Duration = Field(default=10.0, ge=0, le=10 * MINUTE)
    "How long a safe request is repeated to a starting backend that says 502 or 503 because it is not ready."
    unprocessed_ratio: Ratio = Field(default=1.0, ge=0, le=100)
    "Added per request to the budget for requests proved not processed; 0.26-0.44 are used at full load."
    unprocessed_per_second: Ratio = Field(default=10.0, ge=0, le=100_000)
    "Added to it each second, so that an environment with little traffic may retry too."
    unprocessed_cap: Ratio = Field(default=100.0, ge=0, le=1_000_000)
    "What it holds at most."
    failed_ratio: Ratio = Field(default=0.1, ge=0, le=100)
    "Added per request to the budget for safe methods after a failure (Google SRE book: 10 %)."
    failed_per_second: Ratio = Field(default=1.0, ge=0, le=100_000)
    "Added to it each second."
    failed_cap: Ratio = Field(default=100.0, ge=0, le=1_000_000)
    "What it holds at most. A container that dies takes along what it has in hand, which may be dozens."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        yield from self.exceeding(
            ("demerited", "attempts", "must not be more than attempts, which counts all backends tried")
        )


class DemeritSettings(Section):
    """Points against a backend: one point makes it e times (2.7 times) less likely to be picked."""

    half_life: Duration = Field(default=10.0, ge=0.1, le=DAY)
    "Time in which points halve (as long as Finagle, HAProxy and nginx look back)."
    latency_power: Ratio = Field(default=3.0, ge=0, le=20)
    "Weight falls with this power of slowness; at 1 a container 10 x slow still gets 1 % of the requests."
    error_points: Ratio = Field(default=6.0, ge=0, le=100)
    "Points of a backend that always fails while its siblings never do."
    crowd_power: Ratio = Field(default=16.0, ge=0, le=32)
    "Weight falls with this power of 1 + requests in flight: high = the least busy backend, 0 = any."
    refresh: Duration = Field(default=0.02, ge=0, le=MINUTE)
    "Weights of an environment are worked out anew at most this often (a fifth as often while all are well)."
    copies: Flag = True
    "Whether copies of safe requests probe backends on probation; false: single real ones, answers shown."
    idle_after: Duration = Field(default=300.0, ge=1, le=DAY)
    "A backend silent for this long may sleep: patience for its first answer, and others go before it."
    forget_after: Duration = Field(default=600.0, ge=1, le=DAY)
    "After so long without a request, what was learned about an environment is forgotten (Pantheon: 10 min)."
    capacity: Count = Field(default=200_000, ge=1, le=10_000_000)
    "Environments remembered; beyond it the least recently used one is forgotten."


class ForwardingSettings(Section):
    """What is told to backends about the client."""

    trusted: tuple[TrustedNetwork, ...] = ()
    "Networks of proxies before styx, as [10.0.0.0/8, fd00::/8]: X-Forwarded-* of anybody else is replaced."
    via_name: Token = Field(default="styx", min_length=1)
    'Name of this proxy in Via, after the version: "1.1 styx".'
    max_via: Count = Field(default=3, ge=1, le=100)
    "A request that passed proxies of this name so many times already goes in a circle; 508."
    upgrades: Literal["any", "websocket", "none"] = "any"
    "Protocols that a client and a backend may switch to: any, websocket or none. Never h2c, HTTP or TLS."
    trace: Flag = False
    "Whether TRACE is passed on; it shows a page the cookies that scripts may not see. 405 if not."


class AdminSettings(Section):
    """The admin API: health, metrics, and commands such as reload and drain."""

    address: SocketAddress = Address("127.0.0.1", 9901)
    "Where the admin API listens. Anything but loopback or a Unix socket needs token_file."
    socket: Text = ""
    "Unix socket over which root and who starts styx may act without a token; empty = in /run/styx or the like."
    token_file: FilePath = None
    "File with the bearer token with which one may act from anywhere; null = no token."

    @property
    def socket_address(self) -> Address | None:
        """Of `socket`, if it is set."""
        return Address(path=self.socket) if self.socket else None

    def contradictions(self) -> Iterator[tuple[str, str]]:
        try:
            _ = self.socket and address(f"unix:{self.socket}")
        except ValueError as error:
            yield "socket", str(error).removesuffix(" after unix:")
        if not self.address.is_local and self.token_file is None:
            yield (
                "address",
                "is open to other machines: set admin.token_file, or use 127.0.0.1",
            )


class AccessLogSettings(Section):
    """One line for every request."""

    path: Text = "-"
    'File to append to; "-" = standard output, "" = none; syslog:/dev/log or syslog:127.0.0.1:514 = syslog.'
    format: Literal["json", "logfmt", "combined"] = "json"
    "json = one object a line, logfmt = name=value, combined = as Apache and nginx write it."
    facility: Literal[
        "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7", "user", "daemon"
    ] = "local7"
    "For syslog (nginx: local7); the severity is info, the tag styx."
    buffer: Size = Field(default=MIB, ge=256 * KIB, le=GIB)
    "Lines that may wait in memory while the file or its reader is slow; more are dropped, and counted."
    flush_interval: Duration = Field(default=1.0, ge=0.001, le=HOUR)
    "Longest time for which a line is held."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.path.startswith("syslog:") and self.syslog is None:
            yield "path", "names no syslog: write syslog:/dev/log or syslog:HOST:PORT"

    @property
    def syslog(self) -> Address | None:
        """Where the syslog daemon listens, if that is where the lines go."""
        scheme, _, where = self.path.partition(":")
        try:
            return address(f"unix:{where}" if where.startswith("/") else where) if scheme == "syslog" else None
        except ValueError:
            return None


class LogSettings(Section):
    """What styx says about itself, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    "The least serious level that is written: debug, info, warning or error; libraries speak from warning on."
    format: Literal["json", "console"] = "json"
    "json = one object a line, console = for reading in a terminal."


class DrainSettings(Section):
    """How styx goes when it is told to stop, and how the workers go that a reload or an upgrade replaces."""

    delay: Duration = Field(default=5.0, ge=0, le=HOUR)
    "After SIGTERM: not ready, but still accepting, until the load balancers before styx have noticed."
    timeout: Duration = Field(default=30.0, ge=0, le=DAY)
    "Then, for requests in hand, long transfers and tunnels; what is left gets 503 edge_stopped, or is cut off."
    idle: Duration = Field(default=1.0, ge=0, le=HOUR)
    "A kept connection that is silent for this long is closed meanwhile; one that asks once more gets its answer."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        yield from self.exceeding(
            ("idle", "timeout", "must not be longer than timeout, after which all connections are cut off")
        )


def _distinct(listeners: tuple[ListenerSettings, ...]) -> tuple[ListenerSettings, ...]:
    first: dict[Address, int] = {}
    faults = []
    for index, listener in enumerate(listeners):
        earlier = first.setdefault(listener.address, index)
        # Port 0 is another free port each time.
        if earlier != index and (listener.address.port or listener.address.path):
            faults.append((f"{index}.address", f"{listener.address} is already the address of listeners.{earlier}"))
    if faults:
        raise contradictory(faults)
    return listeners


class Settings(Section):
    """Everything. Only `listeners` and `core_api` have no default."""

    listeners: Annotated[tuple[ListenerSettings, ...], Field(min_length=1), AfterValidator(_distinct)]
    workers: Workers = Field(default=0, le=MAX_WORKERS)
    "Processes that serve requests; auto = one for each core that styx may use."
    watchdog: Duration = Field(default=10.0, ge=0.5, le=HOUR)
    "A worker or admin process whose loop has stood still for this long is dumped, killed and replaced."
    user: Text = ""
    'User that workers and the admin process become when styx is started as root; "" = they stay root.'
    edge_name: Token = ""
    'Name of this machine in X-Styx-Edge; "" = its host name.'
    core_api: CoreApiSettings
    routes: RouteSettings = RouteSettings()
    shared: SharedSettings = SharedSettings()
    timeouts: TimeoutSettings = TimeoutSettings()
    limits: LimitSettings = LimitSettings()
    pool: PoolSettings = PoolSettings()
    retries: RetrySettings = RetrySettings()
    demerits: DemeritSettings = DemeritSettings()
    forwarding: ForwardingSettings = ForwardingSettings()
    admin: AdminSettings = AdminSettings()
    access_log: AccessLogSettings = AccessLogSettings()
    log: LogSettings = LogSettings()
    drain: DrainSettings = DrainSettings()

    def contradictions(self) -> Iterator[tuple[str, str]]:
        for name in ("wait", "boot"):
            if self.retries.exceeds(name, self.timeouts, "deadline"):
                yield f"retries.{name}", "must not be longer than timeouts.deadline, which holds all attempts"
        shared = [n for n, listener in enumerate(self.listeners) if listener.address == self.admin.address]
        if shared and (self.admin.address.port or self.admin.address.path):
            yield "admin.address", f"{self.admin.address} is already the address of listeners.{shared[0]}"
        if self.admin.socket_address in {self.admin.address, *(listener.address for listener in self.listeners)}:
            yield "admin.socket", f"{self.admin.socket} is already another address"
        for n, listener in enumerate(self.listeners):
            trusted = self.forwarding.trusted if listener.trusted is None else listener.trusted
            if listener.proxy_protocol and not trusted and not listener.address.path:
                yield f"listeners.{n}.proxy_protocol", "nobody may connect: name the proxies' networks in trusted"


def section_of(annotation: object) -> type[Section] | None:
    """The section a field holds, by itself or as a tuple of them; None for a plain value."""
    inner = [annotation, *get_args(annotation)]
    return next((kind for kind in inner if isinstance(kind, type) and issubclass(kind, Section)), None)
