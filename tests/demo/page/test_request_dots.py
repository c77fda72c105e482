"""Which requests are drawn: all that did not succeed at once, a sample of the others, and never too many."""

from edge.demo.page.demo_load import TrafficCount, outcome_of, percentile
from edge.demo.page.demo_records import Dot
from edge.demo.page.request_dots import EndedRequest, RequestDots


def ended(outcome="ok", at=10.0, request_id="r", container="c1"):
    return EndedRequest(at, outcome, "acme", container, request_id, 0.02, "GET 200")


def test_outcomes():
    assert outcome_of(200, "", 1) == "ok"
    assert outcome_of(200, "", 2) == "retried"
    assert outcome_of(503, "all_refused", 1) == "refused"
    assert outcome_of(503, "", 1) == "failed", "of the application"
    assert outcome_of(503, "no_backends", 1) == "failed", "that is no lack of room"
    assert outcome_of(502, "closed_early", 1) == "failed"
    assert outcome_of(0, "ServerDisconnectedError", 1) == "failed"


def test_a_dot_tells_when_where_and_who_refused_it():
    dots = RequestDots()
    dots.add(ended("retried", at=9.9, request_id="r-7"))
    assert dots.take(10.0, {"r-7": ["c2", "c3"], "r-8": ["c4"]}) == [
        Dot(100, "retried", "acme", "c1", ["c2", "c3"])
    ]
    assert dots.take(10.2, {}) == []


def test_a_sample_is_drawn_of_many_and_the_page_can_say_which():
    dots = RequestDots(most_ok=10)
    assert dots.drawn_each == 1
    for _ in range(35):
        dots.add(ended())
    assert len(dots.take(10.0, {})) == 10
    assert dots.drawn_each == 4
    for _ in range(36):
        dots.add(ended())
    assert len(dots.take(10.0, {})) == 9
    assert dots.drawn_each == 4
    for _ in range(10):
        dots.take(10.0, {})
    assert dots.drawn_each == 1


def test_those_that_did_not_succeed_at_once_are_all_drawn_up_to_a_bound():
    dots = RequestDots(most_ok=2, most_others=40)
    for _ in range(100):
        dots.add(ended())
        dots.add(ended("failed"))
    drawn = [dot.outcome for dot in dots.take(10.0, {})]
    assert (drawn.count("ok"), drawn.count("failed")) == (2, 40)


def test_traffic_is_counted_by_outcome_and_site():
    count = TrafficCount()
    count.roll(100.0)
    for outcome in ("ok", "ok", "retried", "refused", "failed"):
        count.record_sent("acme")
        count.record_end(ended(outcome))
    count.roll(100.5)
    assert count.rates == {}
    count.roll(102.0)
    assert count.rates == {"acme": 2.5}
    now = count.now(40)
    assert (now.wanted, now.rate, now.sent) == (40, 2.5, 5)
    assert (now.ok, now.retried, now.refused, now.failed) == (2, 1, 1, 1)
    assert (now.p50, now.p95) == (20.0, 20.0)
    assert now.last_failure == "GET 200 for acme"


def test_percentiles():
    assert percentile([], 0.5) is None
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert percentile([1.0, 2.0, 3.0], 0.95) == 2.0
    assert percentile([1.0], 0.95) == 1.0
