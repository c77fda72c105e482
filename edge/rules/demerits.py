"""Points against a backend: learned from its answers, relative to its neighbours, gone with time.

One point costs a factor e of the chance to be drawn. What earns points is being *slower* or *failing more
often* than the other containers of the same environment: a site whose pages all take three seconds, or all
fail, has no bad container. Points decay when they are read, so nothing needs a timer.

Never counted: a client that went away, a refusal (it is load, not sickness), a cold start.

Grave demerits, or five failures in a row, lead to probation; connects that fail lead to being down (see
`standings.py`). While fewer than half of an environment's backends are well, probation is ignored.

Method and numbers: a mean of log latencies and an error ratio per backend, both exponentially weighted; a
knee of three standard errors, so that noise earns nothing; a decay with half-life (Finagle's peak EWMA and
Envoy's outlier detection are the relatives; neither is relative to neighbours *and* free of thresholds).
"""

from collections.abc import Iterable, Sequence
from math import exp, exp2, inf, log, sqrt

from edge.rules.outcomes import VERDICTS, Cause, Charge
from edge.rules.servers import EVIDENCE
from edge.rules.settings import DemeritSettings
from edge.rules.shared_evidence import DOWN, PROBATION, UP, WELL, Evidence, SharedEvidence
from edge.rules.snapshots import ExplainedDemerit
from edge.rules.standings import MANY, RAMP, RAMP_BEGINS_AT, SEVERAL, Probation, Standing, Why

LN2 = log(2.0)
LN4 = log(4.0)
LN10 = log(10.0)
SHORTEST = 0.001
"Seconds: what is faster is as fast."
LOG_SHORTEST = log(SHORTEST)
PROBATION_STEP = 0.5
"Weight of a sample of a backend on probation: two good answers forgive, one bad one condemns."
PANIC = 0.5
"When fewer than this part are well, probation is ignored: a site that is bad as a whole has no bad container."
PANIC_WEIGHT = 0.1
SLOWEST_STEP = 0.1
"Least weight of a new sample: about 19 samples count."
PEAK_STEP = 0.3
"Weight of a sample far above the neighbours: a slow container is noticed after four."
TIMED = 3
"Answers before a backend's mean counts for its neighbours' base line."
ERROR_MARGIN = 0.05
CLEARLY_BAD = LN10
"Points that lead to probation: a tenth of its share."
SLOW_IN_A_ROW = 4
"Slow answers that it takes as well: a single one that is very slow moves the mean by as much, and is chance."
FAILURES_IN_A_ROW = 5
"Failed answers that lead to probation, however good it was before (Envoy: 5, Linkerd: 7)."
SICK_TOGETHER = 0.3
"Unless the neighbours fail in this part of their answers as well."
OTHERS_SEEN = 10.0
"Seconds after which other clients of the environment are forgotten."
DISPUTED_POINTS = LN2
"Most points for what the requests of one client show: half of its share."
CONNECTS_IN_A_ROW = 3
"Failed connects that make it down; one that timed out is enough, for the next one would cost a client as much."
SHORTEST_SILENCE = 0.5
"Seconds without any answer before a backend is thought silent."
CALM = 5.0
"Times `demerits.refresh`."
HOLDS_AT_REST = 5.0
"Seconds; as much later it is noticed that a slow one is so, when it is the others that have become quicker."
SILENT_WEIGHT = 0.1
COLD_WEIGHT = 1e-5
"So a sleeping one is woken when those awake have three or four requests each, and not by one request a minute."
FIRST_SIGMA = 0.5
"Assumed spread of log latencies until there are samples: PHP pages vary by a factor of 1.6."


