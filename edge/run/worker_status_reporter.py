"""Reports the environments of one worker for the status page: only when asked, and in steps."""

import asyncio
from typing import Final

from edge.net.routing.pushed_routes import in_batches
from edge.net.worker_context import WorkerContext
from edge.rules.balancing.environments import Environment
from edge.rules.environment_status import EnvironmentRanking, RequestRates, environment_status
from edge.rules.environment_status_records import EnvironmentStatus, WorkerStatus
from edge.rules.routing.change_records import Change
from edge.rules.traffic.top_records import TopReport
from edge.run.recent_events import RecentEvents

RANK_AGAIN_AFTER: Final = 5.0
"Seconds between two looks at all environments."
AT_ONCE: Final = 500
"Environments in one turn of the loop: a fifth of a millisecond."

DESCRIBED_AT_ONCE: Final = 6
"Environments described in one turn of the loop; some 60 microseconds each."


class WorkerStatusReporter:
    """Makes the reports of one worker."""

    def __init__(self, context: WorkerContext, recent_events: RecentEvents | None = None) -> None:
        self._context = context
        self._recent_events = recent_events
        self._ranking = EnvironmentRanking()
        self._ranked_at = float("-inf")
        self._rates = RequestRates()
        self._turn = asyncio.Lock()

    async def report(self) -> WorkerStatus:
        """The environments to show, and the last events."""
        async with self._turn:
            context = self._context
            if context.clock() - self._ranked_at >= RANK_AGAIN_AFTER:
                await self._rank()
            chosen, now = self._ranking.chosen, context.clock()
            rates = self._rates.rates(chosen, now)
            shown = []
            async for batch in in_batches(zip(chosen, rates, strict=True), DESCRIBED_AT_ONCE):
                shown += [self._status(environment, rate) for environment, rate in batch]
            return WorkerStatus(
                self._ranking.total,
                self._ranking.in_trouble,
                [status for status in shown if status is not None],
                self._recent_events.events if self._recent_events is not None else [],
                context.tls.certificates.ending_first() if context.tls is not None else [],
            )

    def top(self) -> TopReport:
        """The busiest environments, each with one of its hostnames."""
        context = self._context
        report = context.top_sites.report(context.clock())
        for load in (*report.requests, *report.failures, *report.time):
            if not load.hostname:  # the same object may be in several lists
                load.hostname = context.table.index.oldest(_all_of(load.site, load.environment)) or ""
        return report

    async def _rank(self) -> None:
        """Look at all environments, some in each turn of the loop."""
        checks = self._context.balancer.checks.running.values()
        down = {id(check.environment) for check in checks}
        ranking = EnvironmentRanking(self._ranking, down)
        async for batch in in_batches(self._context.resolver.environments.all, AT_ONCE):
            ranking.look_at(batch)
        self._ranking, self._ranked_at = ranking, self._context.clock()

    def _status(self, environment: Environment, rate: float) -> EnvironmentStatus | None:
        """Describe one environment; None = it has no route in the table any more."""
        context = self._context
        change = _all_of(environment.site, environment.name)
        hostname = context.table.index.oldest(change)
        route = None if hostname is None else context.table.peek(hostname)
        if hostname is None or route is None or route.environment is None or route.response is None:
            return None
        return environment_status(
            hostname,
            route,
            hostnames=context.table.index.count(change),
            rate=rate,
            drains=context.table.drains,
            now=context.clock(),
        )


def _all_of(site: str, environment: str) -> Change:
    """What names all hostnames of an environment."""
    return Change("environment", f"{site}/{environment}")
