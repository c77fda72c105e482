"""Fleets of containers on a virtual clock, before the decisions that styx makes in production.

    make simulate                    the table of all scenarios
    make simulate ARGS="a100 e8slow" some of them

A container has four workers and a queue of four; demands are lognormal, 100 ms on average, and belong to the
request, so that every policy serves the same work. Arrivals are Poisson and open: latency counts from the arrival.
Each of `balancers` learns alone. Nothing here decides: the balancer, the next step after a failure and the demerit
book are those of production.
A copy of a request that probes a container keeps its worker busy to the end, as php-fpm does.
The oracle is one queue in front of all workers, the fastest free one first: nobody can do better.
"""

import heapq
import math
import sys
from collections import deque
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

from edge.net.balancing.balancer import Balancer
from edge.rules.balancing.backend_state import Candidate, connect_wait
from edge.rules.balancing.environments import Environment, Environments
from edge.rules.balancing.next_step import Another, FailedAttempt, GiveUp, WaitForSlot, next_step
from edge.rules.balancing.picker import probe_target
from edge.rules.outcomes import VERDICTS, Cause, Retry
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.routes import Route
from edge.rules.settings import Settings
from tests.support.bound_route import bound

SETTINGS = Settings.model_validate(
    {"listeners": ({"address": "127.0.0.1:0"},), "core_api": {"url": "http://127.0.0.1:1"}}
)
WORKERS, QUEUE = 4, 4
MEAN = 0.1
WIRE = 0.00025
"Seconds from the edge to a container, and back."
CLIENT_PATIENCE = 10.0
SAFE = 0.9
"Part of the requests that are GET."
WELL, FAILS, DEAD, UNREACHABLE, STALLS = "healthy", "fails", "dead", "unreachable", "stalls"


class Incident(NamedTuple):
    """What is wrong with a container, and when."""

    container: int
    kind: str = WELL
    slowness: float = 1.0
    begin: float = 0.0
    end: float = math.inf


class Scenario(NamedTuple):
    """One row of the table."""

    what: str
    load: float
    "Part of the nominal capacity that arrives."
    containers: int = 10
    balancers: int = 1
    spread: float = 1.0
    "Coefficient of variation of the demands."
    incidents: tuple[Incident, ...] = ()
    begin: float = 5.0
    "Measured from then on: before, everybody learns."
    seconds: float = 45.0
    measured_to: float = math.inf
    "And until then: the rest shows how it comes back."


SLOW = (Incident(0, slowness=10.0),)
FAILING = (Incident(0, FAILS),)
RESTARTS = tuple(Incident(n % 10, slowness=10.0, begin=t, end=t + 5.0) for n, t in enumerate(range(10, 50, 12)))
SCENARIOS = {
    "a70": Scenario("equal, 70 %", 0.7),
    "a90": Scenario("equal, 90 %", 0.9),
    "a100": Scenario("equal, 100 %", 1.0),
    "a120": Scenario("equal, 120 %", 1.2),
    "a300": Scenario("equal, 300 %", 3.0, balancers=8, seconds=20.0),
    "n1": Scenario("one container, 70 %", 0.7, containers=1, balancers=4, seconds=200.0),
    "n3": Scenario("three containers, 90 %", 0.9, containers=3, balancers=4, seconds=100.0),
    "b": Scenario("one 10 x slower", 0.7, incidents=SLOW),
    "c": Scenario("one fails at once", 0.7, incidents=FAILING),
    "d": Scenario("one restarts every 12 s, 10 x slower for 5 s", 0.7, incidents=RESTARTS, begin=10.0),
    "k": Scenario("two 3 x slower, 8 balancers", 0.8, 10, 8, 1.0, (Incident(0, WELL, 3.0), Incident(1, WELL, 3.0))),
    "j": Scenario("heavy-tailed demands, 8 balancers", 0.7, balancers=8, spread=3.0),
    "e8": Scenario("equal, 100 %, 8 balancers", 1.0, balancers=8),
    "e64": Scenario("equal, 70 %, 64 balancers", 0.7, balancers=64, begin=20.0, seconds=65.0),
    "e8slow": Scenario("one 10 x slower, 8 balancers", 0.7, balancers=8, incidents=SLOW),
    "e64slow": Scenario("the same, 64", 0.7, balancers=64, incidents=SLOW, begin=20.0, seconds=65.0),
    "e8fail": Scenario("one fails at once, 8 balancers", 0.7, balancers=8, incidents=FAILING),
    "f1": Scenario("one dead 10-30 s", 0.7, 10, 8, 1.0, (Incident(0, DEAD, 1.0, 10, 30),), 10.0, 75.0, 30.0),
    "f2": Scenario(
        "one unreachable 10-30 s", 0.7, 10, 8, 1.0, (Incident(0, UNREACHABLE, 1.0, 10, 30),), 10.0, 75.0, 30.0
    ),
    "f3": Scenario("one slow 10-30 s", 0.7, 10, 8, 1.0, (Incident(0, WELL, 10.0, 10, 30),), 10.0, 75.0, 30.0),
    "h": Scenario("one stalls 10-30 s", 0.7, 10, 8, 1.0, (Incident(0, STALLS, 1.0, 10, 30),), 10.0, 75.0, 30.0),
    "c10": Scenario("one fails 10-30 s", 0.7, 10, 8, 1.0, (Incident(0, FAILS, 1.0, 10, 30),), 10.0, 75.0, 30.0),
}
"By the names of the specification; c10 to h are measured while it lasts."


