"""Slow clients against a real styx with short deadlines; thousands of them are in `python -m bench slow`."""

import pytest

from bench.slow import slow

pytestmark = [pytest.mark.long, pytest.mark.alone]


async def test_slow_clients_are_cut_off_in_time_and_nobody_else_notices():
    plan = slow.SlowPlan(rounds=1, seconds=1, heads=60, bodies=60, rate=100, ramp=0.3, head=1, body=1, polite=False)
    report = await slow.run(plan)
    assert not report.uncut, report.text()
    assert not report.missing, report.text()
    assert set(report.statuses) == {"200"}, report.text()
    # Everybody was there, and most came back: their deadlines are a second or two.
    assert len(report.connections) >= 120, report.text()
    assert {connection.kind for connection in report.connections} == {"head", "length", "chunked"}
    assert {connection.status for connection in report.connections} <= {0, 408}, report.text()
