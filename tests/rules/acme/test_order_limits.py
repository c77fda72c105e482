"""How many orders may begin."""

from edge.rules.acme.order_limits import HOUR, WEEK, OrderLimits, WaitForLimit


def test_orders_of_an_hour():
    limits = OrderLimits(2, 100)
    limits.record("a.test", 10.0, 10.0, is_first=True)
    assert limits.wait_of_all(11.0) is None
    limits.record("b.test", 20.0, 20.0, is_first=False)
    assert limits.wait_of_all(21.0) == WaitForLimit(10.0 + HOUR, "orders_per_hour")
    assert limits.wait_of_all(10.0 + HOUR) is None
    limits.record("c.test", 10.0 + HOUR, 10.0 + HOUR, is_first=True)
    assert limits.wait_of_all(11.0 + HOUR) == WaitForLimit(20.0 + HOUR, "orders_per_hour")


def test_first_orders_of_a_domain():
    limits = OrderLimits(100, 2)
    for at, is_first in ((10.0, True), (15.0, False), (20.0, True)):
        limits.record("a.test", at, at, is_first=is_first)
    assert limits.wait_of_domain("a.test", 30.0) == WaitForLimit(10.0 + WEEK, "orders_per_domain")
    assert limits.wait_of_domain("b.test", 30.0) is None
    assert limits.wait_of_domain("a.test", 10.0 + WEEK) is None


def test_what_is_long_ago_does_not_count():
    limits = OrderLimits(1, 1)
    limits.record("a.test", 10.0, 10.0 + HOUR, is_first=False)
    limits.record("b.test", 10.0, 10.0 + WEEK, is_first=True)
    assert limits.wait_of_all(10.0 + HOUR) is None
    assert len(limits) == 0


def test_domains_are_forgotten():
    limits = OrderLimits(100, 2)
    limits.record("a.test", 10.0, 10.0, is_first=True)
    limits.record("b.test", 20.0, 20.0, is_first=True)
    limits.forget(10.0 + WEEK)
    assert len(limits) == 1