class Result(NamedTuple):
    """What came of it, in the window that is measured."""

    goodput: float
    "Answered well, of what could be: the lesser of offered and nominal capacity."
    p50: float
    p99: float
    "Seconds, of what was answered well."
    errors: float
    "Part of the requests that were not."
    bad: float
    "Part of the attempts that went to container 0."
    attempts: float
    "For each request."
    paid: int
    "Requests that waited for a connection that could not be made."
    back: float
    "Seconds from the end of the incident until container 0 has four fifths of its share again; inf = never."
    accused: int = 0
    "Containers on probation at the end, counted for each balancer."


class Clock:
    """Time goes from event to event."""

    def __init__(self) -> None:
        self.now = 0.0
        self._count = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + seconds, self._count, do))

    def run(self) -> None:
        """Until nothing is left to happen."""
        while self._events:
            self.now, _, do = heapq.heappop(self._events)
            do()


class Job:
    """A request: when it came, how much work it is, whether it may be repeated, what became of it."""

    def __init__(self, at: float, demand: float, *, safe: bool) -> None:
        self.at = at
        self.demand = demand
        self.safe = safe
        self.done: float | None = None
        self.well = False
        self.attempts = 0
        self.paid = False
        self.to_bad = 0
        self.waited = 0
        self.gives_up_at = 0.0


class Waiting:
    """A job in the wait room; woken once."""

    def __init__(self, go_on: Callable[[], None]) -> None:
        self._go_on: Callable[[], None] | None = go_on

    def woken(self) -> None:
        go_on, self._go_on = self._go_on, None
        if go_on is not None:
            go_on()


class Container:
    """Four workers behind a queue of four; refuses when both are full."""

    def __init__(self, clock: Clock, number: int, incidents: tuple[Incident, ...]) -> None:
        self._clock = clock
        self._incidents = [incident for incident in incidents if incident.container == number]
        self._busy = 0
        self._queue: deque[tuple[float, Callable[[Cause | None], None]]] = deque()

    def now(self) -> Incident:
        for incident in self._incidents:
            if incident.begin <= self._clock.now < incident.end:
                return incident
        return Incident(-1)

    def take(self, demand: float, tell: Callable[[Cause | None], None]) -> None:
        """Serve it, and tell: None = well."""
        state = self.now()
        if state.kind == FAILS:
            self._clock.after(0.002, lambda: tell(Cause.SERVER_ERROR))
        elif state.kind == STALLS:
            self._clock.after(state.end - self._clock.now, lambda: tell(None))
        elif self._busy < WORKERS:
            self._serve(demand, tell)
        elif len(self._queue) < QUEUE:
            self._queue.append((demand, tell))
        else:
            tell(Cause.REFUSED)

    def _serve(self, demand: float, tell: Callable[[Cause | None], None]) -> None:
        self._busy += 1

        def served() -> None:
            self._busy -= 1
            if self._queue:
                self._serve(*self._queue.popleft())
            tell(None)

        self._clock.after(demand * self.now().slowness, served)


