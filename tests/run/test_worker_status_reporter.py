"""What one worker reports for the status page."""

import time

import msgspec
import pytest

from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.settings import Settings
from edge.run.recent_events import RecentEvents
from edge.run.worker import Worker
from edge.run.worker_status_reporter import RANK_AGAIN_AFTER, WorkerStatusReporter

SETTINGS = {"listeners": ({"address": "127.0.0.1:0"},), "core_api": {"url": "http://127.0.0.1:9"}}


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
async def worker():
    clock = Clock()
    worker = Worker(Settings.model_validate(SETTINGS), clock=clock)
    worker.test_clock = clock
    yield worker
    await worker.stop()


def add(worker, site, *hostnames):
    backends = (Backend("a", "10.0.0.1", 1, "srv-1"), Backend("b", "10.0.0.2", 1, "srv-2"))
    for hostname in hostnames:
        response = RouteResponse(hostname, site, "live", 1, backends)
        worker.context.table.put(hostname, response, cache_control=None, now=1000.0, rand=0.0)
    return worker.context.resolver.environments.get(site, "live", 1000.0)


async def test_environments_with_their_rates(worker):
    acme = add(worker, "acme", "a.test", "b.test")
    add(worker, "other", "c.test")
    reporter = WorkerStatusReporter(worker.context, RecentEvents("worker 0"))
    first = await reporter.report()
    assert (first.environments, first.in_trouble, first.events) == (2, 0, [])
    found = {status.site: status for status in first.shown}
    assert (found["acme"].hostname, found["acme"].hostnames, found["acme"].rate) == ("a.test", 2, 0.0)
    assert len(found["acme"].containers) == 2
    acme.requests += 50
    worker.test_clock.now += 1.0
    found = {status.site: status for status in (await reporter.report()).shown}
    assert found["acme"].rate == 50.0
    assert found["other"].rate == 0.0


async def test_the_busiest_are_reported_with_one_of_their_hostnames(worker):
    add(worker, "acme", "a.test", "b.test")
    sites = worker.context.top_sites
    for site in ("acme", "gone"):
        sites.record((site, "live"), 503, 20.0, worker.test_clock.now)
    report = WorkerStatusReporter(worker.context).top()
    for loads in (report.requests, report.failures, report.time):
        assert {load.site: load.hostname for load in loads} == {"acme": "a.test", "gone": ""}


async def test_all_environments_are_looked_at_now_and_then(worker):
    add(worker, "acme", "a.test")
    reporter = WorkerStatusReporter(worker.context)
    assert (await reporter.report()).environments == 1
    add(worker, "other", "c.test")
    assert (await reporter.report()).environments == 1
    worker.test_clock.now += RANK_AGAIN_AFTER
    assert (await reporter.report()).environments == 2


async def test_an_environment_without_a_route_in_the_table_is_left_out(worker):
    add(worker, "acme", "a.test")
    nobody = worker.context.resolver.environments.get("gone", "live", 1000.0)
    report = await WorkerStatusReporter(worker.context).report()
    assert report.environments == 2
    assert [status.site for status in report.shown] == ["acme"]
    assert nobody.requests == 0


async def test_ten_thousand_environments_cost_little(worker):
    """A look at all of them each five seconds, and a report each second: 0.3 % of a core, measured; here 3 %,
    because the machine may be slow."""
    for number in range(10_000):
        worker.context.resolver.environments.get(f"site-{number}", "live", 1000.0)
        if number % 100 == 0:
            add(worker, f"site-{number}", f"{number}.test").requests += number
    kept = worker.context.resolver.environments.all
    reporter = WorkerStatusReporter(worker.context)
    await reporter.report()
    began = time.process_time()
    for _ in range(20):
        worker.test_clock.now += 1.0
        msgspec.json.encode(await reporter.report())
    assert time.process_time() - began < 20 * 0.03
    assert len(kept) == 10_000
