"""What every process of a styx takes up, and what its metrics say, again and again."""

import asyncio
import re
import sys
import time
from collections.abc import Callable, Iterable
from statistics import median

import msgspec

from bench.lab.procfs import Footprint, footprint
from bench.operations.operated_edge import Edge

MIB = 1 << 20
GAUGES = (
    "styx_client_connections",
    "styx_http2_connections",
    "styx_requests_in_flight",
    "styx_backend_connections",
    "styx_buffered_bytes",
    "styx_routes",
    "styx_routes_ready",
    "styx_unknown_hosts",
    "styx_environments",
    "styx_tls_contexts",
    "styx_core_api_lookups_in_flight",
    "styx_backends_down",
)
"Of what styx holds now; those with labels are summed."
FAULTS = ("styx_worker_restarts_total", "styx_background_failures_total", "styx_log_lines_dropped_total")
"Counters that must stay 0."
_LINE = re.compile(r"^(styx_\w+)(?:\{[^}]*\})? ([0-9.e+-]+)$", re.MULTILINE)


class Sample(msgspec.Struct, kw_only=True):
    """One look."""

    at: float
    "Seconds after the load began."
    processes: dict[str, Footprint]
    "By name and process id: a worker that replaces another is another process."
    metrics: dict[str, float]
    "GAUGES and FAULTS; empty = the admin process did not respond."

    @property
    def descriptors(self) -> int:
        """Of all processes."""
        return sum(taken.descriptors for taken in self.processes.values())


async def take(edge: Edge, began: float) -> Sample:
    """Now."""
    found = {f"{name} ({pid})": footprint(pid) for name, pid in sorted(edge.processes().items())}
    text = ((await edge.request_admin("/metrics")) or b"").decode()
    metrics: dict[str, float] = {}
    for name, value in _LINE.findall(text):
        if name in GAUGES or name in FAULTS:
            metrics[name] = metrics.get(name, 0.0) + float(value)
    processes = {name: taken for name, taken in found.items() if taken is not None}
    return Sample(at=time.monotonic() - began, processes=processes, metrics=metrics)


class Sampler:
    """Takes samples, and says each on standard error."""

    def __init__(self, edge: Edge, every: float, began: float) -> None:
        self._edge = edge
        self._every = every
        self._began = began
        self.samples: list[Sample] = []

    async def run(self) -> None:
        """Until it is cancelled."""
        due = self._began
        while True:
            due += self._every
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            sample = await take(self._edge, self._began)
            self.samples.append(sample)
            print(progress(sample), file=sys.stderr, flush=True)


def progress(sample: Sample) -> str:
    """One line."""
    heaps = ", ".join(
        f"{name.partition(' (')[0]} {taken.proportional_heap / MIB:.2f}" for name, taken in sample.processes.items()
    )
    metrics = sample.metrics
    return (
        f"{sample.at // 60:3.0f}:{sample.at % 60:02.0f}  MiB: {heaps}; {sample.descriptors} descriptors, "
        f"{metrics.get('styx_client_connections', -1):.0f} clients, {metrics.get('styx_routes', -1):.0f} routes, "
        f"{metrics.get('styx_unknown_hosts', -1):.0f} unknown"
    )


class Trend(msgspec.Struct, kw_only=True):
    """Of one process: medians over a window when it had settled, and over the last one of its life."""

    process: str
    lived: float
    "Seconds."
    before: Footprint
    after: Footprint

    @property
    def growth(self) -> float:
        """Of its heap, as a part of what it was: 0.05 = by 5 %."""
        return self.after.proportional_heap / self.before.proportional_heap - 1

    @property
    def resident_growth(self) -> float:
        """Of its resident memory, likewise."""
        return self.after.resident / self.before.resident - 1


def trends(samples: list[Sample], settle: float, window: float) -> list[Trend]:
    """Of all processes that lived long enough: a window beyond the one in which they had settled."""
    found = []
    for process in dict.fromkeys(name for sample in samples for name in sample.processes):
        mine = [sample for sample in samples if process in sample.processes]
        born, died = mine[0].at, mine[-1].at
        if died - born < settle + 2 * window:
            continue
        settled = [s.processes[process] for s in mine if born + settle <= s.at < born + settle + window]
        last = [s.processes[process] for s in mine if s.at > died - window]
        found.append(Trend(process=process, lived=died - born, before=_typical(settled), after=_typical(last)))
    return found


def _typical(taken: Iterable[Footprint]) -> Footprint:
    taken = list(taken)

    def middle(of: Callable[[Footprint], int]) -> int:
        return int(median(map(of, taken)))

    return Footprint(
        middle(lambda one: one.resident),
        middle(lambda one: one.proportional),
        middle(lambda one: one.proportional_heap),
        middle(lambda one: one.own),
        middle(lambda one: one.descriptors),
    )
