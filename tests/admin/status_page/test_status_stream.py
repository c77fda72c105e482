"""The stream of snapshots: one maker for all, bounds on subscribers, none that waits, and its end."""

import asyncio
import json

import pytest
from aiohttp import ClientSession, web

from edge.admin.status_page.status_stream import StatusStream, event

PERIOD = 0.01


class Counting:
    """A source whose snapshots are numbers."""

    def __init__(self):
        self.made, self.fails = 0, False

    async def snapshot(self):
        self.made += 1
        if self.fails:
            raise RuntimeError("planted")
        return {"number": self.made, "padding": self.padding}

    padding = ""

    def history(self):
        return {"at": [1, 2]}


@pytest.fixture
async def served():
    """A stream on a port of its own; `open` returns an iterator of events."""
    source, sessions, responses, runners, lived = Counting(), [], [], [], []

    class Served:
        pass

    made = Served()
    made.source, made.lived = source, lived

    async def start(**bounds):
        made.stream = stream = StatusStream(source, period=PERIOD, **bounds)

        async def respond(request):
            return await stream.respond(request, lambda: lived.append(1))

        app = web.Application()
        app.router.add_get("/", respond)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append((runner, stream))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        made.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/"

    async def connect():
        session = ClientSession()
        sessions.append(session)
        response = await session.get(made.url)
        responses.append(response)
        return response

    async def read(response):
        async with asyncio.timeout(100):
            name = (await response.content.readline()).decode().removeprefix("event: ").strip()
            data = json.loads((await response.content.readline()).decode().removeprefix("data: "))
            await response.content.readline()
            return name, data

    made.start, made.connect, made.read = start, connect, read
    yield made
    for response in responses:
        response.close()
    for session in sessions:
        await session.close()
    for runner, stream in runners:
        await stream.stop()
        await runner.cleanup()


async def until(condition):
    async with asyncio.timeout(100):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def test_history_first_then_snapshots_in_order(served):
    await served.start()
    response = await served.connect()
    assert response.content_type == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-store"
    assert await served.read(response) == ("history", {"at": [1, 2]})
    numbers = [(await served.read(response))[1]["number"] for _ in range(3)]
    assert numbers == sorted(set(numbers))
    assert len(served.lived) >= 4


async def test_nothing_is_made_without_a_subscriber(served):
    await served.start()
    response = await served.connect()
    await served.read(response)
    await served.read(response)
    response.close()
    await until(lambda: served.stream.subscribers == 0)
    made = served.source.made
    await asyncio.sleep(10 * PERIOD)
    assert served.source.made <= made + 1


async def test_one_maker_for_all(served):
    await served.start()
    responses = [await served.connect() for _ in range(3)]
    seen = [[(await served.read(r))[1].get("number", 0) for _ in range(4)] for r in responses]
    await until(lambda: served.source.made >= 6)
    assert {number for numbers in seen for number in numbers} <= set(range(served.source.made + 1))


async def test_only_so_many_subscribers(served):
    await served.start(most=2)
    for _ in range(2):
        await served.read(await served.connect())
    refused = await served.connect()
    assert (refused.status, refused.headers["Retry-After"]) == (503, "10")
    assert served.stream.subscribers == 2


async def test_a_subscriber_that_does_not_read_is_closed_and_nothing_is_queued(served):
    served.source.padding = "x" * (1 << 20)
    await served.start(stalled=0.2)
    response = await served.connect()
    await until(lambda: served.stream.subscribers == 1)
    await until(lambda: served.stream.subscribers == 0)
    response.close()


async def test_a_snapshot_that_fails_is_followed_by_the_next_one(served, capsys):
    served.source.fails = True
    await served.start()
    response = await served.connect()
    await served.read(response)
    await until(lambda: served.source.made >= 2)
    served.source.fails = False
    assert (await served.read(response))[0] == "snapshot"
    assert "status_snapshot_failed" in capsys.readouterr().out


async def test_the_end_of_the_server_ends_the_streams(served):
    await served.start()
    response = await served.connect()
    await served.read(response)
    await served.stream.stop()
    async with asyncio.timeout(100):
        while await response.content.readline():
            pass
    await until(lambda: served.stream.subscribers == 0)


def test_an_event_has_one_line_of_data():
    assert event("x", {"a": "line\nbreak"}) == b'event: x\ndata: {"a":"line\\nbreak"}\n\n'
