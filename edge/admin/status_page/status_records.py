"""Records of the status page: the events of `GET /v1/status/stream`. Without logic."""

from collections.abc import Sequence

import msgspec

from edge.rules.environment_status_records import EnvironmentStatus, RecentEvent
from edge.rules.traffic.top_records import Top


class ServedNow(msgspec.Struct, frozen=True):
    """The traffic of the edge now: rates per second of the last second, latencies of the last ten."""

    requests: float = 0.0
    by_blame: dict[str, float] = {}
    "Requests per second, by who ended them; `nobody` = they succeeded."
    p50: float | None = None
    "Milliseconds within which half of the requests were finished; null = there was none."
    p95: float | None = None
    p99: float | None = None
    retries: float = 0.0
    refusals: float = 0.0
    bytes_in: float = 0.0
    bytes_out: float = 0.0
    in_flight: float = 0.0
    connections: float = 0.0
    "Connections of clients."


class RoutesNow(msgspec.Struct, frozen=True):
    """The routes that the workers know."""

    known: float = 0.0
    ready: float = 0.0
    unknown_hosts: float = 0.0
    environments: float = 0.0
    hit_ratio: float = 0.0
    "Part of the requests of the last ten seconds whose route was cached."
    not_accepted: float = 0.0
    "Responses of the core API that were not accepted, since the start."


class SourceNow(msgspec.Struct, frozen=True):
    """Where routes come from: the core API, or a file of routes."""

    kind: str
    "`core API` or `file`"
    up: bool = True
    lookups: float = 0.0
    "Lookups per second."
    failures: float = 0.0
    "Failed lookups per second."
    p50: float | None = None
    "Median time of a lookup, milliseconds."
    changes_up: bool = False
    changes_silence: float | None = None
    "Seconds since the stream of changes last sent anything; null = never."
    hostnames: int = 0
    "Hostnames in the file."
    held_back: int = 0
    problem: str = ""
    "Why the file cannot be used; empty = it can."


class WorkerNow(msgspec.Struct, frozen=True):
    """One worker process."""

    slot: int
    pid: int
    heard: float
    "Seconds since its last heartbeat; there are four each second."
    lag_ms: float
    in_flight: float
    connections: float
    leaving: bool
    "Another process has taken over its slot; this one finishes its requests."


class ListenerNow(msgspec.Struct, frozen=True):
    """One listener of the edge."""

    address: str
    queue: float
    "Connections that wait to be accepted."
    connections: float = 0.0
    "Connections of clients that are open."


class CertificateNow(msgspec.Struct, frozen=True):
    """One certificate of the edge."""

    name: str
    days_left: float
    more_names: int = 0
    source: str = ""
    last_error: str | None = None
    "Why it could not be renewed; null = nothing is wrong."


class DrainNow(msgspec.Struct, frozen=True):
    """One drain by an operator."""

    kind: str
    name: str
    seconds: float
    until: float
    by: str


class EnvironmentsNow(msgspec.Struct, frozen=True):
    """The environments, of which only some are shown: those in trouble, and the busiest."""

    total: int
    in_trouble: int
    shown: Sequence[EnvironmentStatus]
    top: Top | None = None
    "The first ones of `/v1/top`, some seconds old; null = not known."


class Snapshot(msgspec.Struct, frozen=True):
    """The state of the edge at one moment, as the page shows it."""

    at: float
    "Seconds since the epoch."
    version: str
    edge: str
    stage: str
    reason: str
    now: ServedNow
    routes: RoutesNow
    source: SourceNow
    workers: Sequence[WorkerNow]
    listeners: Sequence[ListenerNow]
    drains: Sequence[DrainNow]
    certificates: Sequence[CertificateNow]
    environments: EnvironmentsNow
    events: Sequence[RecentEvent]


class Rights(msgspec.Struct, frozen=True):
    """The response of `/v1/rights`: what the caller may do."""

    may_act: bool
