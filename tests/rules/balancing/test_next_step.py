"""The retry decision as a table: every row of VERDICTS, with each choice of backends and budgets."""

from itertools import product

import pytest

from edge.rules.balancing.backend_state import BackendState, Candidate
from edge.rules.balancing.next_step import (
    Another,
    AskRoute,
    FailedAttempt,
    GiveUp,
    NextStep,
    RetryOptions,
    SameAgain,
    WaitForSlot,
    WaitForStart,
    goes_elsewhere,
    next_step,
)
from edge.rules.outcomes import VERDICTS, Cause, Retry
from edge.rules.routing.route_response import Backend
from edge.rules.settings import RetrySettings, TimeoutSettings

RETRIES, TIMEOUTS = RetrySettings(), TimeoutSettings()
OTHER = Candidate(Backend("b2", "10.0.0.2", 8000), BackendState())
MANY_BACKENDS = RETRIES.queue_backends + 1

SAFE, UNSAFE = True, False
OTHER_LEFT = "another left"
OTHER_OLD_ROUTE = "another left, old route"
NONE_OLD_ROUTE = "none left, old route"
NONE_SMALL = "none left of few"
NONE_LARGE = "none left of many"
LEFT = {
    #                 another, may ask for the route, backends
    OTHER_LEFT: (OTHER, False, 2),
    OTHER_OLD_ROUTE: (OTHER, True, 2),
    NONE_OLD_ROUTE: (None, True, 2),
    NONE_SMALL: (None, False, 2),
    NONE_LARGE: (None, False, MANY_BACKENDS),
}

ANOTHER, ASKING, ASK, SLOT, SAME, GIVE_UP = "another", "another, asks", "ask", "slot", "same", "give up"
MOVED = {
    OTHER_LEFT: ANOTHER,
    OTHER_OLD_ROUTE: ASKING,
    NONE_OLD_ROUTE: ASK,
    NONE_SMALL: GIVE_UP,
    NONE_LARGE: GIVE_UP,
}
FULL = {
    OTHER_LEFT: ANOTHER,
    OTHER_OLD_ROUTE: ANOTHER,
    NONE_OLD_ROUTE: SLOT,
    NONE_SMALL: SLOT,
    NONE_LARGE: GIVE_UP,
}
FAILED = {
    OTHER_LEFT: ANOTHER,
    OTHER_OLD_ROUTE: ANOTHER,
    NONE_OLD_ROUTE: GIVE_UP,
    NONE_SMALL: GIVE_UP,
    NONE_LARGE: GIVE_UP,
}
ALWAYS_SAME, NEVER = dict.fromkeys(LEFT, SAME), dict.fromkeys(LEFT, GIVE_UP)
TABLE = {
    #                       safe         unsafe
    # A: no request byte was written
    Cause.CONNECT_FAILED: (MOVED, MOVED),
    Cause.CONNECT_TIMEOUT: (MOVED, MOVED),
    Cause.HOST_UNREACHABLE: (MOVED, MOVED),
    Cause.WRONG_BACKEND: (MOVED, MOVED),
    # B: proved not processed
    Cause.REFUSED: (FULL, FULL),
    Cause.MISDIRECTED: (MOVED, MOVED),
    Cause.CERTIFICATE_REFUSED: (FAILED, FAILED),
    Cause.EXPECT_REFUSED: (ALWAYS_SAME, ALWAYS_SAME),
    # C: may have been processed
    Cause.STALE_CONNECTION: (ALWAYS_SAME, NEVER),
    Cause.CONNECTION_UNACKNOWLEDGED: (MOVED, NEVER),
    Cause.CLOSED_EARLY: (FAILED, NEVER),
    Cause.BAD_ANSWER: (FAILED, NEVER),
    Cause.GATEWAY_ERROR: (FAILED, NEVER),
    Cause.RETRY_REQUESTED: (FAILED, NEVER),
    # D: all others
    **{cause: (NEVER, NEVER) for cause, verdict in VERDICTS.items() if verdict.retry is Retry.NEVER},
}
CONNECTS = {cause for cause, verdict in VERDICTS.items() if verdict.retry is Retry.ANY}


def options(
    left: str = OTHER_LEFT, *, tokens: float = 1.0, queued: int = 0, slot_wait: float = 0.25
) -> RetryOptions:
    other, can_ask_route, backends = LEFT[left]
    return RetryOptions(
        other,
        backends=backends,
        can_ask_route=can_ask_route,
        tokens=tokens,
        slot_wait=slot_wait,
        queued=queued,
        usual_time=0.1,
    )


def failed(cause: Cause, **known: object) -> FailedAttempt:
    return FailedAttempt(cause, **{"safe": SAFE, "replayable": True, **known})  # type: ignore[arg-type]


