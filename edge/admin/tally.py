"""Counts what happened: one `record` for every request, on the hot path.

Plain integers and bucket arrays. A prometheus `Counter.inc` costs 0.5 µs and 1.3 µs with its labels, a
`Histogram.observe` up to 1.7 µs; the whole of `record` costs about as much as one of them. `metrics.py` turns
these numbers into metrics when somebody asks, every fifteen seconds or so.

Every key is a member of an enum or an HTTP status of three digits: nothing that a client can say makes the
tables grow without end.
"""

from bisect import bisect_left

from edge.rules.outcomes import Blame, Cause, Outcome, Phase

BOUNDS_MS = (0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000)
"""Upper edges of the buckets. One scale for all times: a connect takes 0.2 ms, a cold start 30 s and more."""

CORE_RESULTS = ("route", "not_modified", "unknown", "error", "timeout")
"How a question to the core API can end."

End = tuple[Blame, Phase, Cause, int]
"Who ended the exchange, where, why, and the status that the client got."


class Histogram:
    """Times, counted by bucket. The last bucket is everything above the last bound."""

    __slots__ = ("counts", "sum_ms")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_MS) + 1)
        self.sum_ms = 0.0

    def observe(self, ms: float) -> None:
        # Left: a time that equals a bound belongs to it, as the label `le` says.
        self.counts[bisect_left(BOUNDS_MS, ms)] += 1
        self.sum_ms += ms


class Tally:
    """What one worker counted since it started. Written by its event loop only."""

    __slots__ = (
        "attempts",
        "bytes_in",
        "bytes_out",
        "connect",
        "core",
        "ends",
        "first_byte",
        "resolve",
        "retries",
        "total",
    )

    def __init__(self) -> None:
        self.ends: dict[End, list[int]] = {}
        "A list of one number each: to add to it, the key is hashed once."
        self.attempts = dict.fromkeys(Cause, 0)
        self.retries = dict.fromkeys(Cause, 0)
        "By the cause for which the attempt before failed."
        self.resolve = Histogram()
        self.connect = Histogram()
        self.first_byte = Histogram()
        self.total = Histogram()
        self.bytes_in = 0
        self.bytes_out = 0
        self.core = {result: Histogram() for result in CORE_RESULTS}

    def record(self, outcome: Outcome) -> None:
        """Count one finished exchange. About 1 µs; see the benchmark in tests/admin/test_tally.py."""
        end = (outcome.blame, outcome.phase, outcome.cause, outcome.status)
        seen = self.ends.get(end)
        if seen is None:
            self.ends[end] = [1]
        else:
            seen[0] += 1
        self.bytes_in += outcome.bytes_in
        self.bytes_out += outcome.bytes_out
        attempts = outcome.attempts
        for attempt in attempts:
            self.attempts[attempt.result] += 1
        if len(attempts) > 1:
            for attempt in attempts[:-1]:
                self.retries[attempt.result] += 1
        total = self.total  # `observe`, written out: this one is on the way of every request
        total.counts[bisect_left(BOUNDS_MS, outcome.total_ms)] += 1
        total.sum_ms += outcome.total_ms
        # 0 = it did not happen: the route was cached, the connection was kept, nobody answered.
        if outcome.first_byte_ms:
            self.first_byte.observe(outcome.first_byte_ms)
        if outcome.connect_ms:
            self.connect.observe(outcome.connect_ms)
        if outcome.resolve_ms:
            self.resolve.observe(outcome.resolve_ms)

    def core_answered(self, result: str, seconds: float) -> None:
        """Count one question to the core API; `result` is one of `CORE_RESULTS`."""
        self.core[result].observe(seconds * 1_000)
