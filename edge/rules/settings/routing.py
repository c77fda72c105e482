"""Settings of routes: where they are asked for, and how long they are kept."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from pydantic import Field

from edge.rules.settings.section import DAY, HOUR, MINUTE, Cold, Hot, Section
from edge.rules.settings.values import (
    SOURCE_URLS,
    Address,
    Count,
    Duration,
    FilePath,
    Flag,
    Ratio,
    RedisAddress,
    Token,
    TrustedNetwork,
    WebAddress,
)


class CoreApiSettings(Section):
    """The platform's core API, which tells where the containers of a hostname are."""

    url: Hot[WebAddress] = Field(examples=["http://127.0.0.1:9900"])
    "Where the core API is; /v1/routes/HOSTNAME is added. Or file:/etc/styx/routes.yaml: a file takes its place."
    timeout: Hot[Duration] = Field(default=5.0, ge=0.01, le=MINUTE)
    'How long one question may take before it counts as "could not ask" (as Envoy\'s on-demand discovery).'
    concurrency: Hot[Count] = Field(default=64, ge=1, le=10_000)
    "Questions in flight at once; more wait, so that a cold edge does not flatten the core API."
    token_file: Hot[FilePath] = None
    "File with the bearer token for the core API; null = none is sent."
    backend_networks: Hot[tuple[TrustedNetwork, ...] | None] = None
    "Where backends may be, as [10.0.0.0/8]; null = not link-local, nor on loopback unless the core API is there."
    unix_backends: Hot[Flag | None] = None
    "Whether the core API may name Unix sockets (unix:/path) as backends; null = if it is on this machine."
    changes: Hot[Flag] = True
    "Whether to read the core API's stream of changes (/v1/changes): moved containers are known at once."

    @property
    def is_pushed(self) -> bool:
        """Whether routes come from a source that says by itself which there are, such as a file."""
        return self.source in SOURCE_URLS

    @property
    def source(self) -> str:
        """How the URL begins: http, https, or the name of a source that is pushed, such as file."""
        return self.url.partition(":")[0]

    @property
    def location(self) -> str:
        """What follows `source`, such as the path of a file."""
        return self.url.partition(":")[2]

    @property
    def is_local(self) -> bool:
        """Whether the core API is on this machine: a source that is pushed, or an address on loopback."""
        return self.is_pushed or Address(urlsplit(self.url).hostname or "", 0).is_local

    @property
    def allows_unix_backends(self) -> bool:
        """What `unix_backends` comes to."""
        return self.is_local if self.unix_backends is None else self.unix_backends


class RouteSettings(Section):
    """The cache of routes. Cache-Control in an answer of the core API goes before the times given here."""

    capacity: Cold[Count] = Field(default=100_000, ge=1, le=10_000_000)
    "Hostnames remembered; beyond it the least recently used one is forgotten."
    ready: Cold[Count] = Field(default=50_000, ge=1, le=10_000_000)
    "Of these, so many are kept ready in each worker, 6 KiB each; the others compact (0.7 KiB) until asked for."
    unknown_host_capacity: Cold[Count] = Field(default=50_000, ge=1, le=10_000_000)
    "Unknown hostnames remembered, apart from the real ones, which a scan of made-up names must not push out."
    max_age: Hot[Duration] = Field(default=60.0, ge=0, le=DAY)
    "How long a route is used without asking again."
    unknown_host_max_age: Hot[Duration] = Field(default=10.0, ge=0, le=HOUR)
    'How long "no such hostname" is believed; short, because a new site is tried at once.'
    stale_while_revalidate: Hot[Duration] = Field(default=600.0, ge=0, le=30 * DAY)
    "How long after max_age a route is still used at once, while it is asked for again in the background."
    stale_if_error: Hot[Duration] = Field(default=1.0 * DAY, ge=0, le=30 * DAY)
    "How long after max_age a route is still used when the core API cannot be asked."
    per_environment: Hot[Count] = Field(default=1000, ge=1, le=10_000_000)
    "Hostnames remembered of one environment, which may have a wildcard; beyond it its own oldest is forgotten."
    removal_hold: Hot[Duration] = Field(default=30.0, ge=0, le=HOUR)
    "How long it must be said that hostnames are gone, or have no backends, where that is not sure to be meant."
    regression_after: Hot[Duration] = Field(default=60.0, ge=0, le=DAY)
    "How long the core API must answer with a lower generation than the known one before it is believed."
    directory: Cold[str] = ""
    "Where routes are kept on disk for the next start; empty = systemd's state directory, else only until the end."
    jitter: Hot[Ratio] = Field(default=0.2, ge=0, le=0.5)
    "Largest part of max_age by which a route is kept shorter, at random: learned together, asked for apart."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        counted = "must not be more than capacity, which counts all hostnames"
        yield from self.exceeding("capacity", counted, "ready", "per_environment")
        words = "must not be longer than stale_if_error: a route is not used for longer when all is well"
        yield from self.exceeding("stale_if_error", words, "stale_while_revalidate")


class RedisSettings(Section):
    """Routes and changes that several edges share, in Redis or Valkey. A help and no condition; off by default."""

    url: Cold[RedisAddress] = None
    "redis://HOST:PORT/DB, rediss:// (TLS) or unix:///PATH; null = off. Needs `pip install styx-edge[redis]`."
    prefix: Cold[Token] = "styx"
    "How the names of all keys begin: edges with the same one share."
    password_file: Cold[FilePath] = None
    "File with the password; null = there is none."
    timeout: Cold[Duration] = Field(default=0.1, ge=0.001, le=10)
    "How long a question to it may take; then the core API is asked. Three in a row: it is left alone for a while."
