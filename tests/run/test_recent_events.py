"""The last events of a process, from structlog and from the standard library."""

import logging

import pytest
import structlog

from edge.rules.settings import LogSettings
from edge.run import event_log
from edge.run.recent_events import LONGEST_FIELDS, LONGEST_TEXT, RecentEvents


@pytest.fixture
def recent():
    events = RecentEvents("worker 1", most=3)
    root, before = logging.getLogger(), list(logging.getLogger().handlers)
    event_log.configure(LogSettings())
    events.install()
    yield events
    root.handlers[:] = before
    structlog.reset_defaults()


def test_events_of_both_kinds(recent):
    structlog.get_logger("styx.x").warning("backend down", code="backend_down", backend="a", since=1.5)
    logging.getLogger("styx.y").error("lookup %s", "failed", extra={"code": "lookup_failed", "hostname": "a.test"})
    first, second = recent.events
    assert (first.text, first.code, first.level, first.by) == (
        "backend down",
        "backend_down",
        "warning",
        "worker 1",
    )
    assert first.fields == "backend=a since=1.5"
    assert (second.text, second.code, second.fields) == ("lookup failed", "lookup_failed", "hostname=a.test")
    assert second.at >= first.at > 1e9


def test_bounds(recent):
    for number in range(5):
        logging.getLogger("styx.y").warning("x" * 1000, extra={"code": str(number), "more": "y" * 1000})
    assert [event.code for event in recent.events] == ["2", "3", "4"]
    assert len(recent.events[0].text) == LONGEST_TEXT
    assert len(recent.events[0].fields) == LONGEST_FIELDS
