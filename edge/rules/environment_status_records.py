"""Records for the status page: what a worker reports about the environments that are shown. Without logic."""

import msgspec


class FailureCount(msgspec.Struct, frozen=True):
    """Failed attempts of one cause at one backend."""

    cause: str
    count: int
    "Since the worker first saw the backend."
    age: float
    "Seconds since the last one."


class ContainerStatus(msgspec.Struct, frozen=True):
    """One backend of an environment, as one worker sees it."""

    id: str
    address: str
    server: str
    role: str
    condition: str
    "healthy, recovering, probation, silent, cold, down, draining or drained"
    why: str
    "A few words: why it is in this condition, or its demerit."
    share: float
    "Its share of the weights, 0 to 1: of the requests, if none were in flight."
    points: float
    "Demerits; one costs a factor e of its share."
    in_flight: int
    typical_ms: float | None
    "Geometric mean of its times to first byte."
    error_ratio: float
    rests_for: float
    "Seconds for which it gets no requests."
    next_probe: float | None
    "Seconds until a shadow probe or a connect check; null = none is due."
    failures: list[FailureCount]


class EnvironmentStatus(msgspec.Struct, frozen=True):
    """One environment, as one worker sees it."""

    site: str
    environment: str
    hostname: str
    "One of its hostnames."
    hostnames: int
    rate: float
    "Requests per second."
    in_flight: int
    queued: int
    "Requests that wait for a slot."
    panicking: bool
    maintenance: bool
    redirect: str | None
    drained: bool
    "Whether an operator's drains leave it without a backend."
    in_trouble: bool
    containers: list[ContainerStatus]


class RecentEvent(msgspec.Struct, frozen=True):
    """One line of the event log."""

    at: float
    "Seconds since the epoch."
    level: str
    by: str
    "The process that logged it."
    text: str
    code: str
    fields: str
    "Further fields, as `name=value`."


class CertificateStatus(msgspec.Struct, frozen=True):
    """One certificate of sites, as one worker has it."""

    name: str
    "The first of its names."
    more_names: int
    not_after: float
    "When it ends, seconds since the epoch."
    source: str
    "The core API, or a directory."
    last_error: str | None
    "Why the last lookup for it failed; null = nothing is wrong."


class WorkerStatus(msgspec.Struct, frozen=True):
    """What one worker reports each second while somebody looks at the status page."""

    environments: int
    in_trouble: int
    shown: list[EnvironmentStatus]
    events: list[RecentEvent]
    certificates: list[CertificateStatus] = []
    "Those that end first."
