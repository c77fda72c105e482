"""Liveness and readiness: two questions that must not be mixed up.

*Live*: does it work as well as after a restart? *Ready*: should the network send requests here? A worker which
starts or drains is live and not ready. The core API does not appear here: styx serves what it knows without it,
and a fleet of edges which all turn unready at once is an outage of its own.
"""

from collections.abc import Mapping
from enum import StrEnum


class Stage(StrEnum):
    """Where a worker is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    BROKEN = "broken"


NEXT: Mapping[Stage, frozenset[Stage]] = {
    Stage.STARTING: frozenset({Stage.READY, Stage.DRAINING, Stage.BROKEN}),
    Stage.READY: frozenset({Stage.DRAINING, Stage.BROKEN}),
    Stage.DRAINING: frozenset({Stage.BROKEN}),
    Stage.BROKEN: frozenset(),
}
"""Nobody comes back from draining: the network was told to go elsewhere."""


class Health:
    """One stage and its reason, in words for the operator."""

    __slots__ = ("reason", "stage")

    def __init__(self, reason: str = "listeners are not open yet") -> None:
        self.stage = Stage.STARTING
        self.reason = reason

    def __repr__(self) -> str:
        return f"<Health {self.text}>"

    @property
    def live(self) -> bool:
        return self.stage is not Stage.BROKEN

    @property
    def ready(self) -> bool:
        return self.stage is Stage.READY

    @property
    def text(self) -> str:
        return f"{self.stage}: {self.reason}" if self.reason else str(self.stage)

    def opened(self) -> None:
        """The listeners accept. Too late when a drain has begun; then it changes nothing."""
        self._move(Stage.READY, "")

    def drain(self, reason: str) -> None:
        self._move(Stage.DRAINING, reason)

    def fail(self, reason: str) -> None:
        """Only a restart helps."""
        self._move(Stage.BROKEN, reason)

    def follow(self, stage: str, reason: str) -> None:
        """Take over the stage that the master has reported, if it may follow the current one."""
        self._move(Stage(stage), reason)

    def _move(self, stage: Stage, reason: str) -> None:
        if stage in NEXT[self.stage]:
            self.stage = stage
            self.reason = reason
