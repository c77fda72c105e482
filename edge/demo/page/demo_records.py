"""Records of the demo's page: the events of `GET /v1/demo/stream`. Without logic."""

from collections.abc import Sequence

import msgspec


class SeenByStyx(msgspec.Struct, frozen=True):
    """The state of a container as styx sees it."""

    condition: str
    "healthy, recovering, probation, silent, cold, down, draining or drained"
    points: float
    "Demerits."
    share: float
    "Its share of the weights, 0 to 1."
    why: str
    in_flight: int


class DemoContainer(msgspec.Struct, frozen=True):
    """One container, as it really is."""

    id: str
    site: str
    "Name of its environment, as in `DemoSite`."
    server: str
    port: int
    role: str
    state: str
    "running, asleep or draining"
    booting: bool
    listening: bool
    "False = it was killed or stopped."
    full: bool
    slow: float
    "Factor of its service time."
    in_flight: int
    "As the container counts them, or styx if it cannot."
    workers: int
    queue: int
    served: int | None
    kept_by: str
    "What keeps it awake; empty = nothing."
    due_in: float | None
    "Seconds until the Reaper puts it to sleep; null = it does not."
    seen: SeenByStyx | None
    "null = no request has made styx look at it."


class DemoSite(msgspec.Struct, frozen=True):
    """One environment, with its goal."""

    site: str
    "Its name: that of the site, or ENVIRONMENT-SITE unless it is live."
    path: str
    "site/environment"
    hostname: str
    goal: int
    standby: int
    load: str
    "off, visits, light or heavy"
    rate: float
    "Requests per second of the load, as sent in the last second."


class DemoServer(msgspec.Struct, frozen=True):
    """One server, with the containers on it."""

    name: str
    heat: float
    "Requests per second of its containers, and one for each that is awake."


class DemoUpkeep(msgspec.Struct, frozen=True):
    """The Reaper or the dragon."""

    on: bool
    seconds: float
    acted: int
    last: str = ""


class DemoTraffic(msgspec.Struct, frozen=True):
    """The load, and what came of it since the start."""

    wanted: int
    "Requests per second that were chosen."
    rate: float
    "Requests of the last second."
    sent: int
    ok: int
    retried: int
    "Succeeded, after another attempt."
    refused: int
    "Nobody had room: 503 from styx."
    failed: int
    skipped: int
    "Not sent, because too many were in flight or the demo was too busy."
    p50: float | None
    "Milliseconds; of the last requests that succeeded."
    p95: float | None
    last_failure: str


class Dot(msgspec.Struct, frozen=True, array_like=True):
    """One request that is drawn."""

    ago: int
    "Milliseconds before the snapshot at which it ended."
    outcome: str
    "ok, retried, refused or failed"
    site: str
    container: str
    "The one that responded; empty = none."
    tried: Sequence[str]
    "Those that refused it before."


class DemoSnapshot(msgspec.Struct, frozen=True):
    """Everything that the page shows, at one moment."""

    core_api_up: bool
    lookups: int
    "Lookups at the core API since the start."
    sites: Sequence[DemoSite]
    servers: Sequence[DemoServer]
    containers: Sequence[DemoContainer]
    not_shown: int
    "Containers beyond those that are shown."
    reaper: DemoUpkeep
    dragon: DemoUpkeep
    traffic: DemoTraffic
    drawn_each: int
    "Of the requests that succeeded at once, one of so many is among `dots`."
    dots: Sequence[Dot]
    styx_retries: float | None
    "Retries per second that styx counts; null = its status is not known."


class DemoStart(msgspec.Struct, frozen=True):
    """The first event: what does not change."""

    status_page: str
    styx: str
    "Where styx listens: http://127.0.0.1:8080"
    most_rate: int
    most_goal: int
    most_sites: int
    loads: Sequence[str]
