"""Points against a backend: learned from its answers, relative to its neighbours, gone with time.

One point costs a factor e of the chance to be drawn. What earns points is being *slower* or *failing more
often* than the other containers of the same environment: a site whose pages all take three seconds, or all
fail, has no bad container. Points decay when they are read, so nothing needs a timer.

Never counted: a client that went away, a refusal (it is load, not sickness), a cold start.

Method and numbers: a mean of log latencies and an error ratio per backend, both exponentially weighted; a
knee of three standard errors, so that noise earns nothing; a decay with half-life (Finagle's peak EWMA and
Envoy's outlier detection are the relatives; neither is relative to neighbours *and* free of thresholds).
"""

from collections.abc import Iterable, Sequence
from math import exp, exp2, log, sqrt

from edge.rules.outcomes import VERDICTS, Cause, Charge
from edge.rules.settings import DemeritSettings
from edge.rules.snapshots import ExplainedDemerit

LN2 = log(2.0)
LN10 = log(10.0)
TRIAL_STEP = 0.5
"Weight of a sample of a backend on trial: two good answers forgive, one bad one condemns."
PANIC = 0.5
"When more than this part is on trial, nobody is: a site that is bad as a whole has no bad container."
PANIC_WEIGHT = 0.1
SLOWEST_STEP = 0.1
"Least weight of a new sample: about 19 samples count."
PEAK_STEP = 0.3
"Weight of a sample far above the neighbours: a slow container is noticed after four."
TIMED = 3
"Answers before a backend's mean counts for its neighbours' base line."
ERROR_MARGIN = 0.05
CLEARLY_BAD = LN10
"Points from which a backend counts as demerited: a tenth of its share."
FIRST_SIGMA = 0.5
"Assumed spread of log latencies until there are samples: PHP pages vary by a factor of 1.6."


class Standing:
    """What is known of one backend, by its id. Outlives the refresh of its route."""

    __slots__ = (
        "answered_at",
        "error",
        "error_at",
        "in_flight",
        "last_error",
        "mean",
        "on_trial",
        "points_errors",
        "points_latency",
        "samples",
        "unreachable",
        "until",
        "weight",
    )

    def __init__(self) -> None:
        self.in_flight = 0
        "Requests it has now, counted from the pick."
        self.mean = 0.0
        "Mean of ln(seconds to the first answer byte)."
        self.samples = 0
        self.answered_at = 0.0
        self.error = 0.0
        "Ratio of failed answers, 0 to 1, as of `error_at`."
        self.error_at = 0.0
        self.last_error: Cause | None = None
        self.unreachable = 0
        "Failed connects in a row."
        self.until = 0.0
        "Rests until then: unreachable, or full with a Retry-After."
        self.on_trial = False
        "It earned grave demerits: nothing for it until enough of them have decayed; then its next answers decide."
        self.weight = 1.0
        self.points_latency = 0.0
        self.points_errors = 0.0

    @property
    def typical(self) -> float:
        """Geometric mean time to the first answer byte, seconds."""
        return exp(self.mean)

    @property
    def points(self) -> float:
        """Demerits as of the last weighing."""
        return self.points_latency + self.points_errors