Policy = Callable[[Any, Route, list[Any], float], Candidate | None]


class Edge:
    """One worker process of styx: the production code with its own memory and the virtual clock."""

    def __init__(self, clock: Clock, containers: list[Container], rand: Random, policy: Policy) -> None:
        self._clock = clock
        self._policy = policy
        self._containers = containers
        nothing: Any = None
        environments = Environments(SETTINGS.demerits, SETTINGS.retries)
        self._balancer = Balancer(
            SETTINGS,
            pool=nothing,
            table=nothing,
            environments=environments,
            loop=nothing,
            clock=lambda: clock.now,
            rand=rand.random,
        )
        self._environment: Environment = environments.get("site", "live", 0.0)
        backends = tuple(Backend(f"c{n}", f"10.0.0.{n}", 8000) for n in range(len(containers)))
        self._route = bound(RouteResponse("a.test", "site", "live", 1, backends), self._environment)
        self._reconnecting: set[str] = set()

    def begin(self, job: Job) -> None:
        self._environment.requests += 1
        self._attempt(job, [])

    def _probe(self, job: Job) -> Candidate | None:
        """A copy of a safe job goes to whom a probe is due, or the job itself when there was no other for long."""
        clock, demerits = self._clock, self._environment.demerits
        candidate = probe_target(self._route, clock.now, safe=job.safe)
        if candidate is None or candidate.state.probation is None:
            return None
        state, probation = candidate.state, candidate.state.probation
        probation.record_probe(clock.now)
        if not job.safe:
            return candidate
        probation.probing = True
        state.in_flight += 1
        began, over = clock.now, []

        def ended(cause: Cause | None, *, late: bool = False) -> None:
            if over:
                return
            over.append(cause)
            probation.probing = False
            state.in_flight -= 1
            if late:
                demerits.record_late(state, clock.now - began, clock.now)
            elif cause is None:
                demerits.record_response(state, clock.now - began, clock.now)
            else:
                demerits.charge(state, cause, clock.now, rand=self._balancer.rand())

        self._send(candidate, job.demand, ended)
        clock.after(demerits.probe_timeout, lambda: ended(None, late=True))
        return None

    def _send(self, candidate: Candidate, demand: float, ended: Callable[[Cause | None], None]) -> bool:
        """Returns whether the container can be connected to."""
        clock, container = self._clock, self._containers[int(candidate.backend.id[1:])]

        def tell(cause: Cause | None) -> None:
            clock.after(WIRE, lambda: ended(cause))

        state = container.now()
        if state.kind == DEAD:
            clock.after(WIRE, lambda: tell(Cause.CONNECT_FAILED))
        elif state.kind == UNREACHABLE:
            clock.after(SETTINGS.timeouts.connect, lambda: ended(Cause.CONNECT_TIMEOUT))
            return False
        else:
            if candidate.state.down_since:
                self._environment.demerits.record_connected(candidate.state, clock.now, 0.5)
            clock.after(WIRE, lambda: container.take(demand, tell))
        return True

    def _reconnect(self, candidate: Candidate, tries: int = 0) -> None:
        """Until it can be connected to."""
        clock, state = self._clock, candidate.state
        kind = self._containers[int(candidate.backend.id[1:])].now().kind
        if state.down_since and tries and kind not in (DEAD, UNREACHABLE):
            self._environment.demerits.record_connected(state, clock.now, self._balancer.rand())
        if not state.down_since:
            self._reconnecting.discard(candidate.backend.id)
            return
        if not tries and candidate.backend.id in self._reconnecting:
            return
        self._reconnecting.add(candidate.backend.id)
        wait = connect_wait(tries, self._balancer.rand())
        state.until = clock.now + wait
        clock.after(wait, lambda: self._reconnect(candidate, tries + 1))

    def _attempt(self, job: Job, tries: list[Any]) -> None:
        clock = self._clock
        candidate: Candidate | None = self._policy(self._balancer, self._route, tries[job.waited :], clock.now)
        if self._environment.demerits.probe_due <= clock.now and not tries:
            candidate = self._probe(job) or candidate
        if candidate is None:
            self._over(job, well=False)
            return
        attempt = SimpleNamespace(candidate=candidate, cause=Cause.OK)
        tries.append(attempt)
        number = int(candidate.backend.id[1:])
        job.attempts += 1
        job.to_bad += number == 0
        candidate.state.in_flight += 1
        began = clock.now
        state = candidate.state
        state.waiting += 1
        if state.waiting == 1:
            state.waiting_since = began
        if not self._send(candidate, job.demand, lambda cause: self._ended(job, tries, began, cause)):
            job.paid = True

    def _ended(self, job: Job, tries: list[Any], began: float, cause: Cause | None) -> None:
        now, demerits, state = self._clock.now, self._environment.demerits, tries[-1].candidate.state
        state.in_flight -= 1
        state.waiting -= 1
        if job.done is not None:  # the client had gone: nothing is learned
            return
        if cause is None:
            demerits.record_response(state, now - began, now)
            self._over(job, well=True)
            self._environment.pending_queue.wake()
            return
        tries[-1].cause = cause
        if VERDICTS[cause].retry is Retry.NEVER:
            demerits.record_failure(state, cause, now, self._balancer.rand())
            self._over(job, well=False)
            return
        demerits.charge(state, cause, now, rand=self._balancer.rand())
        if state.down_since:
            self._reconnect(tries[-1].candidate)
        failed = FailedAttempt(
            cause,
            earlier=[attempt.cause for attempt in tries[:-1]],
            waited=job.waited,
            safe=job.safe,
            replayable=True,
            age=now - job.at,
        )
        retries = SETTINGS.retries
        slot_wait = job.gives_up_at - now if job.gives_up_at else retries.queue_timeout
        options = self._balancer.retry_options(
            self._route, tries[job.waited :], now, slot_wait=slot_wait, can_ask_route=False
        )
        step = next_step(failed, options, retries, SETTINGS.timeouts)
        if isinstance(step, GiveUp):
            self._over(job, well=False)
            return
        self._balancer.take_retry_token(self._environment, cause, now)
        match step:
            case Another():
                self._attempt(job, tries)
            case WaitForSlot(seconds):
                job.gives_up_at = job.gives_up_at or now + retries.queue_timeout
                self._wait(job, tries, seconds)
            case _:
                raise AssertionError(f"{step} in a fleet")

    def _wait(self, job: Job, tries: list[Any], seconds: float) -> None:
        """All were full: for a slot, in a small fleet."""
        room = self._environment.pending_queue
        waiting = Waiting(lambda: self._ask_again(job, tries))
        room.enter(waiting)

        def poll() -> None:
            room.leave(waiting)
            waiting.woken()

        self._clock.after(seconds, poll)

    def _ask_again(self, job: Job, tries: list[Any]) -> None:
        job.waited = len(tries)
        if job.done is None:
            self._attempt(job, tries)

    def _over(self, job: Job, *, well: bool) -> None:
        if job.done is None:
            job.done, job.well = self._clock.now, well

    def accuses(self) -> int:
        """How many are on probation."""
        return sum(not state.is_healthy for state in self._route.states)

    def gone(self, job: Job) -> None:
        """Its client has given up."""
        self._over(job, well=False)


