"""WebSockets: the `websockets` client and aiohttp's, before a `websockets` server and an application on uvicorn."""

import asyncio
import random

import aiohttp
import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from tests.real.real_programs import Backend

MIB = 1 << 20
NOISE = random.Random(8).randbytes(MIB)
DEADLINE = 100


class EchoServer(Backend):
    """A `websockets` server in this process, which keeps its ends of the connections for the test to look at."""

    def __init__(self) -> None:
        super().__init__("websockets", 0)
        self.ends: asyncio.Queue[object] = asyncio.Queue()

    async def handle(self, end) -> None:
        self.ends.put_nowait(end)
        async for message in end:
            if message == "close me":
                await end.close(4002, "as you wish")
            else:
                await end.send(message)


def first_offered(_, offered):
    return offered[0] if offered else None


@pytest.fixture
async def echo_server(scene):
    backend = EchoServer()
    async with serve(backend.handle, "127.0.0.1", 0, select_subprotocol=first_offered, max_size=2 * MIB) as server:
        backend.port = next(iter(server.sockets)).getsockname()[1]
        await backend.stand_behind(scene)
        yield backend


@pytest.fixture(params=["websockets", "uvicorn"])
def backend(request):
    return request.getfixturevalue({"websockets": "echo_server", "uvicorn": "asgi_site"}[request.param])


def url(backend, path="/ws"):
    return f"ws://127.0.0.1:{backend.edge}{path}"


def connected(backend, **options):
    timeouts = {"open_timeout": DEADLINE, "close_timeout": DEADLINE}
    return connect(url(backend), proxy=None, max_size=2 * MIB, **timeouts, **options)


async def said_back(client, message):
    await client.send(message)
    async with asyncio.timeout(DEADLINE):
        return await client.recv()


@pytest.mark.parametrize("compression", ["deflate", None], ids=["deflated", "plain"])
async def test_messages_come_back(backend, compression):
    async with connected(backend, compression=compression) as client:
        names = [extension.name for extension in client.protocol.extensions]
        assert names == (["permessage-deflate"] if compression else [])
        for message in ("grüße", b"\x00\xff", "", b"", NOISE, "x" * MIB):
            assert await said_back(client, message) == message


async def test_pieces_make_one_message(backend):
    async with connected(backend) as client:
        assert await said_back(client, ["one ", "two ", "three"]) == "one two three"
        assert await said_back(client, [NOISE[:1000], NOISE[1000:]]) == NOISE


async def test_ping_and_pong(backend):
    async with connected(backend) as client, asyncio.timeout(DEADLINE):
        await (await client.ping(b"are you there?"))
    async with connected(backend) as client, asyncio.timeout(DEADLINE):
        pongs = [await client.ping() for _ in range(3)]
        await asyncio.gather(*pongs)


async def test_subprotocols(backend):
    async with connected(backend, subprotocols=["chat.v2", "chat.v1"]) as client:
        assert client.subprotocol == "chat.v2"


async def test_the_server_closes(backend, scene):
    async with connected(backend) as client, asyncio.timeout(DEADLINE):
        await client.send("close me")
        with pytest.raises(websockets.ConnectionClosedError):
            await client.recv()
        assert (client.close_code, client.close_reason) == (4002, "as you wish")
    outcome = await scene.ended()
    assert (outcome.status, outcome.method) == (101, "GET")


async def test_the_client_closes(echo_server, scene):
    async with connected(echo_server) as client:
        end = await echo_server.ends.get()
        await client.close(4001, "enough")
        assert client.close_code == 4001
    async with asyncio.timeout(DEADLINE):
        await end.wait_closed()
    assert (end.close_code, end.close_reason) == (4001, "enough")
    assert (await scene.ended()).status == 101


async def test_uvicorn_hears_why_the_client_closes(asgi_site):
    async with connected(asgi_site) as client:
        await client.close(4001, "enough")
    assert (await asgi_site.until_told(lambda seen: seen["closed"]))["closed"] == [4001]


async def test_the_server_pings(echo_server):
    async with connected(echo_server), asyncio.timeout(DEADLINE):
        end = await echo_server.ends.get()
        await (await end.ping(b"are you there?"))


async def test_the_server_speaks_first(echo_server):
    async with connected(echo_server) as client, asyncio.timeout(DEADLINE):
        end = await echo_server.ends.get()
        for n in range(100):
            await end.send(f"news {n}")
        assert [await client.recv() for _ in range(100)] == [f"news {n}" for n in range(100)]


async def test_a_client_that_vanishes_is_missed(echo_server, scene):
    async with asyncio.timeout(DEADLINE):
        client = await connected(echo_server)
        end = await echo_server.ends.get()
        client.transport.abort()
        await end.wait_closed()
        await client.wait_closed()
    assert end.close_code == 1006
    assert (await scene.ended()).status == 101


async def test_a_server_that_vanishes_is_missed(echo_server):
    async with connected(echo_server) as client, asyncio.timeout(DEADLINE):
        end = await echo_server.ends.get()
        end.transport.abort()
        with pytest.raises(websockets.ConnectionClosedError):
            await client.recv()
        assert client.close_code == 1006


async def test_many_at_once(backend, scene):
    async def chat(number):
        async with connected(backend) as client:
            return [await said_back(client, f"{number}: {n}") for n in range(20)]

    async with asyncio.timeout(DEADLINE):
        heard = await asyncio.gather(*[chat(number) for number in range(30)])
    assert heard == [[f"{number}: {n}" for n in range(20)] for number in range(30)]
    assert [outcome.status for outcome in scene.outcomes] == [101] * 30


async def test_a_refused_handshake_is_a_response(asgi_site):
    with pytest.raises(websockets.InvalidStatus) as refused:
        await connect(url(asgi_site, "/ws/refused"), proxy=None, open_timeout=DEADLINE)
    assert refused.value.response.status_code == 403
    assert refused.value.response.headers["X-Styx-Backend"] == "uvicorn"
    assert "X-Styx-Error" not in refused.value.response.headers


@pytest.mark.parametrize("compress", [0, 15])
async def test_aiohttp(backend, compress):
    options = {"compress": compress, "max_msg_size": 2 * MIB}
    async with (
        asyncio.timeout(DEADLINE),
        aiohttp.ClientSession() as session,
        session.ws_connect(url(backend), **options) as client,
    ):
        assert bool(client.compress) == bool(compress)
        await client.send_str("grüße")
        assert await client.receive_str() == "grüße"
        await client.send_bytes(NOISE)
        assert await client.receive_bytes() == NOISE
        await client.send_str("close me")
        assert (await client.receive()).type == aiohttp.WSMsgType.CLOSE
        assert client.close_code == 4002
