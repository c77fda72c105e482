"""What stands between two attempts of an exchange: may there be another, to whom, and what did the last one cost.

The decisions are those of `rules/`; here they get the time, the dice and the worker's state.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge.net.attempt import Attempt
from edge.net.reconnects import connect_first, reconnect
from edge.rules.health_records import Evidence
from edge.rules.outcomes import VERDICTS, Cause, Charge, Retry
from edge.rules.picker import first_pick, pick
from edge.rules.retries import attempts_made, may_follow, spent_its_repeat
from edge.rules.routes import Candidate, Route
from edge.rules.servers import EVIDENCE
from edge.rules.shared_evidence import SUSPECT

if TYPE_CHECKING:
    from edge.net.services import Services


def choose(services: "Services", route: Route, tries: Sequence[Attempt], now: float) -> Candidate | None:
    """The backend for the next attempt; None = there is none left."""
    environment, rand = route.environment, services.rand()
    assert environment is not None
    book = environment.book
    book.weigh(route.standings, now, rand, busy=environment.in_flight > 1 or bool(tries))
    if book.to_connect and not book.to_connect.isdisjoint(route.standings):  # some may be of other hostnames
        connect_first(services, route)
    if not tries:
        candidate = first_pick(route, now, rand, services.crowd)
        if candidate is not None:
            return candidate
    causes = [attempt.cause for attempt in tries]
    return pick(
        route,
        [attempt.candidate.place for attempt in tries],
        last=attempts_made(causes) == services.retries.attempts - 1,
        # Who is full is there: in a moment it will have a slot, and nobody has to wait for a connect in vain.
        last_resort=Cause.REFUSED not in causes,
        demerited=services.retries.demerited,
        now=now,
        rand=rand,
        crowd=services.crowd,
    )


def connect_patience(services: "Services", route: Route, tries: Sequence[Attempt]) -> float:
    """Seconds for the connect of the last of these attempts: more when there is nobody else to turn to."""
    timeouts, tried = services.timeouts, [attempt.candidate.place for attempt in tries]
    others = any(c.standing.weight and c.place not in tried for c in (*route.active, *route.standby))
    return timeouts.connect if others else max(timeouts.connect, timeouts.connect_alone)


def may_retry(
    services: "Services",
    tries: Sequence[Attempt],
    cause: Cause,
    age: float,
    *,
    safe: bool,
    replayable: bool,
    waited: int = 0,
) -> bool:
    """Whether number, time and the ladder allow another attempt, after the last one has ended for this cause.
    `age`: seconds since the exchange began; `waited`: attempts before it waited for a slot, or for a backend to
    start."""
    made = attempts_made([*(attempt.cause for attempt in tries[waited:-1]), cause])
    if made >= services.retries.attempts or age >= services.timeouts.deadline:
        return False
    spent = spent_its_repeat([attempt.cause for attempt in tries[:-1]])
    return may_follow(VERDICTS[cause].retry, safe=safe, replayable=replayable, failed_before=spent)


def may_spend(services: "Services", route: Route, cause: Cause, now: float) -> bool:
    """Take a token of the environment's retry budget; false = there is none. After a connect that failed none is
    needed: it was no load for anybody."""
    if VERDICTS[cause].retry is Retry.ANY:
        return True
    environment = route.environment
    assert environment is not None
    if environment.budget.take_token(VERDICTS[cause].retry, environment.requests, now):
        return True
    services.counts.retries_exhausted += 1
    return False


def charge(services: "Services", route: Route, attempt: Attempt, cause: Cause, pause: float) -> None:
    """Charge the backend for a failed attempt. `pause`: the seconds that it asked for when it refused."""
    assert route.environment is not None
    if attempt.cold and VERDICTS[cause].charge is Charge.ERROR:
        return  # it is being started
    route.environment.book.charge(
        attempt.candidate.standing, cause, services.clock(), rand=services.rand(), pause=pause
    )
    standing = attempt.candidate.standing
    server = standing.server if cause in EVIDENCE else None
    if server is not None and server.record_unreachable(standing.place, services.clock()):
        environments = services.resolver.environments
        environments.weigh_anew()
        environments.shared.tell(Evidence(SUSPECT, "", "", server.name))
    if standing.down_since:
        reconnect(services, route, attempt.candidate)


def end(services: "Services", attempt: Attempt, cause: Cause, now: float, *, sent: bool) -> None:
    """The attempt is over. Its connection is kept if it is clean; `sent`: so is the request's side of it."""
    attempt.cause = cause
    attempt.candidate.standing.in_flight -= 1
    if attempt.holds_body:
        attempt.stop_waiting()
    if attempt.waits:
        attempt.answers()
    link = attempt.link
    if link is not None:
        if link.release() and sent:
            services.pool.put(link, now)
        else:
            link.close()