def jobs_of(scenario: Scenario, seed: int) -> list[Job]:
    """The arrivals: the same for every policy."""
    rand = Random(seed)
    rate = scenario.load * scenario.containers * WORKERS / MEAN
    sigma = math.sqrt(math.log(1.0 + scenario.spread**2))
    mu = math.log(MEAN) - sigma * sigma / 2.0
    jobs, at = [], rand.expovariate(rate)
    while at < scenario.seconds:
        jobs.append(Job(at, rand.lognormvariate(mu, sigma), safe=rand.random() < SAFE))
        at += rand.expovariate(rate)
    return jobs


def least_connections(balancer: Balancer, route: Route, tries: list[Any], now: float) -> Candidate | None:
    """What HAProxy's leastconn with redispatch does, for comparison: the least busy one that was not tried."""
    tried = [attempt.candidate for attempt in tries]
    left = [c for c in route.active if c not in tried]
    return min(left, key=lambda c: (c.state.in_flight, balancer.rand())) if left else None


def simulate(scenario: Scenario, seed: int, policy: Policy = Balancer.choose) -> Result:
    """Play it with the production code."""
    clock, dice = Clock(), Random(seed + 1)
    containers = [Container(clock, number, scenario.incidents) for number in range(scenario.containers)]
    balancers = [Edge(clock, containers, Random(seed + 2 + n), policy) for n in range(scenario.balancers)]
    jobs = jobs_of(scenario, seed)

    def come(job: Job, balancer: Edge) -> None:
        balancer.begin(job)
        if job.done is None:
            clock.after(CLIENT_PATIENCE, lambda: balancer.gone(job))

    for job in jobs:
        balancer = dice.choice(balancers)
        clock.after(job.at, lambda job=job, balancer=balancer: come(job, balancer))  # type: ignore[misc]
    clock.run()
    return _told(scenario, jobs)._replace(accused=sum(balancer.accuses() for balancer in balancers))


