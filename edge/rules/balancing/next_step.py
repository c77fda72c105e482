"""The retry decision of an exchange: what follows a failed attempt.

    failed ─► its backend is starting? ─────────────────────────────────────► WaitForStart
           ─► the ladder, the number of attempts or the time forbid a retry? ─► GiveUp
           ─► the failure says nothing about the backend? ───────────────────► SameAgain
           ─► no token in the retry budget? ─────────────────────────────────► GiveUp
           ─► another backend is left? ──────────────────────────────────────► Another
           ─► the route may be out of date? ─────────────────────────────────► AskRoute
           ─► all backends are full, and there are few? ─────────────────────► WaitForSlot
           ─► otherwise ─────────────────────────────────────────────────────► GiveUp

`next_step` only decides. `net/request/exchange_failures.py` acts on it: it takes the token, charges the backend,
connects.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

from edge.rules.balancing.backend_state import Candidate
from edge.rules.balancing.pending_queue import poll_after, queue_admits
from edge.rules.balancing.retries import attempts_made, boot_wait, may_follow, spent_its_repeat, worst_cause
from edge.rules.balancing.server_failures import EVIDENCE
from edge.rules.outcomes import VERDICTS, Cause, Retry
from edge.rules.settings import RetrySettings, TimeoutSettings

MAY_HAVE_MOVED: Final = frozenset({Cause.MISDIRECTED, Cause.CONNECT_FAILED, Cause.WRONG_BACKEND, *EVIDENCE})
"Failures after which the backends may be at other endpoints than the route says."
SAME_AGAIN: Final = frozenset({Cause.STALE_CONNECTION, Cause.EXPECT_REFUSED})
"Failures that say nothing about the backend. Each happens at most once in an exchange, so no budget bounds them."
USED_UP: Final = 0.9
"""The part of `timeouts.connect_total` after which a connect that timed out is not followed by another. Timers are
some milliseconds early: what is left would be too short for a healthy backend, and charged to it."""


class SameAgain:
    """Retry the same backend at once, over a new connection."""

    __slots__ = ()


class Another:
    """Retry another backend at once."""

    __match_args__: ClassVar = ("candidate",)
    __slots__ = ("asks_route", "candidate")

    def __init__(self, candidate: Candidate, *, asks_route: bool = False) -> None:
        self.candidate = candidate
        self.asks_route = asks_route
        "Whether a lookup is started in the background, because the route may be out of date."


class AskRoute:
    """Look up the route, wait for the response of the core API, then pick a backend."""

    __slots__ = ()


class WaitForSlot:
    """All backends are full: wait until one has a free slot, at most for so many seconds, then pick again."""

    __match_args__: ClassVar = ("seconds",)
    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class WaitForStart:
    """The backend is starting: retry it after so many seconds, over a new connection."""

    __match_args__: ClassVar = ("seconds",)
    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class GiveUp:
    """No further attempt. If the verdict of the cause has a status, the edge replies with it; otherwise the backend
    has responded, and its response is passed on."""

    __match_args__: ClassVar = ("cause",)
    __slots__ = ("cause", "no_token")

    def __init__(self, cause: Cause, *, no_token: bool = False) -> None:
        self.cause = cause
        self.no_token = no_token
        "Whether a retry failed only for lack of a token in the retry budget."


NextStep = SameAgain | Another | AskRoute | WaitForSlot | WaitForStart | GiveUp


class FailedAttempt:
    """The failed attempt, and the exchange so far. No part of a response was sent to the client."""

    __slots__ = (
        "age",
        "cause",
        "cold",
        "connecting",
        "earlier",
        "from_edge",
        "replayable",
        "safe",
        "status",
        "waited",
    )

    def __init__(
        self,
        cause: Cause,
        *,
        safe: bool,
        replayable: bool,
        status: int = 0,
        cold: bool = False,
        earlier: Sequence[Cause] = (),
        waited: int = 0,
        from_edge: bool = False,
        age: float = 0.0,
        connecting: float = 0.0,
    ) -> None:
        self.cause = cause
        self.status = status
        "Status of the response of the backend; 0 = there was none."
        self.cold = cold
        "Whether the backend was thought to be asleep when the attempt began."
        self.earlier = earlier
        "How the attempts before it ended, in order."
        self.waited = waited
        "Number of earlier attempts before the exchange last waited for a slot, or for a backend to start."
        self.safe = safe
        "Whether the method is GET, HEAD, OPTIONS or TRACE (RFC 9110, section 9.2.1)."
        self.replayable = replayable
        "Whether all of the body that was sent can be sent again."
        self.from_edge = from_edge
        "Whether another edge sent the request. It retries itself, and the attempts of two would multiply."
        self.age = age
        "Seconds since the request was complete."
        self.connecting = connecting
        "Seconds spent on connecting, over all attempts."


class RetryOptions:
    """The resources that a retry could use, at the time of the failure."""

    __slots__ = ("backends", "can_ask_route", "other", "queued", "slot_wait", "tokens", "usual_time")

    def __init__(
        self,
        other: Candidate | None,
        *,
        backends: int,
        can_ask_route: bool,
        tokens: float,
        slot_wait: float,
        queued: int,
        usual_time: float,
    ) -> None:
        self.other = other
        "The backend that the balancer would choose next; None = all were tried."
        self.backends = backends
        "Number of backends of the route."
        self.can_ask_route = can_ask_route
        "Whether the route is older than the failed attempt, and failures may cause another lookup now."
        self.tokens = tokens
        "Tokens in the retry budget for failures of this kind."
        self.slot_wait = slot_wait
        "Seconds for which the exchange may still wait for a slot."
        self.queued = queued
        "Requests of the environment that wait for a slot."
        self.usual_time = usual_time
        "Seconds that a response of this environment usually takes."


def goes_elsewhere(cause: Cause) -> bool:
    """Whether a retry after this failure would go to another backend. If not, none needs to be picked."""
    return VERDICTS[cause].retry is not Retry.NEVER and cause not in SAME_AGAIN


def next_step(
    failed: FailedAttempt, options: RetryOptions, retries: RetrySettings, timeouts: TimeoutSettings
) -> NextStep:
    """The next step of the exchange after this failure."""
    cause = failed.cause
    seconds = _start_wait(failed, options, retries)
    if seconds is not None:
        return WaitForStart(seconds)
    if not _may_retry(failed, retries, timeouts):
        return _give_up(failed)
    if cause in SAME_AGAIN:
        return SameAgain()
    # An exchange that has waited for a slot tries one backend at a time.
    other = None if failed.waited and cause is Cause.REFUSED else options.other
    asks_route = cause in MAY_HAVE_MOVED and options.can_ask_route
    if other is None and not asks_route:
        seconds = _slot_wait(failed, options, retries)
        if seconds is None:
            return _give_up(failed)
    # A failed connect caused no load: its retry needs no token.
    if options.tokens < 1.0 and VERDICTS[cause].retry is not Retry.ANY:
        return _give_up(failed, no_token=True)
    if seconds is not None:
        return WaitForSlot(seconds)
    return AskRoute() if other is None else Another(other, asks_route=asks_route)


def _give_up(failed: FailedAttempt, *, no_token: bool = False) -> GiveUp:
    has_status = VERDICTS[failed.cause].status
    cause = worst_cause([*failed.earlier, failed.cause]) if has_status else failed.cause
    return GiveUp(cause, no_token=no_token)


def _start_wait(failed: FailedAttempt, options: RetryOptions, retries: RetrySettings) -> float | None:
    """Seconds until a backend that this request is starting may be ready; None = it is not starting, or there is no
    time left, or another one may be up."""
    if not failed.cold or not failed.replayable or failed.age >= retries.boot:
        return None
    if failed.cause is Cause.CONNECT_FAILED and options.backends > 1:
        return None
    return boot_wait(failed.cause, failed.status, safe=failed.safe, repeats=len(failed.earlier))


def _may_retry(failed: FailedAttempt, retries: RetrySettings, timeouts: TimeoutSettings) -> bool:
    """Whether the ladder, the number of attempts and the time allow another attempt."""
    cause = failed.cause
    if failed.from_edge and cause not in SAME_AGAIN:
        return False
    if attempts_made([*failed.earlier[failed.waited :], cause]) >= retries.attempts:
        return False
    most = timeouts.connect_total * (USED_UP if cause is Cause.CONNECT_TIMEOUT else 1.0)
    if failed.age >= timeouts.deadline or failed.connecting >= most:
        return False
    return may_follow(
        VERDICTS[cause].retry,
        safe=failed.safe,
        replayable=failed.replayable,
        failed_before=spent_its_repeat(failed.earlier),
    )


def _slot_wait(failed: FailedAttempt, options: RetryOptions, retries: RetrySettings) -> float | None:
    """Seconds until the exchange retries even if no slot becomes free; None = it may not wait."""
    if failed.cause is not Cause.REFUSED or options.slot_wait <= 0.0:
        return None
    if not queue_admits(options.backends, options.queued, retries):
        return None
    return poll_after(options.usual_time, options.slot_wait)