class DemeritBook:
    """The standings of one environment's backends, and what they weigh against each other."""

    __slots__ = (
        "_base",
        "_common",
        "_holds",
        "_holds_at_rest",
        "_others_at",
        "_refresh",
        "_settings",
        "_shared",
        "_sigma",
        "_standings",
        "_whose",
        "on_probation",
        "panicking",
        "probe_due",
        "to_connect",
        "weighed_at",
    )

    def __init__(
        self, settings: DemeritSettings, whose: tuple[str, str] = ("", ""), shared: SharedEvidence | None = None
    ) -> None:
        """`whose`: site and environment, by which `shared` tells other workers of findings."""
        self._settings = settings
        self._refresh = settings.refresh
        self._whose = whose
        self._shared = shared or SharedEvidence()
        self._standings: dict[str, Standing] = {}
        self._sigma = FIRST_SIGMA
        self._base: float | None = None
        "Mean log latency that the quicker ones have."
        self._common = 0.0
        "Error ratio that the median has."
        self.weighed_at = -1.0
        self._holds = self._holds_at_rest = 0.0
        "Seconds for which the weights hold; the same while nobody is asked anything."
        self._others_at = -inf
        "When a client other than the one whose requests went wrong was seen last."
        self.panicking = False
        "Whether so few are well that probation is ignored."
        self.to_connect: set[Standing] = set()
        "Those that are down, and nobody connects to them: the next request of a route with them sees to that."
        self.probe_due = inf
        "When the next probe of any of them is due; inf = nobody is on probation."
        self.on_probation = 0
        "How many are, and get nothing, as of the last weighing."

    def obey(self, settings: DemeritSettings) -> None:
        """Judge by these settings what is known."""
        self._settings = settings
        self._refresh = settings.refresh
        self.weighed_at = -1.0

    def standing(self, backend_id: str, place: str = "", *, asleep: bool = False) -> Standing:
        """The standing of a backend, new if it is not known. One that joins others that have answered, or moves to
        another place, begins on probation: what has just been started may be slow at first. Not so one that is
        asleep: let it sleep."""
        standing = self._standings.get(backend_id)
        if standing is None:
            standing = self._standings[backend_id] = Standing()
        if standing.place != place:
            standing.place = place
            standing.down_since = standing.until = 0.0
            standing.unreachable = 0
            standing.probation = None if asleep or self._base is None else Probation(Why.NEW, 0.0, 0.5)
            self.weighed_at = -1.0
            if heard := self._shared.recall(*self._whose, place):
                self.hear(*heard, 0.5)
        if standing.asleep != asleep:
            standing.asleep = asleep
            self.weighed_at = -1.0
        return standing

    def keep_only(self, backend_ids: Iterable[str]) -> None:
        """Forget backends that are neither among these nor busy."""
        wanted = set(backend_ids)
        self._standings = {
            name: standing for name, standing in self._standings.items() if name in wanted or standing.in_flight
        }
        self.to_connect.intersection_update(self._standings.values())
        self.weighed_at = -1.0

    def forget(self) -> None:
        """What was learned is out of date: nothing was asked for long."""
        self._sigma, self._base, self._common = FIRST_SIGMA, None, 0.0
        for standing in self._standings.values():
            standing.forget()
            self.connect_at_next_request(standing)
        self.weighed_at = -1.0

    def connect_at_next_request(self, standing: Standing) -> None:
        """Nobody connects in the background any more, though it may be down: whoever is next asked for its site has
        that begun again."""
        if standing.down_since and standing in self._standings.values():
            self.to_connect.add(standing)
            self.weighed_at = -1.0

    # What happened to an attempt

    def answered(self, standing: Standing, latency: float, now: float) -> bool:
        """A good answer, `latency` seconds after the request was written. Returns whether it speaks against the
        backend, as one that is slow does: then somebody should say whose request it was (`note_witness`)."""
        x = self._sample(standing, latency, now)
        standing.until = 0.0
        standing.failures = standing.unreachable = 0
        probation = standing.probation
        if standing.error:
            standing.error -= standing.error * (PROBATION_STEP if probation is not None else SLOWEST_STEP)
        if standing.down_since:
            self.reconnected(standing, now, 0.5)
        elif probation is not None:
            self._judge(standing, probation, x, now)
        return standing.slow > 0

    def note_witness(self, standing: Standing, client: str, now: float, *, alone: bool, first: bool) -> None:
        """A request of this client speaks against this backend: it was slow, or failed. `alone`: nobody else is
        known to ask for this environment. `first`: the first in a row that does.

        What the requests of one client show may be the fault of these requests: while there are others, who do not
        suffer, it costs the backend a part of its share and never all of it.
        """
        if not alone:
            self._others_at = now
        if first:
            standing.witness = client
        elif standing.witness != client:
            standing.witness = SEVERAL

    def _is_disputed(self, standing: Standing, now: float) -> bool:
        return bool(standing.witness) and now - self._others_at < OTHERS_SEEN

    def late(self, standing: Standing, waited: float, now: float) -> None:
        """No answer to a probe within `waited` seconds: it takes at least so long."""
        self._sample(standing, waited, now)
        if standing.probation is not None:
            self._struck(standing.probation, now)

    def _sample(self, standing: Standing, latency: float, now: float) -> float:
        """Learn this time to the first answer byte; returns its logarithm."""
        # On the way of every request: what is read twice is a local, and nothing is called but log.
        x = log(latency) if latency > SHORTEST else LOG_SHORTEST
        samples, mean, sigma = standing.samples, standing.mean, self._sigma
        above = x - self._base if self._base is not None else 0.0
        step = 1.0 / (samples + 1)
        if step < SLOWEST_STEP:
            step = SLOWEST_STEP
        if step < PEAK_STEP and above > 2.0 * sigma:
            step = PEAK_STEP
        if standing.probation is not None:
            if step < PROBATION_STEP:
                step = PROBATION_STEP
        elif samples >= 5:
            off = x - mean if x > mean else mean - x
            self._sigma = sigma = sigma + 0.02 * (1.25 * off - sigma)
        if above > LN2:
            standing.slow = standing.slow + 1 if above > sigma else 0
            self._hold(calm=False)
        else:
            standing.slow = 0
        standing.mean = mean + step * (x - mean)
        standing.samples = samples + 1
        standing.answered_at = standing.heard_at = now
        return x

    def woke(self, standing: Standing, now: float) -> None:
        """The answer to a cold start: it is awake, and that is all we know."""
        standing.heard_at = now
        standing.failures = standing.unreachable = 0
        standing.until = 0.0
        standing.asleep = standing.cold = False
        if standing.down_since:
            self.reconnected(standing, now, 0.5)

    def charge(self, standing: Standing, cause: Cause, now: float, *, rand: float, pause: float = 0.0) -> None:
        """What a failed attempt costs, by its row in VERDICTS. `pause`: the seconds that a refusal asked for."""
        match VERDICTS[cause].charge:
            case Charge.ERROR:
                self.failed(standing, cause, now, rand)
            case Charge.UNREACHABLE:
                self.unreachable(standing, cause, now, rand)
            case Charge.REST:
                self.refused(standing, pause, now)

    def failed(self, standing: Standing, cause: Cause, now: float, rand: float = 0.5) -> None:
        """An answer that counts as an error, or none."""
        probation = standing.probation
        # A first answer that fails is a bad beginning, not a ratio of one.
        step = max(SLOWEST_STEP, 1.0 / (standing.samples + 1 + TIMED))
        if probation is not None:
            step = PROBATION_STEP
        remains = self._decayed(standing.error, standing.error_at, now)
        standing.error = remains + (1.0 - remains) * step
        standing.error_at = standing.heard_at = now
        standing.last_error = cause
        standing.failures += 1
        self._hold(calm=False)
        if probation is not None:
            self._struck(probation, now)
        elif (
            standing.failures >= FAILURES_IN_A_ROW
            and self._common < SICK_TOGETHER
            and not self._is_disputed(standing, now)
        ):
            self._to_probation(standing, Why.FAILING, now, rand)
            self.weighed_at = -1.0

    def unreachable(self, standing: Standing, cause: Cause, now: float, rand: float) -> None:
        """A connection could not be made. Rests for 10 ms, doubled each time in a row up to a second; down after
        the third time, or when the connect timed out."""
        standing.unreachable += 1
        standing.until = now + min(0.01 * exp2(min(standing.unreachable, 10)), 1.0) * (0.5 + rand)
        standing.last_error = cause
        if cause in EVIDENCE or standing.unreachable >= CONNECTS_IN_A_ROW:
            self.goes_down(standing, now)

    def refused(self, standing: Standing, pause: float, now: float) -> None:
        """It is full, and asked not to be bothered for `pause` seconds (0 = it did not)."""
        standing.heard_at = now
        if pause:
            standing.until = max(standing.until, now + pause)
        if standing.probation is not None:
            self._struck(standing.probation, now)

    def goes_down(self, standing: Standing, now: float) -> None:
        """No request goes there until a connection could be made in the background."""
        if not standing.down_since:
            standing.down_since = now
            self._tell(DOWN, standing)
        standing.weight = 0.0
        self.weighed_at = -1.0

    def reconnected(self, standing: Standing, now: float, rand: float) -> None:
        """A connection could be made to one that was down."""
        standing.down_since = standing.until = 0.0
        self.weighed_at = -1.0
        if standing.unreachable:  # else its server was suspect, and it had done nothing
            standing.unreachable = 0
            self._tell(UP, standing)
            standing.probation = Probation(Why.BACK, now, rand)
            standing.weight = standing.recovered_at = 0.0

    # Probation

    def _to_probation(self, standing: Standing, why: Why, now: float, rand: float) -> None:
        standing.probation = Probation(why, now, rand)
        standing.weight = standing.recovered_at = 0.0
        self._tell(PROBATION, standing, why.value)

    def _judge(self, standing: Standing, probation: Probation, x: float, now: float) -> None:
        """Does this answer speak for it?"""
        base = self._base
        if base is not None and x - base > self._tolerance:
            self._struck(probation, now)
        elif probation.record_good_response(now) and (base is None or standing.mean - base <= self._knee(standing)):
            self._acquit(standing, now)
            self._tell(WELL, standing)
        self.weighed_at = -1.0

    def _acquit(self, standing: Standing, now: float) -> None:
        standing.probation = None
        standing.error = min(standing.error, self._common)
        standing.recovered_at = now

    def _struck(self, probation: Probation, now: float) -> None:
        probation.record_bad_response(now)
        self.weighed_at = -1.0

    @property
    def _tolerance(self) -> float:
        """How far above the base line, in log seconds, an answer to a probe may be."""
        return max(LN4, 1.6 * self._sigma)

    @property
    def usual(self) -> float:
        """Seconds that an answer of a good backend takes, as far as that is known."""
        return exp(self._base) if self._base is not None else 0.1

    @property
    def probe_patience(self) -> float:
        """Seconds after which an answer to a probe would come too late to be a good one."""
        return exp(self._base + self._tolerance) if self._base is not None else 10.0

    # What other workers found out

    def hear(self, evidence: Evidence, now: float, rand: float) -> None:
        """Believe it, if it is news and about a backend that is here, and still where it was."""
        standing = self._standings.get(evidence.place.rpartition("@")[0])
        if standing is None or standing.place != evidence.place:
            return
        if evidence.what == DOWN and not standing.down_since:
            standing.down_since, standing.unreachable = now, standing.unreachable or 1
            self.to_connect.add(standing)
        elif evidence.what == UP and standing.down_since:
            standing.down_since = standing.until = 0.0
            standing.unreachable = 0
            standing.probation = Probation(Why.BACK, now, rand)
        elif evidence.what == PROBATION and standing.is_well:
            standing.probation = Probation(Why(evidence.why), now, rand, heard=True)
        elif evidence.what == WELL and standing.probation is not None:
            self._acquit(standing, now)
            standing.slow = standing.failures = 0
            if self._base is not None:
                standing.mean = min(standing.mean, self._base)
        self.weighed_at = -1.0

    def _tell(self, what: str, standing: Standing, why: str = "") -> None:
        self._shared.tell(Evidence(what, *self._whose, standing.place, why))

    # What it comes to

    def _hold(self, *, calm: bool) -> None:
        self._holds = CALM * self._refresh if calm else self._refresh
        self._holds_at_rest = HOLDS_AT_REST if calm else self._refresh

    def weigh(self, standings: Sequence[Standing], now: float, rand: float = 0.5, *, busy: bool = True) -> None:
        """Bring the weights of these standings up to date, at most every `demerits.refresh` seconds. `busy`: an
        answer of any of them is awaited.

        While all are well, and no slow or failed answer comes, only silence can change a weight soon: they hold for
        CALM times as long, and for HOLDS_AT_REST seconds as long as nobody is asked anything.
        """
        if 0.0 <= now - self.weighed_at < (self._holds if busy else self._holds_at_rest):
            return
        self.weighed_at = now
        # Where environments are many, each request may come here: few passes, and no call for those that are well.
        means, failing = [], False
        for standing in standings:
            if standing.samples >= TIMED and standing.probation is None and not standing.down_since:
                means.append(standing.mean)
            if standing.error:
                failing = True
        # One on probation is no measure for the others, unless there is no other.
        means = means or [s.mean for s in standings if s.samples >= TIMED and not s.down_since]
        means.sort()
        self._base = base = means[(len(means) - 1) // 4] if means else None
        self._common = self._decayed_median(standings, now) if failing else 0.0
        self.probe_due, self.on_probation = inf, 0
        quick, awake = LN2 if base is None else base + LN2, now - self._settings.idle_after
        others: list[Standing] = []
        for standing in standings:
            if (
                standing.mean <= quick
                and standing.heard_at > awake
                and not standing.error
                and (not standing.waiting or now - standing.heard_at < SHORTEST_SILENCE)
                and standing.probation is None
                and not (standing.down_since or standing.recovered_at or standing.asleep)
                and (standing.server is None or not standing.server.suspect_since)
            ):  # most of them, most of the time
                standing.points_latency = standing.points_errors = 0.0
                standing.weight = 1.0
                standing.silent = standing.cold = False
            else:
                others.append(standing)
        if not others:
            self._hold(calm=len(standings) <= MANY)
            self.panicking = False
            return
        self._hold(calm=False)
        for standing in others:
            self._weigh_one(standing, now, rand)
        ill = len(others) - sum(standing.is_well for standing in others)
        self.panicking = len(standings) - ill < PANIC * len(standings)
        for standing in standings:
            if standing.down_since:
                standing.weight = 0.0
            elif self.panicking:
                standing.weight = max(standing.weight, PANIC_WEIGHT)
            elif standing.probation is not None:
                standing.weight = 0.0
                self.on_probation += 1
                if not standing.probation.probing and standing.probation.due < self.probe_due:
                    self.probe_due = standing.probation.due

    def _weigh_one(self, standing: Standing, now: float, rand: float) -> None:
        server = standing.server
        if server is not None and server.suspect_since and not standing.down_since:
            standing.down_since = now
            self.to_connect.add(standing)
        standing.points_latency = self._latency_points(standing, now)
        standing.points_errors = self._error_points(standing, now) if standing.error else 0.0
        points = standing.points_latency + standing.points_errors
        if points > DISPUTED_POINTS and self._is_disputed(standing, now):
            standing.points_latency *= DISPUTED_POINTS / points
            standing.points_errors *= DISPUTED_POINTS / points
            points = DISPUTED_POINTS
        if points > CLEARLY_BAD and standing.is_well:
            if standing.points_errors > standing.points_latency:
                self._to_probation(standing, Why.FAILING, now, rand)
            elif standing.slow >= min(SLOW_IN_A_ROW, standing.samples):
                self._to_probation(standing, Why.SLOW, now, rand)
        elif standing.probation is not None and self._is_like_the_others(standing, standing.probation):
            standing.probation = None
            self._tell(WELL, standing)
        standing.weight = exp(-points) if points else 1.0
        standing.silent = standing.waiting > 0 and not standing.cold and self._is_silent(standing, now)
        if standing.silent:
            standing.weight *= SILENT_WEIGHT
        if standing.recovered_at:
            grown = (now - standing.recovered_at) / RAMP
            if grown < 1.0:
                standing.weight *= RAMP_BEGINS_AT + (1.0 - RAMP_BEGINS_AT) * grown
            else:
                standing.recovered_at = 0.0
        quiet = standing.heard_at and now - standing.heard_at > self._settings.idle_after
        standing.cold = standing.asleep or bool(quiet)
        if standing.cold:
            standing.weight *= COLD_WEIGHT

    def _is_silent(self, standing: Standing, now: float) -> bool:
        """Whether it should have said something by now."""
        patience = max(SHORTEST_SILENCE, exp((self._base or 0.0) + 3.0 * self._sigma))
        return now - max(standing.heard_at, standing.waiting_since) > patience

    def _is_like_the_others(self, standing: Standing, probation: Probation) -> bool:
        """Whether its neighbours have become as slow, or fail as much, as it was found to."""
        if probation.heard:
            return False
        if probation.why is Why.FAILING:
            return standing.error <= self._common + ERROR_MARGIN
        if probation.why is not Why.SLOW:
            return False
        return not standing.points_latency and not standing.points_errors

    def _knee(self, standing: Standing) -> float:
        return max(LN2, 3.0 * self._sigma / sqrt(min(max(standing.samples, 1), 19)))

    def _latency_points(self, standing: Standing, now: float) -> float:
        if self._base is None or standing.mean <= self._base or not standing.samples:
            return 0.0
        excess = standing.mean - self._base
        if standing.probation is None:
            excess = self._decayed(excess, standing.answered_at, now)
        return self._settings.latency_power * max(0.0, excess - self._knee(standing))

    def _error_points(self, standing: Standing, now: float) -> float:
        excess = self._decayed(standing.error, standing.error_at, now) - self._common - ERROR_MARGIN
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
