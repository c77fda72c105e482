"""One try at one backend: whom, over which connection, when what happened, and how it ended."""

import asyncio

import msgspec

from edge.net.backend_side import BackendConnection
from edge.rules.exchange_records import Attempted
from edge.rules.outcomes import Cause, Phase
from edge.rules.routes import Candidate


class Wait:
    """An exchange between two attempts: until there is a slot, or a backend has started."""

    __slots__ = ("gives_up_at", "timer", "tried")

    def __init__(self) -> None:
        self.tried = 0
        "Attempts before it last waited."
        self.gives_up_at = 0.0
        "Until when it waits for a slot; 0 = it has not."
        self.timer: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        """It goes on."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Attempt(msgspec.Struct, gc=False):
    """See the module. Times are of the worker's clock; 0 = it has not happened.

    Nothing here refers back to the exchange, so no request leaves a cycle for the garbage collector.
    """

    candidate: Candidate
    began: float
    cold: bool = False
    "The backend was thought asleep when this began: it may take its time, and tells nothing about its speed."
    link: BackendConnection | None = None
    sent_at: float = 0.0
    "When the request was written to its end."
    connect_ms: float = 0.0
    "Time to get a new connection; 0 = a kept one was used, or there was none."
    first_byte_ms: float = 0.0
    "From the end of the request to the first answer byte; 0 = there was none, or it came early."
    waits: bool = False
    "Sent to its end, and no answer has begun."
    holds_body: bool = False
    "The backend was asked whether it takes the body, and has not said so yet."
    question: asyncio.TimerHandle | None = None
    "Sends the body when that has taken too long, or a moment after it was answered."
    client_waits: bool = False
    "It was asked by the client itself, which waits for what it says."
    trailers: bytes = b""
    "The lines behind the answer's body."
    status: int = 0
    cause: Cause = Cause.FINE
    phase: Phase = Phase.CONNECT
    "Where it failed."

    def answers(self) -> None:
        """It waits no more, whatever came."""
        if self.waits:
            self.waits = False
            self.candidate.standing.waiting -= 1

    def stop_waiting(self) -> None:
        """The body is not held any more, or nobody wants it."""
        self.holds_body = False
        if self.question is not None:
            self.question.cancel()
            self.question = None

    def told(self) -> Attempted:
        """For the log."""
        return Attempted(self.candidate.backend.id, self.cause, self.status, self.connect_ms, self.first_byte_ms)


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds with three digits. (`round` takes three times as long.)"""
    return int(seconds * 1e6) / 1000.0
