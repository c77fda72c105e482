"""`GET /v1/top`: what all workers report, in one picture."""

import json

import msgspec

from edge.admin.admin_messages import WorkerReplies, WorkerReply
from edge.admin.metrics.merged_top import merged_top
from edge.rules.traffic.top_records import SiteLoad, TopReport


def load(site, requests, failures=0.0, seconds=0.0, missed=0.0):
    return SiteLoad(site, "live", requests, failures, seconds, missed)


def replies(*reports, silent=()):
    encoded = [msgspec.Raw(msgspec.json.encode(report)) for report in reports]
    return WorkerReplies([WorkerReply(n, n, content) for n, content in enumerate(encoded)], list(silent))


def test_numbers_of_all_workers_are_added():
    first = TopReport(60.0, [load("a", 600, 60, 30.0, 6.0), load("b", 60)], [load("a", 600, 60, 30.0)], [])
    second = TopReport(10.0, [load("c", 300), load("a", 100, 10, 5.0)], [], [])
    top = merged_top(replies(first, second, silent=[2]), 2)
    assert [entry.site for entry in top.rate] == ["c", "a"]
    a = top.rate[1]
    assert (a.requests_per_second, a.failures_per_second, a.error_ratio) == (20.0, 2.0, 0.1)
    assert (a.mean_ms, a.in_flight, a.missed) == (50.0, 1.0, 0.1)
    assert [entry.site for entry in top.errors] == ["a"]
    assert (top.seconds, top.silent) == (60.0, [2])


def test_the_slowest_of_those_that_take_most_time():
    time = [load("busy", 10_000, 0, 500.0), load("slow", 10, 0, 100.0), load("once", 1, 0, 30.0)]
    top = merged_top(replies(TopReport(100.0, [], [], time)), 2)
    assert [(entry.site, entry.mean_ms) for entry in top.latency] == [("slow", 10_000.0), ("busy", 50.0)]


def test_without_failures_nobody_is_in_the_list_of_errors():
    assert merged_top(replies(TopReport(10.0, [load("a", 1)], [load("a", 1)], [])), 5).errors == []
    assert merged_top(WorkerReplies([], [0, 1]), 5).rate == []


def test_the_hostname_is_that_of_a_worker_that_has_a_route():
    known, other = load("a", 1), load("b", 1)
    known.hostname = "www.a.test"
    top = merged_top(replies(TopReport(1.0, [known], [], []), TopReport(1.0, [load("a", 5), other], [], [])), 5)
    assert {entry.site: entry.hostname for entry in top.rate} == {"a": "www.a.test", "b": ""}


async def test_over_http(admin):
    response, body = await admin.get("/v1/top?limit=5")
    assert response.status == 200
    top = json.loads(body)
    assert [entry["site"] for entry in top["rate"]] == ["acme"]
    assert (top["rate"][0]["requests_per_second"], top["rate"][0]["mean_ms"]) == (2.0, 100.0)
    assert top["silent"] == [1]
    for limit in ("0", "51", "x", "-1", "²"):
        _, detail = await admin.problem(f"/v1/top?limit={limit}", 422)
        assert "from 1 to 50" in detail
