"""One try at one backend: whom, over which connection, when what happened, and how it ended."""

from edge.net.h1.h1_backend import H1Backend
from edge.rules.exchange_records import Attempted
from edge.rules.outcomes import Cause, Phase
from edge.rules.routing.routes import Candidate

_FINE, _CONNECT = Cause.OK, Phase.CONNECT


class Attempt:
    """One try at one backend. Times are of the worker's clock; 0 = it has not happened.

    Nothing here refers back to the exchange, so no request leaves a cycle for the garbage collector.
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
        "The backend was thought asleep when this began: it may take its time, and tells nothing about its speed."
        self.connection: H1Backend | None = None
        self.sent_at = 0.0
        "When the request was written to its end."
        self.connect_ms = 0.0
        "Time to get a new connection; 0 = a kept one was used, or there was none."
        self.first_byte_ms = 0.0
        "From the end of the request to the first answer byte; 0 = there was none, or it came early."
        self.waits = False
        "Sent to its end, and no answer has begun."
        self.trailers = b""
        "The lines behind the answer's body."
        self.status = 0
        self.cause: Cause = _FINE
        self.phase: Phase = _CONNECT
        "Where it failed."

    def answers(self) -> None:
        """It waits no more, whatever came."""
        if self.waits:
            self.waits = False
            self.candidate.standing.waiting -= 1

    def told(self) -> Attempted:
        """For the log."""
        return Attempted(self.candidate.backend.id, self.cause, self.status, self.connect_ms, self.first_byte_ms)


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds with three digits. (`round` takes three times as long.)"""
    return int(seconds * 1e6) / 1000.0
