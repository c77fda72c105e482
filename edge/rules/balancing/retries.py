"""The rules for retries: the refusal ladder and the retry budgets.

The ladder decides by what is *known* about the failed attempt (RFC 9110, section 9.2.2: a proxy must not repeat a
request that may have been processed, unless its method is safe). The budgets keep many refusals from multiplying
the load; they are token buckets per environment, filled by its own requests and by time, so the retries of one site
cost tokens of that site only (Finagle's RetryBudget; Brooker, "Fixing retries with token buckets and circuit
breakers").
"""

from collections.abc import Sequence
from typing import Final

from edge.rules.outcomes import VERDICTS, Cause, Retry
from edge.rules.settings import RetrySettings


def may_follow(retry: Retry, *, safe: bool, replayable: bool, failed_before: bool) -> bool:
    """Whether the ladder allows another attempt.

    `safe`: the method is GET, HEAD, OPTIONS or TRACE. `replayable`: every body byte that was sent can be sent
    again. `failed_before`: a SAFE_ONLY failure was already followed by another attempt; only one is allowed.
    """
    if retry is Retry.NEVER:
        return False
    if retry is Retry.SAFE_ONLY:
        return safe and replayable and not failed_before
    return replayable


FIRST_BOOT_WAIT: Final = 0.1
LONGEST_BOOT_WAIT: Final = 1.0
"Seconds."
_BOOTING: Final = frozenset({Cause.GATEWAY_ERROR, Cause.SERVER_ERROR, Cause.CLOSED_EARLY})


def boot_wait(cause: Cause, status: int, *, safe: bool, repeats: int) -> float | None:
    """Seconds until a request is sent again to a backend that is starting; None = it is not sent again.

    The nginx of a container is up before its php-fpm, and until then it sends 502 or 503, or closes the connection.
    If nothing listens there is no response at all, and the request can be sent again whatever its method.
    `repeats`: how often it was sent again already.
    """
    not_ready = cause in _BOOTING and status in (0, 502, 503) and safe
    if cause is Cause.CONNECT_FAILED or not_ready:
        return min(FIRST_BOOT_WAIT * 2.0 ** min(repeats, 10), LONGEST_BOOT_WAIT)
    return None


def spent_its_repeat(causes: Sequence[Cause]) -> bool:
    """Whether one of these earlier failures was a SAFE_ONLY one that was followed by another attempt.

    An idle connection that was closed does not count: its retry goes to the same backend, and when that one is
    failing (its listening socket still accepts connections, then resets them) a retry at another backend must still
    be possible.
    """
    return any(VERDICTS[c].retry is Retry.SAFE_ONLY and c is not Cause.STALE_CONNECTION for c in causes)


def worst_cause(causes: Sequence[Cause]) -> Cause:
    """The cause that is reported to the client after several failures: REFUSED if it is among them; else the
    last."""
    return Cause.REFUSED if Cause.REFUSED in causes else causes[-1]


def attempts_made(causes: Sequence[Cause]) -> int:
    """Number of these attempts that count against `retries.attempts`. A failed connect does not: no request was
    sent, and its cost is time, which `timeouts.connect_total` bounds."""
    return sum(VERDICTS[cause].retry is not Retry.ANY for cause in causes)


class TokenBucket:
    """A token bucket, filled by requests and by time up to `cap`. It is refilled when it is read."""

    __slots__ = ("_cap", "_per_request", "_per_second", "_requests", "_since", "_tokens")

    def __init__(self, *, per_request: float, per_second: float, cap: float, now: float) -> None:
        self._per_request = per_request
        self._per_second = per_second
        self._cap = cap
        self._tokens = cap
        self._requests = 0
        self._since = now

    def reconfigure(self, *, per_request: float, per_second: float, cap: float) -> None:
        """Change the rates and the cap; the tokens stay."""
        self._per_request = per_request
        self._per_second = per_second
        self._cap = cap

    def tokens(self, requests: int, now: float) -> float:
        """Number of tokens after `requests` requests in total."""
        added = (requests - self._requests) * self._per_request + (now - self._since) * self._per_second
        return min(self._cap, self._tokens + added)

    def take(self, requests: int, now: float) -> bool:
        """Take one token. Returns False if there is none."""
        self._tokens = self.tokens(requests, now)
        self._requests = requests
        self._since = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class RetryBudget:
    """The two token buckets of one environment: one for refusals and other unprocessed requests, one for other
    failures."""

    __slots__ = ("_failed", "_unprocessed", "exhausted")

    def __init__(self, settings: RetrySettings, now: float) -> None:
        self._unprocessed = TokenBucket(
            per_request=settings.unprocessed_ratio,
            per_second=settings.unprocessed_per_second,
            cap=settings.unprocessed_cap,
            now=now,
        )
        self._failed = TokenBucket(
            per_request=settings.failed_ratio,
            per_second=settings.failed_per_second,
            cap=settings.failed_cap,
            now=now,
        )
        self.exhausted = 0
        "Retries that were not made because no token was left."

    def reconfigure(self, settings: RetrySettings) -> None:
        """Change rates and caps; the tokens stay."""
        self._unprocessed.reconfigure(
            per_request=settings.unprocessed_ratio,
            per_second=settings.unprocessed_per_second,
            cap=settings.unprocessed_cap,
        )
        self._failed.reconfigure(
            per_request=settings.failed_ratio, per_second=settings.failed_per_second, cap=settings.failed_cap
        )

    def tokens(self, retry: Retry, requests: int, now: float) -> float:
        """Number of tokens for retries after failures of this class."""
        return self._bucket(retry).tokens(requests, now)

    def take_token(self, retry: Retry, requests: int, now: float) -> bool:
        """Take a token for one more attempt after a failure of this class. Returns False, and counts that, when
        there is none."""
        if self._bucket(retry).take(requests, now):
            return True
        self.record_exhausted()
        return False

    def record_exhausted(self) -> None:
        """Count a retry that was not made because no token was left."""
        self.exhausted += 1

    def _bucket(self, retry: Retry) -> TokenBucket:
        return self._failed if retry is Retry.SAFE_ONLY else self._unprocessed
