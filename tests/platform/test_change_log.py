"""The change stream, as a log and over HTTP."""

import json
from contextlib import asynccontextmanager

import aiohttp
import pytest

from edge.platform.change_log import ChangeLog, ReaderLost
from edge.platform.pocket_platform import PlatformSpec, PocketPlatform


class Stream:
    """Server-sent events of one response."""

    def __init__(self, response):
        self.response = response

    async def comment(self):
        while True:
            line = await self.line()
            if line.startswith(":"):
                return line

    async def event(self):
        """The next (id, data); comments are skipped."""
        found = {}
        while True:
            line = await self.line()
            if not line and found:
                assert found["event"] == "invalidate"
                return found["id"], json.loads(found["data"])
            name, _, value = line.partition(": ")
            if name:
                found[name] = value

    async def line(self):
        raw = await self.response.content.readline()
        assert raw.endswith(b"\n"), "the stream ended"
        return raw.decode().rstrip("\n")


@asynccontextmanager
async def subscribed(platform, http, last_event_id=None):
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    async with http.get(f"{platform.core_api_url}/v1/changes", headers=headers) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        stream = Stream(response)
        assert await stream.line() == ": welcome"
        yield stream


async def test_changes_are_sent_with_ids(platform, http):
    async with subscribed(platform, http) as stream:
        platform.changes.publish({"server": "srv-3"})
        platform.changes.publish({"hostname": "a.example"})
        first, second = await stream.event(), await stream.event()
    assert [first[1], second[1]] == [{"server": "srv-3"}, {"hostname": "a.example"}]
    assert first[0] != second[0]


async def test_a_new_environment_sends_its_hostnames_and_a_goal_its_environment(platform, http):
    async with subscribed(platform, http) as stream:
        await platform.create_environment("acme", hostnames=["a.example"])
        assert (await stream.event())[1] == {"hostname": "a.example"}
        assert (await stream.event())[1] == {"site": "acme", "environment": "live"}


async def test_heartbeat_while_nothing_happens(platform, http):
    async with subscribed(platform, http) as stream:
        assert await stream.comment() == ": heartbeat"
        assert await stream.comment() == ": heartbeat"


async def test_resume_sends_missed_changes(platform, http):
    async with subscribed(platform, http) as stream:
        platform.changes.publish({"server": "srv-1"})
        last, _ = await stream.event()
    platform.changes.publish({"server": "srv-2"})
    platform.changes.publish({"server": "srv-3"})
    async with subscribed(platform, http, last) as stream:
        assert (await stream.event())[1] == {"server": "srv-2"}
        assert (await stream.event())[1] == {"server": "srv-3"}


@pytest.mark.parametrize("last", ["otherrun-1", "nonsense", "", "{epoch}-999"])
async def test_a_stream_that_cannot_resume_begins_with_everything(platform, http, last):
    async with subscribed(platform, http, last.format(epoch=platform.changes.epoch)) as stream:
        number, data = await stream.event()
        assert data == {"all": True}
        platform.changes.publish({"server": "srv-2"})
        assert (await stream.event())[1] == {"server": "srv-2"}
    async with subscribed(platform, http, number) as stream:
        assert (await stream.event())[1] == {"server": "srv-2"}


async def test_resume_over_a_restart_of_the_core_api(platform, http):
    async with subscribed(platform, http) as stream:
        platform.changes.publish({"server": "srv-1"})
        last, _ = await stream.event()
        await platform.stop_core_api()
        with pytest.raises((AssertionError, aiohttp.ClientError)):
            await stream.event()
    platform.changes.publish({"server": "srv-2"})
    await platform.start_core_api()
    async with subscribed(platform, http, last) as stream:
        assert (await stream.event())[1] == {"server": "srv-2"}


async def test_slow_reader_is_disconnected(http):
    async with PocketPlatform(PlatformSpec(heartbeat=5)) as platform, subscribed(platform, http) as stream:
        for number in range(platform.changes.max_lag + 1):
            platform.changes.publish({"server": f"srv-{number}"})
        assert platform.changes.readers == 0
        with pytest.raises((AssertionError, aiohttp.ClientError)):
            await stream.event()


def test_the_ring_is_bounded():
    log = ChangeLog("e", ring=3)
    for number in range(5):
        log.publish({"server": f"srv-{number}"})
    for last, resumed in (("e-1", False), ("e-2", True), ("e-5", True), ("e-6", False)):
        with log.reader(last, lambda: None) as reader:
            assert reader.resumed is resumed, last
    assert log.readers == 0


async def test_on_lost_is_called_once():
    log = ChangeLog("e", max_lag=1)
    lost = []
    with log.reader(None, lambda: lost.append(1)) as reader:
        for _ in range(3):
            log.publish({"all": True})
        with pytest.raises(ReaderLost):
            await log.next(reader, heartbeat=5)
    assert lost == [1]


async def test_muted_changes_are_never_sent():
    log = ChangeLog("e")
    with log.muted():
        log.publish({"all": True})
    assert log.last == 0
