"""What a container is, whichever make it has.

A container is a small web server with W workers and Q places in a queue before them. Whoever finds both taken is
refused: `503` with `X-Styx-Refused: queue-full`, before anything of the request was executed. A container knows its
own id and answers `421` to a request that was meant for another one (`X-Styx-Backend`).

Everything here can also go wrong on purpose: that is what a pocket platform is for. None of the troubles
(`kill`, `stop`, `fill`, `slow`) is told to the registry; the edge has to find out by itself, as in real life.
`sleep`, `wake` and `move` are deeds of the platform and are told.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

import msgspec

Make = Literal["builtin", "nginx"]
Role = Literal["active", "standby"]
State = Literal["running", "asleep", "draining"]

StateTold = Callable[[str, State], None]
"Called with (container id, new state) when a container changes its state by itself: the first request woke it."

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]


class ContainerFailed(Exception):
    """A container could not be started; the text says why and what to do."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How every container of one environment is built."""

    make: Make = "builtin"
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 4
    "Requests executed at the same time."
    queue: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 4
    "Requests that may wait for a worker; the next one is refused."
    service_time: Seconds = 0.02
    "Mean seconds a worker is busy with one request."
    service_cv: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.3
    "Coefficient of variation of the (lognormal) service time; the nginx make has a constant one."
    boot_time: Seconds = 0.3
    "Seconds the first request waits for a builtin container that is asleep; nginx takes what it takes."
    asleep: bool = False
    "New containers wait for their first request before they boot."
    docroot: str | None = None
    "Directory with an index.php that replaces the built-in one (nginx make only)."


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerSpec:
    """Who one container is."""

    id: str
    site: str
    environment: str
    recipe: Recipe
    address: str = "127.0.0.1"
    port: int = 0
    "Port to listen on; 0 = any free one."
    directory: Path | None = None
    "A directory of its own, made by the container when it needs one and removed by `stop`."


class Container(Protocol):
    """One container of any make."""

    spec: ContainerSpec
    state: State

    @property
    def port(self) -> int:
        """The port it listens on, or listened on last."""

    @property
    def listening(self) -> bool:
        """False after `kill` or `stop`: connections are refused."""

    @property
    def executed(self) -> Counter[str]:
        """How often each `X-Order-Id` was executed; anything above 1 is a double execution."""

    async def start(self) -> None:
        """Serve. Returns when it answers; raises ContainerFailed. Starts a dead one again on its old port."""

    async def sleep(self) -> None:
        """Listen, but boot only when the first request comes. Finishes what it is doing first."""

    async def wake(self) -> None:
        """Boot now, without a request."""

    async def stop(self) -> None:
        """Finish the requests at hand (up to 5 s), then be gone. A stopped one can be started again."""

    async def kill(self) -> None:
        """Die at once: all connections are cut, new ones refused."""

    async def move(self) -> None:
        """Go to another port; requests at hand are finished at the old one, which is free afterwards."""

    def fill(self, *, on: bool) -> None:
        """Refuse everything, as if the queue were full, until switched off."""

    def slow(self, factor: float) -> None:
        """Multiply the service time; 1 = normal."""

    def dismiss(self) -> None:
        """Give the port and everything else back to the machine; after `stop`, at the very end."""

    async def heal(self) -> None:
        """No trouble any more: not full, not slow, and running if it was dead."""
