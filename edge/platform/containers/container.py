"""The interface of all kinds of containers, and the records that describe one.

A container is a small web server with W workers and a queue of length Q before them. When both are full, it refuses
requests: `503` with `X-Styx-Refused: queue-full`, before anything of the request was executed. A container knows
its own id and responds `421` to a request for another one (`X-Styx-Backend`).

Containers can be made to fail on purpose. The faults (`kill`, `stop`, `fill`, `slow`) are not recorded in the
registry; the edge has to detect them by itself, as in production. `sleep`, `wake` and `move` are actions of the
platform and are recorded.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Protocol

import msgspec

Make = Literal["builtin", "nginx"]
Role = Literal["active", "standby"]
State = Literal["running", "asleep", "draining"]

OnStateChange = Callable[[str, State], None]
"Called with (container id, new state) when a container changes its state by itself: its first request woke it."

OnRefusal = Callable[[str, str], None]
"Called with (container id, X-Request-Id) when a container has refused a request."

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]


class ContainerFailed(Exception):
    """A container could not be started; the text has the reason and the remedy."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The configuration of all containers of one environment."""

    make: Make = "builtin"
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 4
    "Requests executed at the same time."
    queue: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 4
    "Requests that may wait for a worker; further ones are refused."
    service_time: Seconds = 0.02
    "Mean time that a worker needs for one request, seconds."
    service_cv: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.3
    "Coefficient of variation of the (lognormal) service time; with the nginx make the time is constant."
    boot_time: Seconds = 0.3
    "Seconds that the first request waits for a sleeping builtin container; nginx takes the time that it needs."
    asleep: bool = False
    "New containers boot only when their first request arrives."
    docroot: str | None = None
    "Directory with an index.php that replaces the built-in one (nginx make only)."


class ContainerTls(NamedTuple):
    """Files of a container that speaks TLS, PEM."""

    certificate: Path
    key: Path
    client_ca: Path
    "The authority of whoever may connect."
    client: tuple[Path, Path]
    "Certificate and key of the edge, with which the container's own readiness is checked."


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerSpec:
    """Identity, address and recipe of one container."""

    id: str
    site: str
    environment: str
    recipe: Recipe
    address: str = "127.0.0.1"
    port: int = 0
    "Port to listen on; 0 = any free one."
    tls: ContainerTls | None = None
    "None = it speaks plain HTTP."
    directory: Path | None = None
    "A directory of its own, made by the container when it needs one and removed by `stop`."


@dataclass(frozen=True, slots=True)
class Activity:
    """What a container does and did last: what the Reaper decides by."""

    idle_for: float
    "Seconds since its last request, or since its start; 0 while a request is in flight."
    in_flight: int | None = None
    "Requests executed or queued; None where the make cannot tell."
    served: int | None = None
    "Requests served since its start; None where the make cannot tell."
    last_request: str = ""
    "Method and path of the last request and who sent it; empty = there was none."
    booting: bool = False
    "A request has woken it, and waits."


class Faults(NamedTuple):
    """How a container is made to fail."""

    full: bool
    slow: float
    "Factor of the service time; 1 = normal."


class Container(Protocol):
    """One container of any make."""

    spec: ContainerSpec
    state: State

    @property
    def port(self) -> int:
        """The port that it listens on, or last listened on."""

    @property
    def listening(self) -> bool:
        """False after `kill` or `stop`: the kernel refuses connections."""

    def activity(self) -> Activity:
        """Its current and its last activity."""

    def faults(self) -> Faults:
        """The faults that `fill` and `slow` have set."""

    @property
    def executed(self) -> Counter[str]:
        """How often each `X-Order-Id` was executed; a number above 1 is a double execution."""

    async def start(self) -> None:
        """Start, or restart on the old port. Returns when it serves requests; raises ContainerFailed."""

    async def sleep(self) -> None:
        """Finish the requests in flight, then listen and boot only when the next request arrives."""

    async def wake(self) -> None:
        """Boot now, without a request."""

    async def stop(self) -> None:
        """Finish the requests in flight (up to 5 s), then stop listening. It can be started again."""

    async def kill(self) -> None:
        """Stop at once: all connections are reset, new ones refused."""

    async def move(self) -> None:
        """Listen on another port too. The old one is served until `leave_old_port`."""

    async def leave_old_port(self, *, keep_idle: bool = True) -> None:
        """After `move`: requests in flight finish at the old port, which is free afterwards.

        keep_idle: idle connections get one more response, if the make can do that; otherwise they are closed, and a
        request that crosses with the close is lost.
        """

    def fill(self, *, on: bool) -> None:
        """Refuse all requests, as if the queue were full, until switched off."""

    def slow(self, factor: float) -> None:
        """Multiply the service time; 1 = normal."""

    def dismiss(self) -> None:
        """Release the port and all other resources, at the very end, after `stop`."""

    async def heal(self) -> None:
        """Undo all faults: not full, not slow, and started if it was stopped or killed."""
