"""Settings of routes: where they are looked up, and how long they are cached."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from pydantic import Field

from edge.rules.settings.section import DAY, HOUR, MINUTE, Cold, Hot, Section
from edge.rules.settings.tls import IdentitySettings
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
    source_label,
)


class CoreApiSettings(Section):
    """The platform's core API, which knows the backends of each hostname."""

    url: Hot[WebAddress] = Field(examples=["http://127.0.0.1:9900"])
    "URL of the core API; /v1/routes/HOSTNAME is added. Or file:/etc/styx/routes.yaml: a file takes its place."
    timeout: Hot[Duration] = Field(default=5.0, ge=0.01, le=MINUTE)
    "How long one lookup may take before it counts as failed (as in Envoy's on-demand discovery)."
    concurrency: Hot[Count] = Field(default=64, ge=1, le=10_000)
    "Lookups in flight at once; more wait, so that an edge with an empty cache does not overload the core API."
    token_file: Hot[FilePath] = None
    "File with the bearer token for the core API; null = none is sent."
    backend_networks: Hot[tuple[TrustedNetwork, ...] | None] = None
    "Networks of backends, as [10.0.0.0/8]; null = all but link-local, loopback only if the core API is there."
    unix_backends: Hot[Flag | None] = None
    "Whether backends may be Unix sockets (unix:/path); null = only if the core API is on this machine."
    changes: Hot[Flag] = True
    "Whether to read the core API's stream of changes (/v1/changes): moved containers are known at once."
    tls: IdentitySettings = IdentitySettings()

    @property
    def is_pushed(self) -> bool:
        """Whether the source pushes all its routes, as a file does, instead of being asked for each hostname."""
        return self.source in SOURCE_URLS

    @property
    def source(self) -> str:
        """The scheme of the URL: http, https, or the name of a source that is pushed, such as file."""
        return self.url.partition(":")[0]

    @property
    def source_label(self) -> str:
        """The name of the source in explanations."""
        return source_label(self.source)

    @property
    def location(self) -> str:
        """The rest of the URL after `source:`, such as the path of a file."""
        return self.url.partition(":")[2]

    @property
    def is_local(self) -> bool:
        """Whether the core API is on this machine: a source that is pushed, or an address on loopback."""
        return self.is_pushed or Address(urlsplit(self.url).hostname or "", 0).is_local

    @property
    def may_send_keys(self) -> bool:
        """Whether private keys may be fetched from it: it is on this machine, or both sides identify themselves."""
        return self.is_local or (self.source == "https" and self.tls.certificate is not None)

    @property
    def allows_unix_backends(self) -> bool:
        """The effective value of `unix_backends`."""
        return self.is_local if self.unix_backends is None else self.unix_backends


class RouteSettings(Section):
    """The cache of routes. Cache-Control in a response of the core API overrides the times given here."""

    capacity: Cold[Count] = Field(default=100_000, ge=1, le=10_000_000)
    "Hostnames in the cache; beyond it, the least recently used one is evicted."
    ready: Cold[Count] = Field(default=50_000, ge=1, le=10_000_000)
    "Of these, routes ready to use in each worker, 6 KiB each; the others are compact (0.7 KiB) until needed."
    unknown_host_capacity: Cold[Count] = Field(default=50_000, ge=1, le=10_000_000)
    "Unknown hostnames in a cache of their own, so that a scan of made-up names does not evict real ones."
    max_age: Hot[Duration] = Field(default=60.0, ge=0, le=DAY)
    "How long a route is fresh: used without another lookup."
    unknown_host_max_age: Hot[Duration] = Field(default=10.0, ge=0, le=HOUR)
    'How long "no such hostname" is cached; short, because a new site is tried at once.'
    stale_while_revalidate: Hot[Duration] = Field(default=600.0, ge=0, le=30 * DAY)
    "How long after max_age a route is still used at once, while it is looked up again in the background."
    stale_if_error: Hot[Duration] = Field(default=1.0 * DAY, ge=0, le=30 * DAY)
    "How long after max_age a route is still used when lookups fail."
    per_environment: Hot[Count] = Field(default=1000, ge=1, le=10_000_000)
    "Cached hostnames of one environment, which may have a wildcard; beyond it, its own oldest one is evicted."
    removal_hold: Hot[Duration] = Field(default=30.0, ge=0, le=HOUR)
    "How long a doubtful removal of hostnames, or of all their backends, must last before it is accepted."
    regression_after: Hot[Duration] = Field(default=60.0, ge=0, le=DAY)
    "How long the core API must send a generation lower than the known one before it is accepted."
    directory: Cold[str] = ""
    "Directory of the routes saved for the next start; empty = systemd's state directory, else a temporary one."
    jitter: Hot[Ratio] = Field(default=0.2, ge=0, le=0.5)
    "Largest part of max_age by which it is shortened at random, to spread lookups of routes learned together."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        counted = "must not be more than capacity, which counts all hostnames"
        yield from self.exceeding("capacity", counted, "ready", "per_environment")
        words = "must not be longer than stale_if_error: a route is not used for longer when all is well"
        yield from self.exceeding("stale_if_error", words, "stale_while_revalidate")


class RedisSettings(Section):
    """Routes and changes shared by several edges in Redis or Valkey. Optional: styx works without it."""

    url: Cold[RedisAddress] = None
    "redis://HOST:PORT/DB, rediss:// (TLS) or unix:///PATH; null = off. Needs `pip install styx-edge[redis]`."
    prefix: Cold[Token] = "styx"
    "Prefix of all keys: edges with the same prefix share."
    password_file: Cold[FilePath] = None
    "File with the password; null = there is none."
    timeout: Cold[Duration] = Field(default=0.1, ge=0.001, le=10)
    "Timeout of one request; then the core API is asked. After three in a row, Redis is not used for a while."