def step(failure: FailedAttempt, there_is: RetryOptions | None = None) -> NextStep:
    return next_step(failure, there_is or options(), RETRIES, TIMEOUTS)


def word(taken: NextStep) -> str:
    """As in the table."""
    match taken:
        case Another(candidate, asks_route=asks):
            assert candidate is OTHER
            return ASKING if asks else ANOTHER
        case AskRoute():
            return ASK
        case WaitForSlot():
            return SLOT
        case WaitForStart():
            return "start"
        case SameAgain():
            return SAME
        case GiveUp():
            return GIVE_UP


# The table


def test_the_table_is_whole() -> None:
    assert TABLE.keys() == set(Cause)
    assert all(row.keys() == LEFT.keys() for rows in TABLE.values() for row in rows)


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("safe", [SAFE, UNSAFE], ids=["safe", "unsafe"])
@pytest.mark.parametrize("cause", Cause)
def test_what_follows_a_failure(cause: Cause, safe: bool, left: str) -> None:
    expected = TABLE[cause][0 if safe else 1][left]
    assert word(step(failed(cause, safe=safe), options(left))) == expected


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("safe", [SAFE, UNSAFE], ids=["safe", "unsafe"])
@pytest.mark.parametrize("cause", Cause)
def test_a_budget_without_a_token_ends_all_but_what_needs_none(cause: Cause, safe: bool, left: str) -> None:
    """`no_token` says when only a token was missing."""
    expected = TABLE[cause][0 if safe else 1][left]
    needs_token = expected not in (SAME, GIVE_UP) and cause not in CONNECTS
    taken = step(failed(cause, safe=safe), options(left, tokens=0.99))
    assert word(taken) == (GIVE_UP if needs_token else expected)
    assert not isinstance(taken, GiveUp) or taken.no_token is needs_token


@pytest.mark.parametrize("cause", Cause)
def test_a_body_that_cannot_be_replayed_is_not_retried(cause: Cause) -> None:
    for left, safe, cold in product(LEFT, (SAFE, UNSAFE), (True, False)):
        taken = step(failed(cause, safe=safe, replayable=False, cold=cold), options(left))
        assert word(taken) == GIVE_UP


@pytest.mark.parametrize("cause", Cause)
def test_only_the_first_of_two_edges_retries(cause: Cause) -> None:
    """A new connection to the same backend is no other attempt."""
    for left, safe in product(LEFT, (SAFE, UNSAFE)):
        expected = TABLE[cause][0 if safe else 1][left]
        taken = step(failed(cause, safe=safe, from_edge=True), options(left))
        assert word(taken) == (SAME if expected == SAME else GIVE_UP)


@pytest.mark.parametrize("cause", Cause)
def test_a_backend_is_chosen_when_one_may_be_needed(cause: Cause) -> None:
    needed = any(result in (ANOTHER, ASKING) for row in TABLE[cause] for result in row.values())
    assert goes_elsewhere(cause) is needed


# Numbers and times


@pytest.mark.parametrize("cause", [cause for cause, (row, _) in TABLE.items() if row is not NEVER])
@pytest.mark.parametrize(
    "limit",
    [
        pytest.param({"age": TIMEOUTS.deadline}, id="deadline"),
        pytest.param({"connecting": TIMEOUTS.connect_total}, id="connect_total"),
        pytest.param({"earlier": [Cause.REFUSED] * RETRIES.attempts}, id="attempts"),
    ],
)
def test_limits_end_the_retries(cause: Cause, limit: dict[str, object]) -> None:
    assert word(step(failed(cause, **limit))) == GIVE_UP


def test_just_below_each_limit_it_retries() -> None:
    near = failed(
        Cause.REFUSED,
        age=TIMEOUTS.deadline - 0.01,
        connecting=TIMEOUTS.connect_total - 0.01,
        earlier=[Cause.REFUSED] * (RETRIES.attempts - 2),
    )
    assert word(step(near)) == ANOTHER


@pytest.mark.parametrize(("part", "expected"), [(0.85, ANOTHER), (0.95, GIVE_UP)])
def test_what_is_left_must_be_enough_for_a_connect(part: float, expected: str) -> None:
    assert word(step(failed(Cause.CONNECT_TIMEOUT, connecting=part * TIMEOUTS.connect_total))) == expected


def test_connects_that_failed_are_no_attempts() -> None:
    earlier = [Cause.CONNECT_FAILED] * 20
    assert word(step(failed(Cause.CONNECT_TIMEOUT, earlier=earlier))) == ANOTHER
    assert word(step(failed(Cause.REFUSED, earlier=earlier))) == ANOTHER


