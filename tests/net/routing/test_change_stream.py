"""The stream of changes, against the pocket platform's own and against servers that misbehave."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

import edge.net.routing.change_stream as change_stream
from edge.net.routing.change_stream import ChangeStream
from edge.platform.change_log import ChangeLog
from edge.platform.registry import Registry
from edge.platform.route_api import RouteApi
from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import EVERYTHING
from edge.rules.settings import CoreApiSettings

HEARTBEAT = 0.02


class Reader:
    """Reads the stream, and can wait for its changes."""

    def __init__(self):
        self.received = []
        self.fails = 0
        self.pieces = 0
        self.stream = ChangeStream(self._receive, clock=asyncio.get_running_loop().time, rand=lambda: 0.0)
        self._event = asyncio.Event()

    def _receive(self, changes):
        if self.fails and EVERYTHING not in changes:
            self.fails -= 1
            raise RuntimeError("a fault of ours")
        self.received += changes
        self.pieces += 1
        self._event.set()

    async def wait_for(self, count):
        """Wait for `count` changes, and return the first `count`."""
        async with asyncio.timeout(100):
            while len(self.received) < count:
                self._event.clear()
                await self._event.wait()
        return self.received[:count]


@pytest.fixture
async def reader(monkeypatch):
    monkeypatch.setattr(change_stream, "SHORTEST_PAUSE", 0.01)
    reader = Reader()
    yield reader
    await reader.stream.stop()


@asynccontextmanager
async def serving(*handlers):
    """A core API with one handler for each connection; the last handler is for all further ones."""
    left, seen = list(handlers), []

    async def handle(request):
        seen.append(request)
        return await (left.pop(0) if len(left) > 1 else left[0])(request)

    app = web.Application()
    app.router.add_get("/v1/changes", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    try:
        yield CoreApiSettings(url=f"http://127.0.0.1:{port}"), seen
    finally:
        await runner.cleanup()


def stream_of(*pieces, then=None):
    """A handler that sends these pieces, and then ends the response, after the event `then` if there is one."""

    async def handler(request):
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        if then is not None:
            await then.wait()
        return response

    return handler


def platform(log):
    return RouteApi(Registry(":memory:", lambda *_: None), log, heartbeat=HEARTBEAT).stream


async def test_the_first_connection_publishes_everything_then_each_change(reader):
    log = ChangeLog("e1")
    async with serving(platform(log)) as (settings, _):
        reader.stream.start(settings)
        assert await reader.wait_for(1) == [EVERYTHING]
        log.publish({"hostname": "a.test"})
        log.publish({"site": "acme", "environment": "live"})
        received = await reader.wait_for(3)
        assert received[1:] == [Change("hostname", "a.test"), Change("environment", "acme/live")]
        assert reader.stream.state.connected
        log.lose_all()


async def test_duplicate_changes_in_one_piece_are_published_once(reader):
    a, b = (b'event: invalidate\ndata: {"hostname": "%b.test"}\n\n' % name for name in (b"a", b"b"))
    forever = asyncio.Event()
    async with serving(stream_of(a * 20_000 + b, then=forever)) as (settings, _):
        reader.stream.start(settings)
        while reader.received[-1:] != [Change("hostname", "b.test")]:
            await reader.wait_for(len(reader.received) + 1)
        assert len(reader.received) <= 2 + reader.pieces < 200
        assert reader.stream.state.events == 20_001
        forever.set()


async def test_a_stream_is_resumed_after_the_last_event(reader):
    log = ChangeLog("e1")
    async with serving(platform(log)) as (settings, seen):
        reader.stream.start(settings)
        await reader.wait_for(1)
        log.publish({"hostname": "a.test"})
        await reader.wait_for(2)
        log.lose_all()
        log.publish({"hostname": "b.test"})
        assert await reader.wait_for(3) == [EVERYTHING, Change("hostname", "a.test"), Change("hostname", "b.test")]
        assert seen[-1].headers["Last-Event-ID"] == "e1-1"
        assert reader.stream.state.gaps == 1
        log.lose_all()


async def test_a_gap_that_the_platform_reports_makes_everything_stale(reader):
    before, after = ChangeLog("e1"), ChangeLog("e2")
    async with serving(platform(before), platform(after)) as (settings, _):
        reader.stream.start(settings)
        await reader.wait_for(1)
        before.publish({"hostname": "a.test"})
        await reader.wait_for(2)
        before.lose_all()
        assert (await reader.wait_for(3))[2] is EVERYTHING or reader.received[2] == EVERYTHING
        after.lose_all()


async def test_silence_makes_everything_stale_once(reader, monkeypatch):
    monkeypatch.setattr(change_stream, "SILENCE", 0.2)
    forever = asyncio.Event()
    async with serving(stream_of(b'id: 1\nevent: invalidate\ndata: {"hostname": "a.test"}\n\n', then=forever)) as (
        settings,
        seen,
    ):
        monkeypatch.setattr(change_stream, "LONGEST_PAUSE", 60.0)
        monkeypatch.setattr(change_stream, "SHORTEST_PAUSE", 60.0)
        reader.stream.start(settings)
        received = await reader.wait_for(3)
        assert received == [EVERYTHING, Change("hostname", "a.test"), EVERYTHING]
        assert not reader.stream.state.connected
        await asyncio.sleep(0.5)
        assert len(reader.received) == 3
        assert len(seen) == 1
        forever.set()


async def test_heartbeats_end_the_silence(reader, monkeypatch):
    monkeypatch.setattr(change_stream, "SILENCE", 2.0)
    log = ChangeLog("e1")
    async with serving(platform(log)) as (settings, seen):
        reader.stream.start(settings)
        await reader.wait_for(1)
        await asyncio.sleep(2.5)  # that nothing happens shows over time only
        assert reader.received == [EVERYTHING]
        assert len(seen) == 1
        log.lose_all()


async def test_an_unreachable_core_api_counts_as_silent(reader, monkeypatch):
    monkeypatch.setattr(change_stream, "SILENCE", 0.3)
    async with serving(stream_of(b": welcome\n\n")) as (settings, _):
        reader.stream.start(settings)
        await reader.wait_for(1)
    assert await reader.wait_for(2) == [EVERYTHING, EVERYTHING]


@pytest.mark.parametrize("status", [404, 501])
async def test_a_core_api_without_a_stream_is_not_asked_again_soon(reader, status):
    async def none(_):
        return web.Response(status=status)

    async with serving(none) as (settings, seen):
        reader.stream.start(settings)
        await asyncio.sleep(0.3)
        assert len(seen) == 1
        assert not reader.received


async def test_an_invalid_stream_is_read_again_from_the_beginning(reader):
    async def page(_):
        return web.Response(text="<html>")

    endless = stream_of(b"id: 1\ndata: x\n\n" + b"x" * 70_000)
    log = ChangeLog("e1")
    async with serving(page, endless, platform(log)) as (settings, seen):
        reader.stream.start(settings)
        assert await reader.wait_for(2) == [EVERYTHING, EVERYTHING]
        log.publish({"hostname": "a.test"})
        assert (await reader.wait_for(3))[2] == Change("hostname", "a.test")
        assert "Last-Event-ID" not in seen[2].headers
        log.lose_all()


async def test_the_stream_can_be_disabled_and_moved(reader, tmp_path):
    old, new = ChangeLog("e1"), ChangeLog("e2")
    token = tmp_path / "token"
    token.write_text("secret\n")
    async with serving(platform(old)) as (first, _), serving(platform(new)) as (second, seen):
        reader.stream.start(first)
        await reader.wait_for(1)
        reader.stream.start(second.model_copy(update={"token_file": str(token)}))
        async with asyncio.timeout(100):
            while not reader.stream.state.connected:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.01)
        assert seen[0].headers["Authorization"] == "Bearer secret"
        reader.stream.start(second.model_copy(update={"changes": False}))
        assert not reader.stream.state.connected
        async with asyncio.timeout(100):
            while new.readers or old.readers:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.01)


async def test_changes_that_could_not_be_published_are_not_lost(reader, caplog):
    """The task ends with an unexpected error: it is restarted, and everything is stale."""
    reader.fails = 1
    change = b'id: 1\nevent: invalidate\ndata: {"hostname": "a.test"}\n\n'
    quiet = asyncio.Event()
    async with serving(stream_of(change, then=quiet), stream_of(then=quiet)) as (settings, seen):
        reader.stream.start(settings)
        assert await reader.wait_for(2) == [EVERYTHING, EVERYTHING]
        assert "Last-Event-ID" not in seen[-1].headers, "resumed there, it would miss what was not published"
        received = [record for record in caplog.records if getattr(record, "code", "") == "background_task_ended"]
        assert [record.task for record in received] == ["change_stream"]
        quiet.set()


async def test_streams_that_end_at_once_are_opened_ever_more_rarely(reader, monkeypatch):
    pauses = []

    async def no_pause(seconds):
        pauses.append(seconds)

    monkeypatch.setattr(reader.stream, "_wait", no_pause)
    async with serving(stream_of(b'id: 1\nevent: invalidate\ndata: {"hostname": "a.test"}\n\n')) as (settings, _):
        reader.stream.start(settings)
        await reader.wait_for(6)
    assert pauses[:4] == [0.0075, 0.015, 0.03, 0.06]


async def test_an_id_that_cannot_be_sent_does_not_end_the_stream_for_good(reader):
    log = ChangeLog("e1")
    odd = stream_of(b'id: a\x01b\nevent: invalidate\ndata: {"hostname": "a.test"}\n\n')
    async with serving(odd, platform(log)) as (settings, seen):
        reader.stream.start(settings)
        assert await reader.wait_for(3) == [EVERYTHING, Change("hostname", "a.test"), EVERYTHING]
        assert "Last-Event-ID" not in seen[1].headers
        log.lose_all()
