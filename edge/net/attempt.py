"""One try at one backend: whom, over which connection, when what happened, and how it ended.

Below it, what stands between two attempts of an exchange: may there be another, to whom, and what did the
last one cost. The decisions are those of `rules/`; here they get the time, the dice and the worker's state.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from edge.net.backend_side import BackendConnection
from edge.rules.outcomes import VERDICTS, Attempted, Cause, Phase
from edge.rules.picker import first_pick, pick
from edge.rules.retries import may_follow, spent_its_repeat
from edge.rules.routes import Candidate, Route

if TYPE_CHECKING:
    from edge.net.services import Services


class Attempt(msgspec.Struct, gc=False):
    """See the module. Times are of the worker's clock; 0 = it has not happened.

    Nothing here refers back to the exchange, so no request leaves a cycle for the garbage collector.
    """

    candidate: Candidate
    began: float
    link: BackendConnection | None = None
    sent_at: float = 0.0
    "When the request was written to its end."
    connect_ms: float = 0.0
    "Time to get a new connection; 0 = a kept one was used, or there was none."
    first_byte_ms: float = 0.0
    "From the end of the request to the first answer byte; 0 = there was none, or it came early."
    holds_body: bool = False
    "The backend was asked whether it takes the body, and has not said so yet."
    status: int = 0
    cause: Cause = Cause.FINE
    phase: Phase = Phase.CONNECT
    "Where it failed."

    def told(self) -> Attempted:
        """For the log."""
        return Attempted(self.candidate.backend.id, self.cause, self.status, self.connect_ms, self.first_byte_ms)


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds with three digits. (`round` takes three times as long.)"""
    return int(seconds * 1e6) / 1000.0


def choose(services: "Services", route: Route, tries: Sequence[Attempt], now: float) -> Candidate | None:
    """The backend for the next attempt; None = there is none left."""
    assert route.environment is not None
    route.environment.book.weigh(route.standings, now)
    if not tries:
        candidate = first_pick(route, now, services.rand(), services.crowd)
        if candidate is not None:
            return candidate
    return pick(
        route,
        [attempt.candidate.place for attempt in tries],
        demerited=services.retries.demerited,
        now=now,
        rand=services.rand(),
        crowd=services.crowd,
    )


def may_retry(
    services: "Services", tries: Sequence[Attempt], cause: Cause, age: float, *, safe: bool, replayable: bool
) -> bool:
    """Whether number, time and the ladder allow another attempt. `age`: seconds since the exchange began."""
    if len(tries) >= services.retries.attempts or age >= services.timeouts.deadline:
        return False
    spent = spent_its_repeat([attempt.cause for attempt in tries[:-1]])
    return may_follow(VERDICTS[cause].retry, safe=safe, replayable=replayable, failed_before=spent)


def may_spend(services: "Services", route: Route, cause: Cause, now: float) -> bool:
    """Take a token of the environment's retry budget; false = there is none."""
    environment = route.environment
    assert environment is not None
    if environment.budget.allows(VERDICTS[cause].retry, environment.requests, now):
        return True
    services.counts.retries_exhausted += 1
    return False


def charge(services: "Services", route: Route, attempt: Attempt, cause: Cause, pause: float) -> None:
    """Charge the backend for a failed attempt. `pause`: the seconds that it asked for when it refused."""
    assert route.environment is not None
    route.environment.book.charge(
        attempt.candidate.standing, cause, services.clock(), rand=services.rand(), pause=pause
    )


def end(services: "Services", attempt: Attempt, cause: Cause, *, sent: bool) -> None:
    """The attempt is over. Its connection is kept if it is clean; `sent`: so is the request's side of it."""
    attempt.cause = cause
    attempt.candidate.standing.in_flight -= 1
    link = attempt.link
    if link is not None:
        if link.release() and sent:
            services.pool.put(link, services.clock())
        else:
            link.close()