def test_attempts_before_a_wait_do_not_count() -> None:
    earlier = [Cause.REFUSED] * 20
    assert word(step(failed(Cause.REFUSED, earlier=earlier, waited=20), options(NONE_SMALL))) == SLOT


@pytest.mark.parametrize(
    ("earlier", "expected"),
    [
        ([Cause.CLOSED_EARLY], GIVE_UP),
        ([Cause.CLOSED_EARLY, Cause.REFUSED], GIVE_UP),
        ([Cause.STALE_CONNECTION], ANOTHER),
        ([Cause.REFUSED], ANOTHER),
    ],
)
def test_a_request_that_may_have_been_processed_is_retried_once(earlier: list[Cause], expected: str) -> None:
    assert word(step(failed(Cause.BAD_ANSWER, earlier=earlier))) == expected


# Waits


def test_an_exchange_that_waited_for_a_slot_tries_one_backend_at_a_time() -> None:
    assert word(step(failed(Cause.REFUSED, earlier=[Cause.REFUSED], waited=1))) == SLOT
    assert word(step(failed(Cause.CONNECT_FAILED, earlier=[Cause.REFUSED], waited=1))) == ANOTHER


@pytest.mark.parametrize(("slot_wait", "seconds"), [(0.25, 0.05), (0.03, 0.03)])
def test_it_polls_after_half_the_usual_time(slot_wait: float, seconds: float) -> None:
    taken = step(failed(Cause.REFUSED), options(NONE_SMALL, slot_wait=slot_wait))
    assert isinstance(taken, WaitForSlot)
    assert taken.seconds == pytest.approx(seconds)


@pytest.mark.parametrize("there_is", [options(NONE_SMALL, slot_wait=0.0), options(NONE_SMALL, queued=2)])
def test_the_queue_is_short_and_so_is_the_wait(there_is: RetryOptions) -> None:
    taken = step(failed(Cause.REFUSED), there_is)
    assert isinstance(taken, GiveUp)
    assert not taken.no_token


STARTING = {Cause.GATEWAY_ERROR, Cause.SERVER_ERROR, Cause.CLOSED_EARLY}


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("safe", [SAFE, UNSAFE], ids=["safe", "unsafe"])
@pytest.mark.parametrize("backends", [1, 2])
def test_a_backend_that_is_starting_is_waited_for(cause: Cause, safe: bool, backends: int) -> None:
    """Unless the attempt may have been processed, or another one may be up. No token is needed."""
    waits = (cause in STARTING and safe) or (cause is Cause.CONNECT_FAILED and backends == 1)
    there_is = options(OTHER_LEFT, tokens=0.0)
    there_is.backends = backends
    taken = step(failed(cause, safe=safe, cold=True), there_is)
    assert isinstance(taken, WaitForStart) is waits
    assert not isinstance(step(failed(cause, safe=safe), there_is), WaitForStart)


@pytest.mark.parametrize(("repeats", "seconds"), [(0, 0.1), (1, 0.2), (3, 0.8), (4, 1.0), (40, 1.0)])
def test_a_start_is_waited_for_in_growing_steps(repeats: int, seconds: float) -> None:
    earlier = [Cause.GATEWAY_ERROR] * repeats
    taken = step(failed(Cause.GATEWAY_ERROR, status=502, cold=True, earlier=earlier, waited=repeats))
    assert isinstance(taken, WaitForStart)
    assert taken.seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    "known", [{"age": RETRIES.boot}, {"status": 500}], ids=["longer than retries.boot", "an application's own 500"]
)
def test_a_start_is_not_waited_for(known: dict[str, object]) -> None:
    assert word(step(failed(Cause.SERVER_ERROR, cold=True, **known))) == GIVE_UP


# What the client gets


@pytest.mark.parametrize(
    ("earlier", "cause", "reported"),
    [
        ([], Cause.CONNECT_FAILED, Cause.CONNECT_FAILED),
        ([Cause.REFUSED], Cause.CONNECT_FAILED, Cause.REFUSED),
        ([Cause.CONNECT_FAILED], Cause.CLOSED_EARLY, Cause.CLOSED_EARLY),
        # The backend has responded, and that is passed on, whatever came before.
        ([Cause.REFUSED], Cause.GATEWAY_ERROR, Cause.GATEWAY_ERROR),
        ([Cause.REFUSED], Cause.SERVER_ERROR, Cause.SERVER_ERROR),
    ],
)
def test_the_cause_that_is_reported_to_the_client(earlier: list[Cause], cause: Cause, reported: Cause) -> None:
    taken = step(failed(cause, earlier=earlier, safe=UNSAFE), options(NONE_LARGE))
    assert isinstance(taken, GiveUp)
    assert taken.cause is reported
