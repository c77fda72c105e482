"""The times at which certificates are renewed, and failed orders retried. Times are seconds since the epoch."""

from typing import Final

MINUTE: Final = 60.0
HOUR: Final = 3600.0
DAY: Final = 86_400.0
SHORTEST_RETRY: Final = 5 * MINUTE
"""Seconds after the first failed order of a name; doubled with each further one. Let's Encrypt allows five failed
proofs of a name in an hour: this is four."""
LONGEST_RETRY: Final = 12 * HOUR
SHORTEST_PAUSE: Final = 2.0
"Seconds without orders after the authority could not be reached; doubled with each further time."
LONGEST_PAUSE: Final = 10 * MINUTE
MOST_RETRY_AFTER: Final = 7 * DAY
"Seconds of Retry-After that are believed."
ARI_PERIOD: Final = 6 * HOUR
"Seconds between two requests for renewal information, unless the authority says otherwise (RFC 9773, 4.3.3)."
SHORTEST_ARI, LONGEST_ARI = 10 * MINUTE, DAY
"Bounds of what the authority says."


def _jittered(seconds: float, rand: float) -> float:
    return seconds * (0.75 + rand / 2)


def retry_pause(failures: int, rand: float, retry_after: float = 0.0) -> float:
    """Seconds until a name is ordered again after so many failures in a row: doubled each time, with a jitter of a
    quarter either way, and never less than the authority asks for. `rand`: 0 to 1."""
    pause = min(LONGEST_RETRY, SHORTEST_RETRY * 2.0 ** min(failures - 1, 20))
    return max(_jittered(pause, rand), min(retry_after, MOST_RETRY_AFTER))


def authority_pause(failures: int, rand: float, retry_after: float = 0.0) -> float:
    """Seconds without any order after the authority has failed so many times in a row."""
    pause = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2.0 ** min(failures - 1, 20))
    return max(_jittered(pause, rand), min(retry_after, MOST_RETRY_AFTER))


def renewal_time(not_before: float, not_after: float, rand: float) -> float:
    """When a certificate is renewed if the authority does not say: after two thirds of its life, and up to a
    thirtieth later, so that those that were issued together are not renewed together."""
    life = max(0.0, not_after - not_before)
    return not_before + life * (2 / 3 + rand / 30)


def time_in_window(start: float, end: float, rand: float, not_after: float) -> float:
    """When a certificate is renewed whose authority suggests this window (RFC 9773, section 4.2): at any time in
    it, but not later than its end of life."""
    return min(start + max(0.0, end - start) * rand, not_after)


def next_renewal_check(now: float, retry_after: float | None) -> float:
    """When the authority is asked again when to renew. `retry_after`: seconds, as it says; None = it does not."""
    seconds = ARI_PERIOD if retry_after is None else min(max(retry_after, SHORTEST_ARI), LONGEST_ARI)
    return now + seconds
