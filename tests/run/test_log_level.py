"""The level of the event log, overridden for some time. The clock is given."""

import logging

import pytest
import structlog

from edge.rules.settings import LogSettings
from edge.run import event_log
from edge.run.recent_events import RecentEvents


@pytest.fixture
def told():
    root, before = logging.getLogger(), list(logging.getLogger().handlers)
    event_log.configure(LogSettings(level="info"))
    events = RecentEvents("master")
    events.install()
    yield lambda: [(event.code, event.fields) for event in events.events]
    event_log.end_override()
    root.handlers[:] = before
    structlog.reset_defaults()


def writes_debug():
    return logging.getLogger("styx.x").isEnabledFor(logging.DEBUG)


def test_it_ends_by_itself_and_both_are_told(told):
    assert event_log.level_now(100.0) == ("info", "info", 0.0)
    event_log.follow_order("debug", 60.0, 100.0)
    assert writes_debug()
    assert event_log.level_now(110.0) == ("debug", "info", 50.0)
    event_log.expire_override(159.9)
    assert writes_debug()
    event_log.expire_override(160.0)
    assert not writes_debug()
    assert event_log.level_now(160.0) == ("info", "info", 0.0)
    event_log.expire_override(161.0)
    assert told() == [
        ("log_level_overridden", "log_level=debug"),
        ("log_level_restored", "log_level=info"),
    ]


def test_it_ends_by_order_and_by_a_reload(told):
    event_log.follow_order("debug", 60.0, 100.0)
    event_log.follow_order("", 0, 101.0)
    assert not writes_debug()
    event_log.follow_order("debug", 60.0, 102.0)
    event_log.configure(LogSettings(level="warning"))
    assert event_log.level_now(103.0) == ("warning", "warning", 0.0)
    assert [code for code, _ in told()] == ["log_level_overridden", "log_level_restored"] * 2


def test_libraries_stay_at_warning(told):
    event_log.follow_order("debug", 60.0, 100.0)
    assert not logging.getLogger("aiohttp.server").isEnabledFor(logging.INFO)
