"""Demerits: points against a backend, learned from its responses, relative to its neighbours, decaying with time.

One point costs a factor e of the chance to be drawn. A backend earns points by being *slower* or *failing more
often* than the other containers of the same environment: a site whose pages all take three seconds, or all fail,
has no bad container. Points decay when they are read, so no timer is needed.

Never counted: a client that went away, a refusal (it means load, not a fault), a cold start.

Many demerits, or five failures in a row, lead to probation; failed connects mark a backend down (see
`probation.py`). While fewer than half of an environment's backends are healthy, probation is ignored.

Method (`scoring.py`): a mean of log latencies and an error ratio per backend, both exponentially weighted; a knee
of three standard errors, so that noise earns nothing; a decay with half-life. Finagle's peak EWMA and Envoy's
outlier detection are related; neither is relative to neighbours *and* free of thresholds.
"""

from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from math import exp2, inf, log
from typing import Final

from edge.rules.balancing import scoring
from edge.rules.balancing.backend_state import MANY, SEVERAL_CLIENTS, BackendState, Candidate, Probation, Why
from edge.rules.balancing.health_events import HealthEvents
from edge.rules.balancing.health_records import HealthEvent
from edge.rules.balancing.probation import HealthTransitions, adopt, is_like_the_others
from edge.rules.balancing.scoring import (
    FIRST_SIGMA,
    LN2,
    LOG_SHORTEST,
    MEAN_OF,
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

PANIC: Final = 0.5
"Probation is ignored while fewer than this part are healthy: a site that is bad as a whole has no bad container."
CLEARLY_BAD: Final = scoring.LN10
"Points that lead to probation: with them, a backend gets a tenth of its share."
SLOW_IN_A_ROW: Final = 4
"Slow responses in a row that are needed as well: one very slow response moves the mean as far, by chance."
FAILURES_IN_A_ROW: Final = 5
"Failed responses in a row that lead to probation, however good the backend was before (Envoy: 5, Linkerd: 7)."
FAILING_TOGETHER: Final = 0.3
"Common error ratio from which failures in a row do not lead to probation: the neighbours fail as well."
OTHERS_SEEN: Final = 10.0
"Seconds for which another client of the environment counts as present."
DISPUTED_POINTS: Final = LN2
"Maximum of points from the requests of a single client: half of the share."
CONNECTS_IN_A_ROW: Final = 3
"Failed connects in a row that mark it down. One timeout is enough: the next one would cost a client as much."
HEALTHY_REFRESH_FACTOR: Final = 5.0
"Factor on `demerits.refresh`: weights hold for so many times as long while all backends are healthy."
REFRESH_AT_REST: Final = 5.0
"Seconds for which weights hold without requests. If the others become quicker, a slow one is found so much later."


class Demerits:
    """The states of one environment's backends, their weights, and the draw of a backend by weight."""

    __slots__ = (
        "_base",
        "_common",
        "_others_at",
        "_refresh",
        "_refresh_after",
        "_refresh_at_rest",
        "_settings",
        "_sigma",
        "_states",
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
        """`whose`: site and environment, under which `shared` reports changes of condition to other workers."""
        self._transitions = HealthTransitions(whose, shared or HealthEvents())
        self._settings = settings
        self._refresh = settings.refresh
        self._states: dict[str, BackendState] = {}
        self._sigma = FIRST_SIGMA
        self._base: float | None = None
        "Base line: mean log latency of the quicker backends; None = not known yet."
        self._common = 0.0
        "Error ratio of the median."
        self.weighed_at = -1.0
        self._refresh_after = self._refresh_at_rest = 0.0
        "Seconds for which the weights hold, with requests in flight and without."
        self._others_at = -inf
        "Time of the last request of a client other than the one whose requests were slow or failed."
        self.panicking = False
        "Whether so few are healthy that probation is ignored."
        self.to_connect: set[BackendState] = set()
        "Backends that are down without a connect check. The next request of a route with one of them starts it."
        self.probe_due = inf
        "Time of the next probe of any of them; inf = none is on probation."
        self.on_probation = 0
        "Number of backends that are on probation and get no requests, as of the last weighing."

    def reconfigure(self, settings: DemeritSettings) -> None:
        """Apply these settings, to what is known as well."""
        self._settings = settings
        self._refresh = settings.refresh
        self.weighed_at = -1.0

    def state_of(self, backend_id: str, endpoint: str = "", *, asleep: bool = False) -> BackendState:
        """Return the state of a backend, a new one if it is not known. A backend that joins others that have
        responded, or moves to another endpoint, begins on probation: a container that was just started may be slow
        at first. One that is asleep does not, because its probe would wake it."""
        state = self._states.get(backend_id)
        if state is None:
            state = self._states[backend_id] = BackendState()
        if state.endpoint != endpoint:
            state.endpoint = endpoint
            state.down_since = state.until = 0.0
            state.unreachable = 0
            state.probation = None if asleep or self._base is None else Probation(Why.NEW, 0.0, 0.5)
            self.weighed_at = -1.0
            if reported := self._transitions.published(endpoint):
                self.apply_event(*reported, 0.5)
        if state.asleep != asleep:
            state.asleep = asleep
            self.weighed_at = -1.0
        return state

    @property
    def states(self) -> Mapping[str, BackendState]:
        """The states of the backends, by id. For readers: `state_of` makes new ones."""
        return self._states

    def keep_only(self, backend_ids: Iterable[str]) -> None:
        """Forget the backends that are not among these and have no requests in flight."""
        keep = set(backend_ids)
        self._states = {name: state for name, state in self._states.items() if name in keep or state.in_flight}
        self.to_connect.intersection_update(self._states.values())
        self.weighed_at = -1.0

    def forget(self) -> None:
        """Forget what was learned: it is out of date, because no request came for long."""
        self._sigma, self._base, self._common = FIRST_SIGMA, None, 0.0
        for state in self._states.values():
            state.forget()
            self.connect_at_next_request(state)
        self.weighed_at = -1.0

    def connect_at_next_request(self, state: BackendState) -> None:
        """Have the next request of its site start a connect check again, if it is down: the former check has
        ended."""
        if state.down_since and state in self._states.values():
            self.to_connect.add(state)
            self.weighed_at = -1.0

    # Results of attempts

    def record_response(self, state: BackendState, latency: float, now: float) -> bool:
        """Record a good response, `latency` seconds after the request was written. Returns whether the backend
        counts as slow by it; then the caller should report whose request it was (`note_witness`)."""
        x = self._sample(state, latency, now)
        state.failures = 0
        probation = state.probation
        if state.error:
            state.error -= state.error * (PROBATION_STEP if probation is not None else SLOWEST_STEP)
        if not state.down_since:  # one that is down serves over old connections, but may not take new ones
            state.until = 0.0
            state.unreachable = 0
            if probation is not None:
                self._judge_response(state, probation, x, now)
        return state.slow > 0

    def note_witness(self, state: BackendState, client: str, now: float, *, alone: bool, first: bool) -> None:
        """Record that a request of this client was slow at this backend, or failed. `alone`: no other client of the
        environment is known. `first`: the first such request in a row.

        The cause may be the requests of that client. While there are other clients whose requests are fine, they
        cost the backend a part of its share and never all of it.
        """
        if not alone:
            self._others_at = now
        if first:
            state.witness = client
        elif state.witness != client:
            state.witness = SEVERAL_CLIENTS

    def _is_disputed(self, state: BackendState, now: float) -> bool:
        return bool(state.witness) and now - self._others_at < OTHERS_SEEN

    def record_late(self, state: BackendState, waited: float, now: float) -> None:
        """Record that a probe got no response within `waited` seconds, which counts as a response after that
        time."""
        self._sample(state, waited, now)
        if state.probation is not None:
            self._record_bad(state.probation, now)

    def _sample(self, state: BackendState, latency: float, now: float) -> float:
        """Record the time to the first byte of a response, in seconds; returns its logarithm."""
        # Each request comes here: what is read twice is a local variable, and only log is called.
        x = log(latency) if latency > SHORTEST else LOG_SHORTEST
        samples, mean, sigma, base = state.samples, state.mean, self._sigma, self._base
        above = x - base if base is not None else 0.0
        step = SLOWEST_STEP if samples >= MEAN_OF else 1.0 / (samples + 1)
        if step < PEAK_STEP and above > 2.0 * sigma:
            step = PEAK_STEP
        if state.probation is not None:
            if step < PROBATION_STEP:
                step = PROBATION_STEP
        elif samples >= 5:
            off = x - mean if x > mean else mean - x
            self._sigma = sigma = sigma + 0.02 * (1.25 * off - sigma)
        if above > LN2:
            state.slow = state.slow + 1 if above > sigma else 0
            self._set_refresh(longer=False)
        else:
            state.slow = 0
        state.mean = mean + step * (x - mean)
        state.samples = samples + 1
        state.last_response_at = state.last_event_at = now
        return x

    def record_wake(self, state: BackendState, now: float) -> None:
        """Record the response to a cold start. The backend is awake; its time says nothing about its speed."""
        state.last_event_at = now
        state.failures = 0
        state.asleep = state.cold = False
        if not state.down_since:
            state.until = 0.0
            state.unreachable = 0

    def charge(self, state: BackendState, cause: Cause, now: float, *, rand: float, pause: float = 0.0) -> None:
        """Charge the backend for a failed attempt, by its row in VERDICTS. `pause`: the seconds that a refusal
        asked for."""
        match VERDICTS[cause].charge:
            case Charge.ERROR:
                self.record_failure(state, cause, now, rand)
            case Charge.UNREACHABLE:
                self.record_unreachable(state, cause, now, rand)
            case Charge.REST:
                self.record_refusal(state, pause, now)

    def record_failure(self, state: BackendState, cause: Cause, now: float, rand: float = 0.5) -> None:
        """Record a response that counts as an error, or that none came."""
        remains = scoring.decayed(state.error, state.error_at, now, self._settings.half_life)
        state.error = remains + (1.0 - remains) * scoring.error_step(state)
        state.error_at = state.last_event_at = now
        state.last_error = cause
        state.failures += 1
        self._set_refresh(longer=False)
        if state.probation is not None:
            self._record_bad(state.probation, now)
        elif (
            state.failures >= FAILURES_IN_A_ROW
            and self._common < FAILING_TOGETHER
            and not self._is_disputed(state, now)
        ):
            self._transitions.begin_probation(state, Why.FAILING, now, rand)
            self.weighed_at = -1.0

    def record_unreachable(self, state: BackendState, cause: Cause, now: float, rand: float) -> None:
        """Record a failed connect. The backend rests for 10 ms, doubled with each failure in a row up to a second;
        it is down after the third, or at once when the connect timed out."""
        state.unreachable += 1
        state.until = now + min(0.01 * exp2(min(state.unreachable, 10)), 1.0) * (0.5 + rand)
        state.last_error = cause
        if cause in EVIDENCE or state.unreachable >= CONNECTS_IN_A_ROW:
            self.goes_down(state, now)

    def record_refusal(self, state: BackendState, pause: float, now: float) -> None:
        """Record a refusal: it is full, and asked for a pause of `pause` seconds (0 = it did not)."""
        state.last_event_at = now
        if pause:
            state.until = max(state.until, now + pause)
        if state.probation is not None:
            self._record_bad(state.probation, now)

    def goes_down(self, state: BackendState, now: float) -> None:
        """Mark it down: it gets no request until a connect in the background has succeeded."""
        self._transitions.mark_down(state, now)
        self.weighed_at = -1.0

    def record_connected(self, state: BackendState, now: float, rand: float) -> None:
        """Mark it up, on probation: a connect succeeded. (HAProxy: `rise`; Envoy: `healthy_threshold`.)"""
        self._transitions.mark_up(state, now, rand)
        self.weighed_at = -1.0

    # Probation

    def _judge_response(self, state: BackendState, probation: Probation, x: float, now: float) -> None:
        """Count a response of a backend on probation as good or bad; `x`: log of its time. Enough good ones end
        it."""
        base = self._base
        if base is not None and x - base > scoring.tolerance(self._sigma):
            self._record_bad(probation, now)
        elif probation.record_good_response(now) and (
            base is None or state.mean - base <= scoring.knee(state.samples, self._sigma)
        ):
            self._transitions.end_probation(state, now, self._common)
        self.weighed_at = -1.0

    def _record_bad(self, probation: Probation, now: float) -> None:
        probation.record_bad_response(now)
        self.weighed_at = -1.0

    @property
    def usual_latency(self) -> float:
        """Seconds that a response of a good backend takes; an assumption while none was measured."""
        return scoring.usual_latency(self._base)

    @property
    def probe_timeout(self) -> float:
        """Seconds after which a response to a probe would come too late to be a good one."""
        return scoring.probe_timeout(self._base, self._sigma)

    # Reports of other workers

    def apply_event(self, event: HealthEvent, now: float, rand: float) -> None:
        """Apply what another worker reported, if the backend is known here and still at that endpoint."""
        state = self._states.get(event.endpoint.rpartition("@")[0])
        if state is None or state.endpoint != event.endpoint:
            return
        was_down = state.down_since
        adopt(state, event, now, rand, base=self._base, common=self._common)
        if state.down_since and not was_down:
            self.to_connect.add(state)
        self.weighed_at = -1.0

    # Weights

    def _set_refresh(self, *, longer: bool) -> None:
        self._refresh_after = HEALTHY_REFRESH_FACTOR * self._refresh if longer else self._refresh
        self._refresh_at_rest = REFRESH_AT_REST if longer else self._refresh

    def weigh(self, states: Sequence[BackendState], now: float, rand: float = 0.5, *, busy: bool = True) -> None:
        """Bring the weights of these backends up to date, at most every `demerits.refresh` seconds. `busy`: a
        response of any of them is awaited.

        While all are healthy, and no slow or failed response comes, only silence can change a weight soon. The
        weights then hold for HEALTHY_REFRESH_FACTOR times as long, and for REFRESH_AT_REST seconds while none has a
        request.
        """
        if 0.0 <= now - self.weighed_at < (self._refresh_after if busy else self._refresh_at_rest):
            return
        self.weighed_at = now
        # With many environments, each request may come here: few passes, and no call for healthy backends.
        means, failing = [], False
        for state in states:
            if state.samples >= TIMED and state.probation is None and not state.down_since:
                means.append(state.mean)
            if state.error:
                failing = True
        # A backend on probation is no measure for the others, unless there are only such.
        means = means or [s.mean for s in states if s.samples >= TIMED and not s.down_since]
        self._base = base = scoring.base_line(means) if means else None
        self._common = scoring.common_error_ratio(states, now, self._settings.half_life) if failing else 0.0
        self.probe_due, self.on_probation = inf, 0
        quick, awake = LN2 if base is None else base + LN2, now - self._settings.idle_after
        others: list[BackendState] = []
        for state in states:
            if (
                state.mean <= quick
                and state.last_event_at > awake
                and not state.error
                and (not state.waiting or now - state.last_event_at < SHORTEST_SILENCE)
                and state.probation is None
                and not (state.down_since or state.recovered_at or state.asleep)
                and (state.server is None or not state.server.suspect_since)
            ):  # most of them, most of the time
                state.points_latency = state.points_errors = 0.0
                state.weight = 1.0
                state.silent = state.cold = False
            else:
                others.append(state)
        if not others:
            self._set_refresh(longer=len(states) <= MANY)
            self.panicking = False
            return
        self._weigh_others(states, others, now, rand)

    def _weigh_others(
        self, states: Sequence[BackendState], others: Sequence[BackendState], now: float, rand: float
    ) -> None:
        """Compute the weights of the `others`, those that need more than the quick check, and whether there is
        panic."""
        self._set_refresh(longer=False)
        for state in others:
            self._weigh_one(state, now, rand)
        unhealthy = len(others) - sum(state.is_healthy for state in others)
        self.panicking = len(states) - unhealthy < PANIC * len(states)
        for state in states:
            if state.down_since:
                state.weight = 0.0
            elif self.panicking:
                state.weight = max(state.weight, scoring.PANIC_WEIGHT)
            elif state.probation is not None:
                state.weight = 0.0
                self.on_probation += 1
                if not state.probation.probing and state.probation.due < self.probe_due:
                    self.probe_due = state.probation.due

    def _weigh_one(self, state: BackendState, now: float, rand: float) -> None:
        server = state.server
        if server is not None and server.suspect_since and not state.down_since:
            state.down_since = now
            self.to_connect.add(state)
        settings = self._settings
        state.points_latency = scoring.latency_points(state, self._base, self._sigma, now, settings)
        state.points_errors = scoring.error_points(state, self._common, now, settings) if state.error else 0.0
        points = state.points_latency + state.points_errors
        if points > DISPUTED_POINTS and self._is_disputed(state, now):
            state.points_latency *= DISPUTED_POINTS / points
            state.points_errors *= DISPUTED_POINTS / points
            points = DISPUTED_POINTS
        if points > CLEARLY_BAD and state.is_healthy:
            if state.points_errors > state.points_latency:
                self._transitions.begin_probation(state, Why.FAILING, now, rand)
            elif state.slow >= min(SLOW_IN_A_ROW, state.samples):
                self._transitions.begin_probation(state, Why.SLOW, now, rand)
        elif state.probation is not None and is_like_the_others(state, state.probation, self._common):
            self._transitions.drop_probation(state)
        scoring.set_weight(state, self._base, self._sigma, now, settings)

    # The draw

    def draw(self, group: Sequence[Candidate], now: float, rand: float, bias: Sequence[float]) -> Candidate | None:
        """Draw one of these by weight and by requests in flight; None = none is available. The weights must be up
        to date. `rand`: uniform in [0, 1); `bias`: see `bias_table`."""
        if len(group) == 1:
            state = group[0].state
            return group[0] if state.until <= now and state.weight else None
        total, known = 0.0, len(bias)
        marks: list[float] = []
        for candidate in group:
            state = candidate.state
            if state.until <= now:
                n = state.in_flight
                total += state.weight * (bias[n] if n < known else bias[-1])
            marks.append(total)
        return group[bisect(marks, rand * total, 0, len(marks) - 1)] if total else None
