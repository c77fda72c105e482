"""What the admin server needs from the workers and the master; `run/hub.py` provides it.

Answers always say which workers did not give one: a worker may be stalled, just dead, or about to end.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec


class Told(msgspec.Struct, frozen=True):
    """What one worker said."""

    worker: int
    "Its slot."
    pid: int
    told: msgspec.Raw
    error: str = ""
    leaving: bool = False
    "Another process has its place; it finishes what it has."


class Answers(msgspec.Struct, frozen=True):
    """What the workers said, and which said nothing."""

    workers: list[Told]
    silent: list[int]
    "Slots of workers that should have answered."


class CommandResult(msgspec.Struct, frozen=True):
    """What came of an operator's wish."""

    done: bool
    words: Sequence[str]


class OperatorDrain(msgspec.Struct, frozen=True):
    """Something that gets no new requests."""

    kind: str
    name: str
    seconds: float
    "For how long; as listed: how much is left."


class Crew(Protocol):
    """Asks all workers at once, with a deadline."""

    async def snapshots(self) -> Answers:
        """`WorkerSnapshot` of each."""

    async def explain(self, host: str) -> Answers:
        """`ExplainedRoute` of each, or null."""

    async def routes(self, start: int, most: int, site: str, freshness: str) -> Answers:
        """`RoutePage` of each."""

    async def invalidate(self, kind: str, name: str) -> Answers:
        """How many routes each forgot."""

    async def drain(self, drain: OperatorDrain) -> Answers:
        """How many drains each has now."""

    def drains(self) -> list[OperatorDrain]:
        """What is drained now."""

    async def wish(self, what: str) -> CommandResult:
        """Have the master do it: `reload` or `upgrade`. Waits until it is done or has failed."""
