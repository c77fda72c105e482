"""Lines of the access log while an exchange lasts (`access_log.long_after`)."""

import asyncio
import json

import pytest

from edge.net.request.long_exchanges import LongExchanges
from tests.scenes.test_tunnels import echo, exactly, opened, switching
from tests.support.scene import request

HOST = "shop.test"


@pytest.fixture
def path(scene, tmp_path):
    found = tmp_path / "access.log"
    scene.settings(access_log={"path": str(found), "flush_interval": 0.01, "fields": ("*",)})
    return found


async def written(scene, path, count):
    """The lines of the log, as soon as there are so many."""
    await scene.until(lambda: path.exists() and path.read_bytes().count(b"\n") >= count)
    return [json.loads(line) for line in path.read_text().splitlines()]


async def look(scene, *ages):
    """Look at exchanges that have just begun as if it were so many seconds later, one after the other."""
    context, clock = scene.worker.context, scene.worker.context.clock
    long_exchanges = LongExchanges(context, scene.worker.log, 60.0)
    for age in ages:
        context.clock = lambda age=age: clock() + age
        try:
            await long_exchanges.look()
        finally:
            context.clock = clock


async def test_a_response_that_lasts(scene, path):
    go_on = asyncio.Event()

    async def script(wire, _):
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        await go_on.wait()
        await wire.send(b"67890")

    scene.route(HOST, [scene.scripted(script)])
    client = await scene.client()
    await client.write(request(HOST, "/large"))
    data = b""
    while not data.endswith(b"12345"):
        data += await client.read_some()
    await look(scene, 30, 61, 62, 125)
    first, second = await written(scene, path, 2)
    go_on.set()
    *_, last = await written(scene, path, 3)
    assert [line["ended"] for line in (first, second, last)] == [False, False, True]
    assert [line["phase_name"] for line in (first, second, last)] == ["body", "body", "finished"]
    assert [line["bytes_out"] for line in (first, second, last)] == [5, 5, 10]
    assert {line["id"] for line in (first, second, last)} == {first["id"]}
    assert 60_000 < first["total_ms"] < second["total_ms"]
    assert (first["status"], first["cause"], first["backend"]) == (200, "ok", last["backend"])
    assert len(scene.outcomes) == 1, "counted once"
    await look(scene, 61, 125)
    assert len(await written(scene, path, 3)) == 3, "an idle connection gets no line"


async def test_a_tunnel_that_lasts(scene, path):
    client, _, _ = await opened(scene, switching(echo))
    await client.write(b"hello")
    assert await exactly(client, 5) == b"hello"
    await look(scene, 61)
    [line] = await written(scene, path, 1)
    assert (line["status"], line["ended"], line["bytes_in"], line["bytes_out"]) == (101, False, 5, 5)


async def test_a_request_that_waits_for_its_response(scene, path):
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def script(wire, _):
        arrived.set()
        await go_on.wait()
        await wire.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    scene.route(HOST, [scene.scripted(script)])
    client = await scene.client()
    await client.write(request(HOST))
    await arrived.wait()
    await look(scene, 61)
    [line] = await written(scene, path, 1)
    assert (line["status"], line["phase_name"], line["ended"]) == (0, "response", False)
    assert [attempt["status"] for attempt in line["attempts"]] == [0]
    go_on.set()
    assert (await client.read_reply()).status == 204


async def test_the_worker_looks_by_itself(scene, path):
    """The shortest interval is a second; what lasts two gets a line."""
    scene.settings(access_log={"long_after": 1.0})
    go_on = asyncio.Event()

    async def script(wire, _):
        await go_on.wait()
        await wire.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    scene.route(HOST, [scene.scripted(script)])
    client = await scene.client()
    await client.write(request(HOST))
    [line] = await written(scene, path, 1)
    assert line["ended"] is False
    go_on.set()
    assert (await client.read_reply()).status == 204
