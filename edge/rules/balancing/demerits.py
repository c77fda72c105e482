"""Points against a backend: learned from its answers, relative to its neighbours, gone with time.

One point costs a factor e of the chance to be drawn. What earns points is being *slower* or *failing more
often* than the other containers of the same environment: a site whose pages all take three seconds, or all
fail, has no bad container. Points decay when they are read, so nothing needs a timer.

Never counted: a client that went away, a refusal (it is load, not sickness), a cold start.

Grave demerits, or five failures in a row, lead to probation; connects that fail lead to being down (see
`probation.py`). While fewer than half of an environment's backends are well, probation is ignored.

Method (`scoring.py`): a mean of log latencies and an error ratio per backend, both exponentially weighted; a knee
of three standard errors, so that noise earns nothing; a decay with half-life. Finagle's peak EWMA and Envoy's
outlier detection are the relatives; neither is relative to neighbours *and* free of thresholds.
"""

from collections.abc import Iterable, Sequence
from math import exp, exp2, inf, log

from edge.rules.balancing import scoring
from edge.rules.balancing.backend_state import MANY, SEVERAL, SLOW_START, BackendState, Probation, Why
from edge.rules.balancing.health_events import HealthEvents
from edge.rules.balancing.health_records import HealthEvent
from edge.rules.balancing.probation import HealthTransitions, adopt, is_like_the_others
from edge.rules.balancing.scoring import (
    FIRST_SIGMA,
    LN2,
    LN10,
    LOG_SHORTEST,
    PEAK_STEP,
    PROBATION_STEP,
    SHORTEST,
    SHORTEST_SILENCE,
    SLOWEST_STEP,
    TIMED,
)
from edge.rules.balancing.server_failures import EVIDENCE
from edge.rules.outcomes import VERDICTS, Cause, Charge
from edge.rules.settings import DemeritSettings

PANIC = 0.5
"When fewer than this part are well, probation is ignored: a site that is bad as a whole has no bad container."
PANIC_WEIGHT = 0.1
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
CALM = 5.0
"Times `demerits.refresh`."
HOLDS_AT_REST = 5.0
"Seconds; as much later it is noticed that a slow one is so, when it is the others that have become quicker."
SILENT_WEIGHT = 0.1
COLD_WEIGHT = 1e-5
"So a sleeping one is woken when those awake have three or four requests each, and not by one request a minute."


