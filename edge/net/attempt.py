"""One attempt to have a request served by one backend: its connection, its times, and how it ended."""

from typing import Final

from edge.net.h1.h1_backend import H1Backend
from edge.rules.outcomes import Cause, Phase
from edge.rules.routing.routes import Candidate

_OK: Final = Cause.OK
_CONNECT: Final = Phase.CONNECT


class Attempt:
    """One attempt at one backend. Times are of the worker's clock, in seconds; 0 = it has not happened.

    It has no reference to its exchange, so that no request leaves a cycle for the garbage collector.
    """

    __slots__ = (
        "began",
        "candidate",
        "cause",
        "cold",
        "connect_ms",
        "connection",
        "first_byte_ms",
        "phase",
        "sent_at",
        "status",
        "trailers",
        "waits",
    )

    def __init__(self, candidate: Candidate, began: float, cold: bool = False) -> None:
        self.candidate = candidate
        self.began = began
        self.cold = cold
        "Whether the backend was asleep when this began: its response may be slow, and is no measure of its speed."
        self.connection: H1Backend | None = None
        self.sent_at = 0.0
        "When the whole request was written."
        self.connect_ms = 0.0
        "Time to get a new connection; 0 = an idle one was used, or there was none."
        self.first_byte_ms = 0.0
        "From the end of the request to the first byte of the response; 0 = there was none, or it came early."
        self.waits = False
        "Whether the whole request was written and no response has begun."
        self.trailers = b""
        "The trailer lines of the response."
        self.status = 0
        self.cause: Cause = _OK
        self.phase: Phase = _CONNECT
        "The phase in which it failed."

    def record_first_byte(self) -> None:
        """It waits for a response no longer, whether one came or not."""
        if self.waits:
            self.waits = False
            self.candidate.state.waiting -= 1


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds with three digits. (`round` takes three times as long.)"""
    return int(seconds * 1e6) / 1000.0
