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


class Listener:
    """Reads the stream, and can wait for what it tells."""

    def __init__(self):
        self.told = []
        self.fails = 0
        self.pieces = 0
        self.stream = ChangeStream(self._hear, clock=asyncio.get_running_loop().time, rand=lambda: 0.0)
        self._news = asyncio.Event()

    def _hear(self, changes):
        if self.fails and EVERYTHING not in changes:
            self.fails -= 1
            raise RuntimeError("a fault of ours")
        self.told += changes
        self.pieces += 1
        self._news.set()

    async def hears(self, count):
        """The first `count` of what was told."""
        async with asyncio.timeout(10):
            while len(self.told) < count:
                self._news.clear()
                await self._news.wait()
        return self.told[:count]


@pytest.fixture
async def listener(monkeypatch):
    monkeypatch.setattr(change_stream, "SHORTEST_PAUSE", 0.01)
    listener = Listener()
    yield listener
    await listener.stream.stop()


@asynccontextmanager
async def serving(*handlers):
    """A core API that answers one connection after the other by these, the last for all that follow."""
    left, seen = list(handlers), []

    async def answer(request):
        seen.append(request)
        return await (left.pop(0) if len(left) > 1 else left[0])(request)

    app = web.Application()
    app.router.add_get("/v1/changes", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    try:
        yield CoreApiSettings(url=f"http://127.0.0.1:{port}"), seen
    finally:
        await runner.cleanup()


def says(*pieces, then=None):
    """An answer with these pieces, that ends, or waits for the event `then` before."""

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


async def test_what_was_missed_before_is_unknown_then_each_change_is_told(listener):
    log = ChangeLog("e1")
    async with serving(platform(log)) as (settings, _):
        listener.stream.start(settings)
        assert await listener.hears(1) == [EVERYTHING]
        log.publish({"hostname": "a.test"})
        log.publish({"site": "acme", "environment": "live"})
        told = await listener.hears(3)
        assert told[1:] == [Change("hostname", "a.test"), Change("environment", "acme/live")]
        assert listener.stream.state.connected
        log.lose_all()


async def test_what_comes_in_one_piece_is_told_once_however_often_it_is_said(listener):
    a, b = (b'event: invalidate\ndata: {"hostname": "%b.test"}\n\n' % name for name in (b"a", b"b"))
    forever = asyncio.Event()
    async with serving(says(a * 20_000 + b, then=forever)) as (settings, _):
        listener.stream.start(settings)
        while listener.told[-1:] != [Change("hostname", "b.test")]:
            await listener.hears(len(listener.told) + 1)
        assert len(listener.told) <= 2 + listener.pieces < 200
        assert listener.stream.state.events == 20_001
        forever.set()


async def test_it_goes_on_where_it_was(listener):
    log = ChangeLog("e1")
    async with serving(platform(log)) as (settings, seen):
        listener.stream.start(settings)
        await listener.hears(1)
        log.publish({"hostname": "a.test"})
        await listener.hears(2)
        log.lose_all()
        log.publish({"hostname": "b.test"})
        assert await listener.hears(3) == [EVERYTHING, Change("hostname", "a.test"), Change("hostname", "b.test")]
        assert seen[-1].headers["Last-Event-ID"] == "e1-1"
        assert listener.stream.state.gaps == 1
        log.lose_all()


async def test_a_gap_that_the_platform_tells_makes_everything_stale(listener):
    before, after = ChangeLog("e1"), ChangeLog("e2")
    async with serving(platform(before), platform(after)) as (settings, _):
        listener.stream.start(settings)
        await listener.hears(1)
        before.publish({"hostname": "a.test"})
        await listener.hears(2)
        before.lose_all()
        assert (await listener.hears(3))[2] is EVERYTHING or listener.told[2] == EVERYTHING
        after.lose_all()


async def test_silence_makes_everything_stale_once(listener, monkeypatch):
    monkeypatch.setattr(change_stream, "SILENCE", 0.2)
    forever = asyncio.Event()
    async with serving(says(b'id: 1\nevent: invalidate\ndata: {"hostname": "a.test"}\n\n', then=forever)) as (
        settings,
        seen,
    ):
        monkeypatch.setattr(change_stream, "LONGEST_PAUSE", 60.0)
        monkeypatch.setattr(change_stream, "SHORTEST_PAUSE", 60.0)
        listener.stream.start(settings)
        told = await listener.hears(3)
        assert told == [EVERYTHING, Change("hostname", "a.test"), EVERYTHING]
        assert not listener.stream.state.connected
        await asyncio.sleep(0.5)
        assert len(listener.told) == 3
        assert len(seen) == 1
        forever.set()


async def test_heartbeats_are_signs_of_life(listener, monkeypatch):
    monkeypatch.setattr(change_stream, "SILENCE", 0.5)
    log = ChangeLog("e1")
    async with serving(platform(log)) as (settings, seen):
        listener.stream.start(settings)
        await listener.hears(1)
        await asyncio.sleep(1.2)
        assert listener.told == [EVERYTHING]
        assert len(seen) == 1
        log.lose_all()


async def test_a_core_api_that_is_away_for_long_has_been_silent(listener, monkeypatch):
    monkeypatch.setattr(change_stream, "SILENCE", 0.3)
    async with serving(says(b": welcome\n\n")) as (settings, _):
        listener.stream.start(settings)
        await listener.hears(1)
    assert await listener.hears(2) == [EVERYTHING, EVERYTHING]


@pytest.mark.parametrize("status", [404, 501])
async def test_a_core_api_without_such_a_stream_is_left_alone(listener, status):
    async def none(_):
        return web.Response(status=status)

    async with serving(none) as (settings, seen):
        listener.stream.start(settings)
        await asyncio.sleep(0.3)
        assert len(seen) == 1
        assert not listener.told


async def test_what_is_no_stream_or_cannot_be_read_is_tried_again_from_the_beginning(listener):
    async def page(_):
        return web.Response(text="<html>")

    endless = says(b"id: 1\ndata: x\n\n" + b"x" * 70_000)
    log = ChangeLog("e1")
    async with serving(page, endless, platform(log)) as (settings, seen):
        listener.stream.start(settings)
        assert await listener.hears(2) == [EVERYTHING, EVERYTHING]
        log.publish({"hostname": "a.test"})
        assert (await listener.hears(3))[2] == Change("hostname", "a.test")
        assert "Last-Event-ID" not in seen[2].headers
        log.lose_all()


async def test_it_can_be_switched_off_and_moved(listener, tmp_path):
    old, new = ChangeLog("e1"), ChangeLog("e2")
    token = tmp_path / "token"
    token.write_text("secret\n")
    async with serving(platform(old)) as (first, _), serving(platform(new)) as (second, seen):
        listener.stream.start(first)
        await listener.hears(1)
        listener.stream.start(second.model_copy(update={"token_file": str(token)}))
        async with asyncio.timeout(5):
            while not listener.stream.state.connected:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        assert seen[0].headers["Authorization"] == "Bearer secret"
        listener.stream.start(second.model_copy(update={"changes": False}))
        assert not listener.stream.state.connected
        async with asyncio.timeout(5):
            while new.readers or old.readers:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)


async def test_changes_that_could_not_be_told_are_not_lost(listener, caplog):
    """The reader ends by an error that nobody foresaw: it is begun again, and all is stale."""
    listener.fails = 1
    change = b'id: 1\nevent: invalidate\ndata: {"hostname": "a.test"}\n\n'
    quiet = asyncio.Event()
    async with serving(says(change, then=quiet), says(then=quiet)) as (settings, seen):
        listener.stream.start(settings)
        assert await listener.hears(2) == [EVERYTHING, EVERYTHING]
        assert "Last-Event-ID" not in seen[-1].headers, "it would go on behind what was not told"
        told = [record for record in caplog.records if getattr(record, "code", "") == "background_task_ended"]
        assert [record.task for record in told] == ["change_stream"]
        quiet.set()
