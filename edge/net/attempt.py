"""One try at one backend: whom, over which connection, when what happened, and how it ended."""

from typing import Protocol

from edge.net.backend_side import BackendConnection
from edge.rules.outcomes import Attempted, Cause
from edge.rules.routes import Candidate


class Trying(Protocol):
    """The exchange that makes attempts."""

    def attempt_connected(self, attempt: "Attempt", link: BackendConnection) -> None:
        """An attempt has its connection."""

    def attempt_not_connected(self, attempt: "Attempt", cause: Cause) -> None:
        """An attempt has none."""


class Attempt:
    """See the module. Times are of the worker's clock; 0 = it has not happened."""

    __slots__ = (
        "_exchange",
        "began",
        "candidate",
        "cause",
        "connected_at",
        "first_byte_at",
        "link",
        "sent_at",
        "status",
    )

    def __init__(self, exchange: Trying, candidate: Candidate, began: float) -> None:
        self._exchange = exchange
        self.candidate = candidate
        self.link: BackendConnection | None = None
        self.began = began
        self.connected_at = 0.0
        "When a new connection was made; 0 = a kept one was used."
        self.sent_at = 0.0
        "When the request was written to its end."
        self.first_byte_at = 0.0
        self.status = 0
        self.cause = Cause.FINE

    def connected(self, link: BackendConnection) -> None:
        """Called by the pool: here is the new connection."""
        self._exchange.attempt_connected(self, link)

    def not_connected(self, cause: Cause) -> None:
        """Called by the pool: there is none to be had."""
        self._exchange.attempt_not_connected(self, cause)

    @property
    def connect_s(self) -> float:
        """Seconds to get a new connection; 0 = a kept one was used, or there was none."""
        return self.connected_at - self.began if self.connected_at else 0.0

    @property
    def first_byte_s(self) -> float:
        """Seconds from the end of the request to the first answer byte; 0 = there was none."""
        return max(0.0, self.first_byte_at - self.sent_at) if self.first_byte_at and self.sent_at else 0.0

    def told(self) -> Attempted:
        """For the log."""
        return Attempted(
            self.candidate.backend.id,
            self.cause,
            self.status,
            milliseconds(self.connect_s),
            milliseconds(self.first_byte_s),
        )


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds with three digits. (`round` takes three times as long.)"""
    return int(seconds * 1e6) / 1000.0
