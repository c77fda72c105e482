"""The interfaces that observe finished exchanges: counters for the metrics, and the access log."""

from typing import Protocol

from edge.rules.exchange_records import Outcome
from edge.rules.http.head_validation import Request, Response
from edge.rules.log.usual_lines import UsualLines
from edge.rules.outcomes import Cause, Phase

Times = tuple[float, float, float, float, float]
"""How long the parts of an exchange took, in milliseconds and in the order of `Outcome`: resolve, connect, first
byte, total, overhead. 0 = it did not happen: the route was cached, the connection was reused, no response came."""


class ExchangeCounters(Protocol):
    """Counts ended exchanges. It gets numbers instead of an `Outcome`: a compiled styx passes them as they are."""

    __slots__ = ()

    def count(
        self,
        phase: Phase,
        cause: Cause,
        status: int,
        bytes_in: int,
        bytes_out: int,
        last_result: Cause | None,
        times: Times,
    ) -> None:
        """Count one exchange; the arguments are fields of `Outcome`. `last_result`: how its last attempt ended;
        None = there was no attempt."""

    def count_retry(self, result: Cause) -> None:
        """Count an attempt that ended with `result` and was followed by another."""

    def count_site(self, slot: int, status: int, total_ms: float) -> None:
        """Count one exchange of a site that `metrics.sites` names. `slot`: its index there."""


class OutcomeLog(Protocol):
    """Writes down ended exchanges."""

    __slots__ = ()

    def write(self, outcome: Outcome, request: Request | None = None, response: Response | None = None) -> None:
        """Write down one exchange. `request`: None = nothing was read. `response`: that of a backend, as received;
        None = the client got none of it."""


class LineLog(OutcomeLog, Protocol):
    """An `OutcomeLog` that needs no record of a usual exchange."""

    __slots__ = ()

    @property
    def usual_lines(self) -> UsualLines | None:
        """What makes the lines for `write_line`; None = every exchange is written from its record."""

    def write_line(self, line: str) -> bool:
        """Write the line of one exchange; False = it is too long, so the exchange must be written from its
        record."""
