"""The arithmetic of demerits, on mean log latencies and error ratios.

A backend is compared with its neighbours: the base line is the mean log latency of the quicker ones, the common
error ratio is that of the median. What is above them, less a margin for noise, earns points; one point costs a
factor e of the chance to be drawn. Points decay with `demerits.half_life` when they are read. Latencies are natural
logarithms of seconds; `sigma` is their spread in this environment.
"""

from collections.abc import Sequence
from math import exp, exp2, log, sqrt
from typing import Final

from edge.rules.balancing.backend_state import SLOW_START, SLOW_START_FROM, BackendState
from edge.rules.settings import DemeritSettings

LN2: Final = log(2.0)
LN4: Final = log(4.0)
LN10: Final = log(10.0)
SHORTEST: Final = 0.001
"Seconds; shorter latencies count as this one."
LOG_SHORTEST: Final = log(SHORTEST)
PROBATION_STEP: Final = 0.5
"Weight of a sample of a backend on probation: two good responses suffice to end it, one bad one prolongs it."
SLOWEST_STEP: Final = 0.1
"Least weight of a new sample: about 19 samples count."
MEAN_OF: Final = int(1.0 / SLOWEST_STEP)
"Samples that are averaged before a new one has the least weight."
PEAK_STEP: Final = 0.3
"Weight of a sample far above the neighbours: a slow backend is noticed after four."
TIMED: Final = 3
"Responses of a backend before its mean counts for the base line."
ERROR_MARGIN: Final = 0.05
"Error ratio above the common one that earns nothing."
FIRST_SIGMA: Final = 0.5
"Assumed spread of log latencies until there are samples: PHP pages vary by a factor of 1.6."
SHORTEST_SILENCE: Final = 0.5
"Seconds without any response before a backend counts as silent."
UNKNOWN_USUAL: Final = 0.1
"Seconds assumed for a good response while none has been seen."
UNKNOWN_PROBE_TIMEOUT: Final = 10.0
"Seconds for a response to a probe while no good one has been seen."
PANIC_WEIGHT: Final = 0.1
SILENT_WEIGHT: Final = 0.1
COLD_WEIGHT: Final = 1e-5
"A sleeping backend is woken when those awake have three or four requests each, not by one request a minute."


def decayed(value: float, since: float, now: float, half_life: float) -> float:
    """Return a value that was `value` at the time `since`, decayed until `now`."""
    return value * exp2((since - now) / half_life)


def base_line(means: list[float]) -> float:
    """The base line: the lower quartile of these mean log latencies, which are sorted in place."""
    means.sort()
    return means[(len(means) - 1) // 4]


def common_error_ratio(states: Sequence[BackendState], now: float, half_life: float) -> float:
    """The error ratio of the median backend, of at least one."""
    errors = sorted(decayed(s.error, s.error_at, now, half_life) for s in states)
    return errors[(len(errors) - 1) // 2]


def tolerance(sigma: float) -> float:
    """How far above the base line a good response to a probe may be."""
    return max(LN4, 1.6 * sigma)


def usual_latency(base: float | None) -> float:
    """Seconds that a response of a good backend takes."""
    return exp(base) if base is not None else UNKNOWN_USUAL


def probe_timeout(base: float | None, sigma: float) -> float:
    """Seconds after which a response to a probe would come too late to be a good one."""
    return exp(base + tolerance(sigma)) if base is not None else UNKNOWN_PROBE_TIMEOUT


def knee(samples: int, sigma: float) -> float:
    """How far above the base line a mean may be without points: three standard errors, and at least a factor of
    two."""
    return max(LN2, 3.0 * sigma / sqrt(min(max(samples, 1), 19)))


def latency_points(
    state: BackendState, base: float | None, sigma: float, now: float, settings: DemeritSettings
) -> float:
    """Points for being slower than the base line. They do not decay on probation, which only responses can end."""
    if base is None or state.mean <= base or not state.samples:
        return 0.0
    excess = state.mean - base
    if state.probation is None:
        excess = decayed(excess, state.last_response_at, now, settings.half_life)
    return settings.latency_power * max(0.0, excess - knee(state.samples, sigma))


def error_points(state: BackendState, common: float, now: float, settings: DemeritSettings) -> float:
    """Points for failing more often than the common error ratio."""
    excess = decayed(state.error, state.error_at, now, settings.half_life) - common - ERROR_MARGIN
    return settings.error_points * max(0.0, excess)


def error_step(state: BackendState) -> float:
    """Weight of one more failure in the error ratio. If the first response fails, the ratio is not one at once."""
    if state.probation is not None:
        return PROBATION_STEP
    return max(SLOWEST_STEP, 1.0 / (state.samples + 1 + TIMED))


def slow_start_factor(since: float) -> float:
    """Part of its share that a backend gets `since` seconds after its recovery."""
    elapsed = since / SLOW_START
    return SLOW_START_FROM + (1.0 - SLOW_START_FROM) * elapsed if elapsed < 1.0 else 1.0


def is_silent(state: BackendState, base: float | None, sigma: float, now: float) -> bool:
    """Whether requests wait for it, and it has sent nothing for longer than any response should take."""
    longest = max(SHORTEST_SILENCE, exp((base or 0.0) + 3.0 * sigma))
    return now - max(state.last_event_at, state.waiting_since) > longest


def set_weight(
    state: BackendState, base: float | None, sigma: float, now: float, settings: DemeritSettings
) -> None:
    """Set the weight that its points, its silence, a recent recovery and sleep come to."""
    points = state.points_latency + state.points_errors
    state.weight = exp(-points) if points else 1.0
    state.silent = state.waiting > 0 and not state.cold and is_silent(state, base, sigma, now)
    if state.silent:
        state.weight *= SILENT_WEIGHT
    if state.recovered_at:
        state.weight *= slow_start_factor(now - state.recovered_at)
        if now - state.recovered_at >= SLOW_START:
            state.recovered_at = 0.0
    idle = state.last_event_at and now - state.last_event_at > settings.idle_after
    state.cold = state.asleep or bool(idle)
    if state.cold:
        state.weight *= COLD_WEIGHT
