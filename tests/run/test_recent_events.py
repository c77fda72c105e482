"""The last events of a process, from structlog and from the standard library."""

import logging

import pytest
import structlog

from edge.rules.settings import LogSettings
from edge.run import event_log
from edge.run.recent_events import LONGEST_FIELDS, LONGEST_TEXT, EventRelay, RecentEvents


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


def test_the_relay_gives_each_event_once_and_all_that_are_kept_to_a_new_receiver(recent):
    relay, log = EventRelay(recent), logging.getLogger("styx.y")

    def taken(receiver):
        return [event.code for event in relay.take_new(receiver)]

    assert taken(7) == []
    log.warning("x", extra={"code": "0"})
    assert taken(7) == ["0"]
    assert taken(7) == []
    for number in range(1, 6):
        log.warning("x", extra={"code": str(number)})
    assert taken(7) == ["3", "4", "5"]  # only the last three are kept
    assert taken(8) == ["3", "4", "5"]
    assert taken(8) == []


def test_events_are_kept_on_when_the_log_is_configured_again(recent):
    logging.getLogger("styx.y").warning("x", extra={"code": "before"})
    event_log.configure(LogSettings())
    logging.getLogger("styx.y").warning("x", extra={"code": "after"})
    assert [event.code for event in recent.events] == ["before", "after"]
