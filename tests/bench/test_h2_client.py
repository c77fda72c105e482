"""What the client of the load generators makes of a GOAWAY: which streams may be sent again."""

import asyncio
from collections.abc import AsyncIterator, Callable

import ngh2
import pytest
import uvloop

from bench.h2.h2_client import H2Wire, NotProcessed, get
from tests.support.scene import Scene

GET = get("shop.test", "/")


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene("h2")
    yield scene
    await scene.end()


async def test_streams_that_wait_for_others_when_the_connection_ends_were_not_processed(scene: Scene) -> None:
    """They were never sent: the edge takes two at once, and ends the connection after two."""
    scene.settings(limits={"streams": 2, "requests_per_connection": 2})
    silent = scene.silent()
    scene.route("shop.test", [silent])
    worker = await scene.edge()
    wire = await H2Wire.open(worker.ports[0])
    await wire.until(lambda: wire.most_streams == 2)
    begun = [wire.begin(GET) for _ in range(4)]
    for response in begun[2:]:
        with pytest.raises(NotProcessed):
            await response.done
    assert (wire.is_leaving, wire.goaway) == (True, 0)
    await scene.until(lambda: len(silent.requests) == 2)
    with pytest.raises(NotProcessed):
        wire.begin(GET)
    assert not any(response.done.done() for response in begun[:2])
    wire.close()
    await scene.ended(2)


async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that responds to two requests, and ends the connection in the same write."""
    connection = ngh2.Connection(ngh2.Role.SERVER)
    connection.initiate_connection({ngh2.Setting.MAX_CONCURRENT_STREAMS: 10})
    requests: list[int] = []
    while data := await reader.read(65_536):
        connection.receive_data(data)
        requests += [event.stream_id for event in connection.events() if isinstance(event, ngh2.RequestReceived)]
        if len(requests) == 2:
            for stream in requests:
                connection.send_response(stream, [(b":status", b"200")])
                connection.send_data(stream, b"hello", end_stream=True)
            connection.send_shutdown_notice()
            connection.send_goaway()
        writer.write(connection.data_to_send())
    writer.close()


async def test_responses_that_come_with_the_end_of_the_connection_are_read() -> None:
    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        wire = await H2Wire.open(server.sockets[0].getsockname()[1])
        await wire.until(lambda: wire.most_streams == 10)
        responses = [wire.begin(GET), wire.begin(GET)]
        for response in responses:
            await response.done
            assert (response.status, bytes(response.body)) == (200, b"hello")
        assert (wire.is_leaving, wire.goaway) == (True, 0)
        await wire.ended