class Demerits:
    """The standings of one environment's backends, and what they weigh against each other."""

    __slots__ = (
        "_base",
        "_common",
        "_holds",
        "_holds_at_rest",
        "_others_at",
        "_refresh",
        "_settings",
        "_sigma",
        "_standings",
        "_transitions",
        "on_probation",
        "panicking",
        "probe_due",
        "to_connect",
        "weighed_at",
    )

    def __init__(
        self, settings: DemeritSettings, whose: tuple[str, str] = ("", ""), shared: HealthEvents | None = None
    ) -> None:
        """`whose`: site and environment, by which `shared` tells other workers of findings."""
        self._transitions = HealthTransitions(whose, shared or HealthEvents())
        self._settings = settings
        self._refresh = settings.refresh
        self._standings: dict[str, BackendState] = {}
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
        self.to_connect: set[BackendState] = set()
        "Those that are down, and nobody connects to them: the next request of a route with them sees to that."
        self.probe_due = inf
        "When the next probe of any of them is due; inf = nobody is on probation."
        self.on_probation = 0
        "How many are, and get nothing, as of the last weighing."

    def reconfigure(self, settings: DemeritSettings) -> None:
        """Judge by these settings what is known."""
        self._settings = settings
        self._refresh = settings.refresh
        self.weighed_at = -1.0

    def standing(self, backend_id: str, endpoint: str = "", *, asleep: bool = False) -> BackendState:
        """The standing of a backend, new if it is not known. One that joins others that have answered, or moves to
        another place, begins on probation: what has just been started may be slow at first. Not so one that is
        asleep: let it sleep."""
        standing = self._standings.get(backend_id)
        if standing is None:
            standing = self._standings[backend_id] = BackendState()
        if standing.endpoint != endpoint:
            standing.endpoint = endpoint
            standing.down_since = standing.until = 0.0
            standing.unreachable = 0
            standing.probation = None if asleep or self._base is None else Probation(Why.NEW, 0.0, 0.5)
            self.weighed_at = -1.0
            if heard := self._transitions.published(endpoint):
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

    def connect_at_next_request(self, standing: BackendState) -> None:
        """Nobody connects in the background any more, though it may be down: whoever is next asked for its site has
        that begun again."""
        if standing.down_since and standing in self._standings.values():
            self.to_connect.add(standing)
            self.weighed_at = -1.0

    # What happened to an attempt

    def answered(self, standing: BackendState, latency: float, now: float) -> bool:
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

    def note_witness(self, standing: BackendState, client: str, now: float, *, alone: bool, first: bool) -> None:
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

    def _is_disputed(self, standing: BackendState, now: float) -> bool:
        return bool(standing.witness) and now - self._others_at < OTHERS_SEEN

    def late(self, standing: BackendState, waited: float, now: float) -> None:
        """No answer to a probe within `waited` seconds: it takes at least so long."""
        self._sample(standing, waited, now)
        if standing.probation is not None:
            self._struck(standing.probation, now)

    def _sample(self, standing: BackendState, latency: float, now: float) -> float:
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

    def woke(self, standing: BackendState, now: float) -> None:
        """The answer to a cold start: it is awake, and that is all we know."""
        standing.heard_at = now
        standing.failures = standing.unreachable = 0
        standing.until = 0.0
        standing.asleep = standing.cold = False
        if standing.down_since:
            self.reconnected(standing, now, 0.5)

    def charge(self, standing: BackendState, cause: Cause, now: float, *, rand: float, pause: float = 0.0) -> None:
        """What a failed attempt costs, by its row in VERDICTS. `pause`: the seconds that a refusal asked for."""
        match VERDICTS[cause].charge:
            case Charge.ERROR:
                self.failed(standing, cause, now, rand)
            case Charge.UNREACHABLE:
                self.unreachable(standing, cause, now, rand)
            case Charge.REST:
                self.refused(standing, pause, now)

    def failed(self, standing: BackendState, cause: Cause, now: float, rand: float = 0.5) -> None:
        """An answer that counts as an error, or none."""
        remains = scoring.decayed(standing.error, standing.error_at, now, self._settings.half_life)
        standing.error = remains + (1.0 - remains) * scoring.error_step(standing)
        standing.error_at = standing.heard_at = now
        standing.last_error = cause
        standing.failures += 1
        self._hold(calm=False)
        if standing.probation is not None:
            self._struck(standing.probation, now)
        elif (
            standing.failures >= FAILURES_IN_A_ROW
            and self._common < SICK_TOGETHER
            and not self._is_disputed(standing, now)
        ):
            self._transitions.begin_probation(standing, Why.FAILING, now, rand)
            self.weighed_at = -1.0

    def unreachable(self, standing: BackendState, cause: Cause, now: float, rand: float) -> None:
        """A connection could not be made. Rests for 10 ms, doubled each time in a row up to a second; down after
        the third time, or when the connect timed out."""
        standing.unreachable += 1
        standing.until = now + min(0.01 * exp2(min(standing.unreachable, 10)), 1.0) * (0.5 + rand)
        standing.last_error = cause
        if cause in EVIDENCE or standing.unreachable >= CONNECTS_IN_A_ROW:
            self.goes_down(standing, now)

    def refused(self, standing: BackendState, pause: float, now: float) -> None:
        """It is full, and asked not to be bothered for `pause` seconds (0 = it did not)."""
        standing.heard_at = now
        if pause:
            standing.until = max(standing.until, now + pause)
        if standing.probation is not None:
            self._struck(standing.probation, now)

    def goes_down(self, standing: BackendState, now: float) -> None:
        """No request goes there until a connection could be made in the background."""
        self._transitions.mark_down(standing, now)
        self.weighed_at = -1.0

    def reconnected(self, standing: BackendState, now: float, rand: float) -> None:
        """A connection could be made to one that was down."""
        self._transitions.mark_up(standing, now, rand)
        self.weighed_at = -1.0

    # Probation

    def _judge(self, standing: BackendState, probation: Probation, x: float, now: float) -> None:
        """Does this answer speak for it?"""
        base = self._base
        if base is not None and x - base > scoring.tolerance(self._sigma):
            self._struck(probation, now)
        elif probation.record_good_response(now) and (
            base is None or standing.mean - base <= scoring.knee(standing.samples, self._sigma)
        ):
            self._transitions.end_probation(standing, now, self._common)
        self.weighed_at = -1.0

    def _struck(self, probation: Probation, now: float) -> None:
        probation.record_bad_response(now)
        self.weighed_at = -1.0

    @property
    def usual(self) -> float:
        """Seconds that an answer of a good backend takes, as far as that is known."""
        return scoring.usual_latency(self._base)

    @property
    def probe_patience(self) -> float:
        """Seconds after which an answer to a probe would come too late to be a good one."""
        return scoring.probe_timeout(self._base, self._sigma)

    # What other workers found out

    def hear(self, evidence: HealthEvent, now: float, rand: float) -> None:
        """Believe it, if it is news and about a backend that is here, and still where it was."""
        standing = self._standings.get(evidence.endpoint.rpartition("@")[0])
        if standing is None or standing.endpoint != evidence.endpoint:
            return
        was_down = standing.down_since
        adopt(standing, evidence, now, rand, base=self._base, common=self._common)
        if standing.down_since and not was_down:
            self.to_connect.add(standing)
        self.weighed_at = -1.0

    # What it comes to

    def _hold(self, *, calm: bool) -> None:
        self._holds = CALM * self._refresh if calm else self._refresh
        self._holds_at_rest = HOLDS_AT_REST if calm else self._refresh

    def weigh(self, standings: Sequence[BackendState], now: float, rand: float = 0.5, *, busy: bool = True) -> None:
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
        self._base = base = scoring.base_line(means) if means else None
        self._common = scoring.common_error_ratio(standings, now, self._settings.half_life) if failing else 0.0
        self.probe_due, self.on_probation = inf, 0
        quick, awake = LN2 if base is None else base + LN2, now - self._settings.idle_after
        others: list[BackendState] = []
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
        self._weigh_unlike(standings, others, now, rand)

    def _weigh_unlike(
        self, standings: Sequence[BackendState], others: Sequence[BackendState], now: float, rand: float
    ) -> None:
        """Work out the weights of the `others` among these, which are not simply well, and whether it is panic."""
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

    def _weigh_one(self, standing: BackendState, now: float, rand: float) -> None:
        server = standing.server
        if server is not None and server.suspect_since and not standing.down_since:
            standing.down_since = now
            self.to_connect.add(standing)
        settings = self._settings
        standing.points_latency = scoring.latency_points(standing, self._base, self._sigma, now, settings)
        standing.points_errors = (
            scoring.error_points(standing, self._common, now, settings) if standing.error else 0.0
        )
        points = standing.points_latency + standing.points_errors
        if points > DISPUTED_POINTS and self._is_disputed(standing, now):
            standing.points_latency *= DISPUTED_POINTS / points
            standing.points_errors *= DISPUTED_POINTS / points
            points = DISPUTED_POINTS
        if points > CLEARLY_BAD and standing.is_well:
            if standing.points_errors > standing.points_latency:
                self._transitions.begin_probation(standing, Why.FAILING, now, rand)
            elif standing.slow >= min(SLOW_IN_A_ROW, standing.samples):
                self._transitions.begin_probation(standing, Why.SLOW, now, rand)
        elif standing.probation is not None and is_like_the_others(standing, standing.probation, self._common):
            self._transitions.drop_probation(standing)
        standing.weight = exp(-points) if points else 1.0
        standing.silent = (
            standing.waiting > 0 and not standing.cold and scoring.is_silent(standing, self._base, self._sigma, now)
        )
        if standing.silent:
            standing.weight *= SILENT_WEIGHT
        if standing.recovered_at:
            standing.weight *= scoring.slow_start_factor(now - standing.recovered_at)
            if now - standing.recovered_at >= SLOW_START:
                standing.recovered_at = 0.0
        quiet = standing.heard_at and now - standing.heard_at > self._settings.idle_after
        standing.cold = standing.asleep or bool(quiet)
        if standing.cold:
            standing.weight *= COLD_WEIGHT
