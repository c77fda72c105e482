"""One picture from the reports of several workers."""

import pytest

from edge.admin.status_page.merged_status import (
    MOST_CERTIFICATES,
    MOST_EVENTS,
    MOST_SHOWN,
    merged_certificates,
    merged_environments,
    merged_events,
)
from edge.rules.environment_status_records import CertificateStatus, FailureCount, RecentEvent, WorkerStatus
from tests.support.staged_status import container, environment


def report(*environments, total=10, in_trouble=0):
    return WorkerStatus(total, in_trouble, list(environments), [])


def test_rates_are_added_and_shares_are_means_by_requests():
    one = environment("acme", [container("a", 0.9), container("b", 0.1)], rate=29.9, in_flight=4, queued=1)
    two = environment("acme", [container("a", 0.5), container("b", 0.5)], rate=9.9, in_flight=2)
    found = merged_environments([report(one), report(two)])
    [shown] = found.shown
    assert (shown.rate, shown.in_flight, shown.queued) == (pytest.approx(39.8), 6, 1)
    assert [c.share for c in shown.containers] == [pytest.approx(0.8), pytest.approx(0.2)]
    assert [c.in_flight for c in shown.containers] == [4, 4]


def test_the_worst_condition_is_shown_and_failures_are_added():
    down = container("a", 0.0, "down", why="connect failed", failures=[FailureCount("connect_failed", 2, 1.0)])
    fine = container("a", 1.0, failures=[FailureCount("connect_failed", 1, 9.0), FailureCount("refused", 1, 0.5)])
    for reports in ((down, fine), (fine, down)):
        found = merged_environments([report(environment("acme", [each])) for each in reports])
        [shown] = found.shown[0].containers
        assert (shown.condition, shown.why) == ("down", "connect failed")
        assert [(f.cause, f.count, f.age) for f in shown.failures] == [
            ("refused", 1, 0.5),
            ("connect_failed", 3, 1.0),
        ]


def test_those_in_trouble_and_the_busiest_in_a_stable_order():
    busy = [environment(f"site-{n:03}", [container("a", 1.0)], rate=float(n)) for n in range(100)]
    sick = environment("zzz", [container("a", 0.0, "down")], rate=0.0)
    found = merged_environments([report(*busy[:50], total=100), report(*busy[50:], sick, total=101, in_trouble=1)])
    assert (found.total, found.in_trouble, len(found.shown)) == (101, 1, MOST_SHOWN)
    names = [e.site for e in found.shown]
    assert names == sorted(names)
    assert "zzz" in names
    assert "site-099" in names
    assert "site-000" not in names


def test_no_report():
    found = merged_environments([])
    assert (found.total, list(found.shown)) == (0, [])


def test_the_latest_events_of_all():
    events = [RecentEvent(float(n), "info", "worker 0", str(n), "", "") for n in range(200)]
    merged = merged_events(events[:100], events[100:])
    assert [event.text for event in merged] == [str(n) for n in range(199, 199 - MOST_EVENTS, -1)]


def ending(name, days, error=None):
    return CertificateStatus(name, 0, 1e9 + 86_400 * days, "the core API", error)


def test_certificates_that_end_first():
    reports = [
        WorkerStatus(0, 0, [], [], [ending("a.test", 60), ending("b.test", 2, "503"), ending("c.test", 3)]),
        WorkerStatus(0, 0, [], [], [ending("a.test", 5), ending("b.test", 2), ending("c.test", 3, "404")]),
    ]
    found = merged_certificates(reports, 1e9)
    assert [(each.name, each.days_left, each.last_error) for each in found] == [
        ("b.test", 2.0, "503"),
        ("c.test", 3.0, "404"),
        ("a.test", 5.0, None),
    ], "one that ends earlier is told, and so is a fault that only one worker has met"
    many = WorkerStatus(0, 0, [], [], [ending(f"{number}.test", number) for number in range(50)])
    assert [each.days_left for each in merged_certificates([many], 1e9)] == list(range(MOST_CERTIFICATES))
    assert merged_certificates([], 1e9) == []