def oracle(scenario: Scenario, seed: int) -> Result:
    """One queue, which knows everything. A fast worker first; incidents other than slowness make it no worse."""
    clock = Clock()
    containers = [Container(clock, number, scenario.incidents) for number in range(scenario.containers)]
    free = dict.fromkeys(range(scenario.containers), WORKERS)
    queue: deque[Job] = deque()
    jobs = jobs_of(scenario, seed)

    def serve(job: Job) -> bool:
        usable = [number for number, left in free.items() if left and containers[number].now().kind == WELL]
        if not usable:
            return False
        number = min(usable, key=lambda n: containers[n].now().slowness)
        free[number] -= 1
        clock.after(2 * WIRE + job.demand * containers[number].now().slowness, lambda: served(job, number))
        return True

    def served(job: Job, number: int) -> None:
        job.done, job.well, job.attempts = clock.now, clock.now - job.at < CLIENT_PATIENCE, 1
        free[number] += 1
        if queue and serve(queue[0]):
            queue.popleft()

    def come(job: Job) -> None:
        if not serve(job):
            if len(queue) < QUEUE * scenario.containers:
                queue.append(job)
            else:
                job.done = clock.now

    for job in jobs:
        clock.after(job.at, lambda job=job: come(job))  # type: ignore[misc]
    clock.run()
    return _told(scenario, jobs)


def _told(scenario: Scenario, jobs: list[Job]) -> Result:
    end = min(scenario.seconds, scenario.measured_to)
    counted = [job for job in jobs if scenario.begin <= job.at < end]
    times = sorted(job.done - job.at for job in counted if job.well and job.done is not None)
    capacity = scenario.containers * WORKERS / MEAN * (end - scenario.begin)
    attempts = sum(job.attempts for job in counted)
    return Result(
        goodput=len(times) / min(capacity, len(counted)),
        p50=times[len(times) // 2],
        p99=times[int(len(times) * 0.99)],
        errors=1.0 - len(times) / len(counted),
        bad=sum(job.to_bad for job in counted) / max(1, attempts),
        attempts=attempts / len(counted),
        paid=sum(job.paid for job in counted),
        back=_back(scenario, jobs),
    )


def _back(scenario: Scenario, jobs: list[Job]) -> float:
    """When it gets requests again as the others do, in windows of two seconds."""
    end, window = scenario.measured_to, 2.0
    while end + window <= scenario.seconds:
        seen = [job for job in jobs if end <= job.at < end + window]
        attempts = sum(job.attempts for job in seen)
        if sum(job.to_bad for job in seen) >= 0.8 * attempts / scenario.containers:
            return end - scenario.measured_to
        end += 0.5
    return math.inf


def main(names: list[str]) -> int:
    """Print the table."""
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        print(f"there is no scenario {', '.join(unknown)}; there are {' '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    print("scenario policy | goodput |  p50 ms |  p99 ms | errors % | to bad % | attempts | paid | back s")
    for name in names or SCENARIOS:
        scenario = SCENARIOS[name]
        print(f"[{name}] {scenario.what}", flush=True)
        for policy, play in (("oracle", oracle), ("styx", simulate)):
            r = play(scenario, 11)
            print(
                f"         {policy:6} | {r.goodput:7.4f} | {r.p50 * 1e3:7.0f} | {r.p99 * 1e3:7.0f} | "
                f"{r.errors * 100:8.2f} | {r.bad * 100:8.2f} | {r.attempts:8.2f} | {r.paid:4} | "
                f"{r.back:6.1f}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