class DemeritBook:
    """The standings of one environment's backends, and what they weigh against each other."""

    __slots__ = ("_base", "_settings", "_sigma", "_standings", "_weighed_at")

    def __init__(self, settings: DemeritSettings) -> None:
        self._settings = settings
        self._standings: dict[str, Standing] = {}
        self._sigma = FIRST_SIGMA
        self._base: float | None = None
        self._weighed_at = -1.0

    def obey(self, settings: DemeritSettings) -> None:
        """Judge by these settings what is known."""
        self._settings = settings
        self._weighed_at = -1.0

    def standing(self, backend_id: str) -> Standing:
        """The standing of a backend, new if it is not known."""
        standing = self._standings.get(backend_id)
        if standing is None:
            standing = self._standings[backend_id] = Standing()
        return standing

    def keep_only(self, backend_ids: Iterable[str]) -> None:
        """Forget backends that are neither among these nor busy."""
        wanted = set(backend_ids)
        self._standings = {
            name: standing for name, standing in self._standings.items() if name in wanted or standing.in_flight
        }
        self._weighed_at = -1.0

    # What happened to an attempt

    def answered(self, standing: Standing, latency: float, now: float) -> None:
        """A good answer, `latency` seconds after the request was written."""
        x = log(latency) if latency > 0.001 else log(0.001)
        step = 1.0 / (standing.samples + 1)
        if step < SLOWEST_STEP:
            step = SLOWEST_STEP
        if self._base is not None and step < PEAK_STEP and x - self._base > 2.0 * self._sigma:
            step = PEAK_STEP
        if standing.on_trial:
            step = TRIAL_STEP
        elif standing.samples >= 5:
            self._sigma += 0.02 * (1.25 * abs(x - standing.mean) - self._sigma)
        standing.mean += step * (x - standing.mean)
        standing.samples += 1
        standing.answered_at = now
        if standing.error:
            standing.error -= standing.error * (TRIAL_STEP if standing.on_trial else SLOWEST_STEP)
        standing.unreachable = 0
        standing.until = 0.0

    def charge(self, standing: Standing, cause: Cause, now: float, *, rand: float, pause: float = 0.0) -> None:
        """What a failed attempt costs, by its row in VERDICTS. `pause`: the seconds that a refusal asked for."""
        match VERDICTS[cause].charge:
            case Charge.ERROR:
                self.failed(standing, cause, now)
            case Charge.UNREACHABLE:
                self.unreachable(standing, cause, now, rand)
            case Charge.REST if pause:
                self.rests(standing, pause, now)

    def failed(self, standing: Standing, cause: Cause, now: float) -> None:
        """An answer that counts as an error, or none."""
        step = TRIAL_STEP if standing.on_trial else max(SLOWEST_STEP, 1.0 / (standing.samples + 1))
        remains = self._decayed(standing.error, standing.error_at, now)
        standing.error = remains + (1.0 - remains) * step
        standing.error_at = now
        standing.last_error = cause

    def unreachable(self, standing: Standing, cause: Cause, now: float, rand: float) -> None:
        """A connection could not be made. Rests for 10 ms, doubled each time in a row up to a second; five
        times as long when the connect timed out, because the next client would pay for the attempt."""
        standing.unreachable += 1
        rest = min(0.01 * exp2(min(standing.unreachable, 10)), 1.0) * (0.5 + rand)
        if cause is Cause.CONNECT_TIMEOUT:
            rest = max(rest * 5.0, 1.0)
        standing.until = now + rest
        standing.last_error = cause

    def rests(self, standing: Standing, seconds: float, now: float) -> None:
        """It refused, and asked not to be bothered for a while."""
        standing.until = max(standing.until, now + seconds)

    # What it comes to

    def weigh(self, standings: Sequence[Standing], now: float) -> None:
        """Bring the weights of these standings up to date, at most every `demerits.refresh` seconds."""
        if 0.0 <= now - self._weighed_at < self._settings.refresh:
            return
        self._weighed_at = now
        means = sorted(s.mean for s in standings if s.samples >= TIMED)
        self._base = means[(len(means) - 1) // 4] if means else None
        errors = sorted(s.error for s in standings)
        common = self._decayed_median(standings, now) if errors and errors[-1] else 0.0
        shunned: list[Standing] = []
        for standing in standings:
            standing.points_latency = self._latency_points(standing, now)
            standing.points_errors = self._error_points(standing, common, now) if standing.error else 0.0
            points = standing.points_latency + standing.points_errors
            standing.weight = exp(-points) if points else 1.0
            if points >= CLEARLY_BAD:
                standing.on_trial = True
                shunned.append(standing)
            elif not points and standing.on_trial and self._is_forgiven(standing, common):
                standing.on_trial = False
        if len(shunned) <= PANIC * len(standings):
            for standing in shunned:
                standing.weight = 0.0
        else:
            for standing in standings:
                standing.weight = max(standing.weight, PANIC_WEIGHT)

    def _is_forgiven(self, standing: Standing, common: float) -> bool:
        """Whether its answers, not time alone, say that it is well."""
        timed = self._base is not None and standing.samples > 0
        slow = timed and standing.mean - (self._base or 0.0) > self._knee(standing)
        return not slow and standing.error - common <= ERROR_MARGIN

    def _knee(self, standing: Standing) -> float:
        return max(LN2, 3.0 * self._sigma / sqrt(min(standing.samples, 19)))

    def _latency_points(self, standing: Standing, now: float) -> float:
        if self._base is None or standing.mean <= self._base or not standing.samples:
            return 0.0
        excess = self._decayed(standing.mean - self._base, standing.answered_at, now)
        return self._settings.latency_power * max(0.0, excess - self._knee(standing))

    def _error_points(self, standing: Standing, common: float, now: float) -> float:
        excess = self._decayed(standing.error, standing.error_at, now) - common - ERROR_MARGIN
        return self._settings.error_points * max(0.0, excess)

    def _decayed_median(self, standings: Sequence[Standing], now: float) -> float:
        errors = sorted(self._decayed(s.error, s.error_at, now) for s in standings)
        return errors[(len(errors) - 1) // 2]

    def _decayed(self, value: float, since: float, now: float) -> float:
        return value * exp2((since - now) / self._settings.half_life)


def explain_demerits(standing: Standing, now: float) -> list[ExplainedDemerit]:
    """Why this backend gets less than its share, the heaviest first. Weigh before."""
    demerits = []
    if standing.points_latency:
        age = now - standing.answered_at
        demerits.append(ExplainedDemerit("slower than its neighbours", standing.points_latency, age))
    if standing.points_errors:
        cause = standing.last_error or Cause.GATEWAY_ERROR
        demerits.append(ExplainedDemerit(cause.value, standing.points_errors, now - standing.error_at))
    return sorted(demerits, key=lambda d: -d.points)
