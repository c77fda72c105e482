"""Liveness and readiness of an edge, and the stages that they follow from.

*Live*: a restart would not help. *Ready*: the network should send requests here. A worker that starts or drains is
live and not ready. The core API has no influence on either: styx serves the routes that it knows without it, and a
fleet of edges that all become unready at once is an outage of its own.
"""

from collections.abc import Mapping
from enum import StrEnum


class Stage(StrEnum):
    """The stages of a worker."""

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
"""The stages that may follow each stage. A drain cannot be undone: the network already sends requests elsewhere."""


def is_health_text(text: str) -> bool:
    """Whether this is what an edge says about its health (`Health.text`)."""
    stage = text.partition(":")[0].strip()
    return stage in [each.value for each in Stage]


class Health:
    """The current stage, and its reason as a text for the operator."""

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
        """Become ready: the listeners accept. Has no effect when a drain has begun."""
        self._move(Stage.READY, "")

    def drain(self, reason: str) -> None:
        """Become unready for good."""
        self._move(Stage.DRAINING, reason)

    def fail(self, reason: str) -> None:
        """Become neither live nor ready; only a restart helps."""
        self._move(Stage.BROKEN, reason)

    def follow(self, stage: str, reason: str) -> None:
        """Change to the stage that the master has reported, if it may follow the current one."""
        self._move(Stage(stage), reason)

    def _move(self, stage: Stage, reason: str) -> None:
        if stage in NEXT[self.stage]:
            self.stage = stage
            self.reason = reason
