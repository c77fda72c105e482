"""Runs the scenes of `routes`: as many routes as a large platform has, and without the core API.

first:   10,000 first requests for 2,000 new hostnames at once: 2,000 lookups, never more than the limit in flight
flood:   5,000 requests a second for made-up hostnames, beside normal traffic; from one client, then from thousands
faults:  the core API is gone, returns 500, hangs, sends noise or slowly, or sends nonsense, while normal traffic
         goes on and new hostnames are requested
shared:  the Redis that edges share is frozen, stopped, and started empty, beside known and new hostnames
moved:   a container moves under load; another edge knows it as well, without a request
scale:   half a million hostnames of three backends in one worker (bench/routing/many_routes.py)
"""

import resource
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bench.report import Fact, SceneFact, facts_table, none_missed
from bench.routing import many_routes
from bench.routing.route_floods import floods
from bench.routing.route_scenes import core_api_faults, first_requests, moved_container
from bench.routing.route_stage import RoutesPlan
from bench.routing.shared_route_scenes import shared_redis


@dataclass(slots=True)
class RoutesReport:
    """All that was measured."""

    lines: list[SceneFact] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return none_missed(self.lines)

    def text(self) -> str:
        facts = (Fact(f"{line.scene}: {line.what}", line.seen, line.goal, line.met) for line in self.lines)
        return facts_table("routes", facts)


async def run(plan: RoutesPlan) -> RoutesReport:
    """Raises BenchFailed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * plan.first)), hard))
    scenes: dict[str, Callable[[RoutesPlan], Awaitable[list[SceneFact]]]] = {
        "first": first_requests,
        "flood": floods,
        "faults": core_api_faults,
        "moved": moved_container,
        "shared": shared_redis,
        "scale": _scale,
    }
    report = RoutesReport()
    for name in plan.scenes:
        print(f"routes: {name}", file=sys.stderr, flush=True)
        report.lines += await scenes[name](plan)
    return report


async def _scale(_: RoutesPlan) -> list[SceneFact]:
    seen = await many_routes.measure()
    return [
        SceneFact(
            "scale",
            f"{seen.routes} routes loaded",
            f"{seen.load_seconds:.1f} s",
            "< 10 s",
            seen.load_seconds < 10.0,
        ),
        SceneFact("scale", "memory for each", f"{seen.bytes_each:.0f} bytes", "<= 2048", seen.bytes_each <= 2048),
        SceneFact("scale", "file for each", f"{seen.file_bytes_each:.0f} bytes", "", None),
        SceneFact(
            "scale",
            "CPU a request over 10,000 of them / over one",
            f"{seen.many_us:.1f} / {seen.one_us:.1f} us: x {seen.ratio:.2f}",
            "<= 1.15",
            seen.ratio <= 1.15,
        ),
        SceneFact(
            "scale",
            "memory for each after that",
            f"{seen.bytes_each_after:.0f} bytes",
            "<= 2048",
            seen.bytes_each_after <= 2048,
        ),
    ]
