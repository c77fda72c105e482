"""The time for what is in flight is over: every client is told, every exchange is logged, no backend is charged."""

import asyncio
import json
import time

import pytest

from edge.admin.request_counters import OUTCOME_AT
from edge.net.h1.h1_connection import H1Connection
from edge.net.h1.tunnel import Tunnel
from tests.scenes.test_tunnels import OFFER, SWITCH, echo, switching
from tests.support.scene import MIB, CutShort, Received, Scene, Wire, head_of, request
from tests.support.scene_backends import DEADLINE

HOST = "shop.test"


async def waiting_for_the_first_byte(scene: Scene):
    live = scene.silent()
    scene.route(HOST, [live])
    client = await scene.client()
    await client.write(request(HOST))
    await live.got_head()
    await scene.until(lambda: scene.worker.context.counts.exchanges == 1)
    return client


async def sending_its_body(scene: Scene):
    live = scene.silent()
    scene.route(HOST, [live])
    client = await scene.client()
    await client.write(request(HOST, headers=[("Content-Length", "1000")], method="POST") + b"x" * 10)
    await live.got_head()
    return client


async def waiting_for_its_route(scene: Scene):
    await scene.edge()
    scene.core.hold()
    scene.route(HOST, [scene.backend()])
    client = await scene.client()
    await client.write(request(HOST))
    await scene.core.asked()
    return client


async def waiting_for_a_connection(scene: Scene):
    scene.settings(timeouts={"connect": 5, "connect_alone": 5})
    scene.route(HOST, [scene.unreachable()])
    client = await scene.client()
    await client.write(request(HOST))
    await scene.until(lambda: bool(scene.worker.context.pool._dialling))
    return client


async def waiting_for_a_slot(scene: Scene):
    scene.settings(retries={"queue_timeout": 5})
    scene.route(HOST, [scene.refusing()])
    client = await scene.client()
    await client.write(request(HOST))
    await scene.until(lambda: bool(room_of(scene)))
    return client


def connection(scene: Scene) -> H1Connection:
    """The only one from a client."""
    [found] = [member for member in scene.worker.context.deadline_sweep if isinstance(member, H1Connection)]
    return found


def room_of(scene: Scene):
    route = scene.worker.context.table.get(HOST)
    return route and route.environment.pending_queue.waiting


async def waiting_to_be_told_that_there_is_no_such_site(scene: Scene):
    """Its response makes way for those of others."""
    worker = await scene.edge()
    client = await scene.client()
    waiting = worker.context.deferred_queue._waiting
    waiting.append(lambda: None)  # one that is never done: so nobody behind it is
    await client.write(request("nobody.test"))
    await scene.until(lambda: len(waiting) == 2)
    return client


async def saying_its_head(scene: Scene):
    client = await scene.client()
    await client.write(request(HOST)[:-2])
    await scene.until(lambda: any(getattr(one, "_held", b"") for one in scene.worker.context.deadline_sweep))
    return client


CASES = [
    (waiting_for_the_first_byte, "EH", HOST),
    (sending_its_body, "ES", HOST),
    (waiting_for_its_route, "ER", HOST),
    (waiting_for_a_connection, "EC", HOST),
    (waiting_for_a_slot, "EK", HOST),
    (waiting_to_be_told_that_there_is_no_such_site, "ER", "nobody.test"),
    (saying_its_head, "EP", ""),
]


@pytest.mark.parametrize(("play", "letters", "host"), CASES, ids=[play.__name__ for play, _, _ in CASES])
async def test_a_client_without_a_response_gets_503_edge_stopped(scene, tmp_path, play, letters, host):
    path = tmp_path / "access.log"
    scene.settings(access_log={"path": str(path)})
    client = await play(scene)
    await scene.worker.stop(flush_timeout=0.1)
    reply = await client.read_reply()
    assert (reply.status, reply.error) == (503, "edge_stopped")
    assert (reply["retry-after"], reply["connection"], reply["cache-control"]) == ("1", "close", "no-store")
    assert await client.closed()
    [outcome] = scene.outcomes
    assert (outcome.cause.value, scene.letters, outcome.status, outcome.host) == (
        "edge_stopped",
        letters,
        503,
        host,
    )
    [line] = map(json.loads, path.read_text().splitlines())
    assert (line["id"], line["cause"]) == (reply["x-request-id"], "edge_stopped")
    assert scene.snapshot.exchanges == 0
    assert scene.worker.row.cells[OUTCOME_AT[outcome.phase][outcome.cause]] == 1


async def test_no_backend_is_charged(scene):
    scene.settings(timeouts={"connect": 5})
    silent, unreachable = scene.silent(), scene.unreachable()
    for host, backend in (("a.test", silent), ("b.test", unreachable)):
        scene.route(host, [backend, scene.backend()])
        client = await scene.client()
        await client.write(request(host))
    await silent.got_head()
    await scene.until(lambda: bool(scene.worker.context.pool._dialling))
    await scene.worker.stop()
    await silent.left()
    assert scene.attempts == ["edge_stopped"]
    for host, backend in (("a.test", silent), ("b.test", unreachable)):
        explained = scene.explained(host, backend)
        assert (explained.condition, explained.demerits, explained.error_ratio, explained.rests_for) == (
            "healthy",
            [],
            0.0,
            0.0,
        )


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_response_under_way_looks_truncated(scene, framing, version):
    live = scene.stalling(10, framing)
    scene.route(HOST, [live])
    client = await scene.client()
    await client.write(request(HOST, version=version))
    while b"x" not in await client.read_some():
        pass
    await scene.worker.stop()
    if framing == "length":
        assert await client.rest() == b"", "990 bytes are missing"
    elif version == "1.0":
        with pytest.raises(ConnectionResetError):
            await client.rest()
    else:
        assert not (await client.rest()).endswith(b"0\r\n\r\n")
    assert (scene.outcome.cause.value, scene.letters, scene.outcome.status) == ("edge_stopped", "ED", 200)
    assert scene.outcome.bytes_out == 10


async def test_a_tunnel_ends_on_both_sides(scene):
    live = scene.scripted(switching(echo))
    scene.route(HOST, [live])
    client = await scene.client()
    await client.write(request(HOST, "/chat", OFFER))
    assert (await client.read_some()).startswith(SWITCH[:20])
    await client.write(b"ping")
    assert await client.read_some() == b"ping"
    await scene.worker.stop()
    assert await client.rest() == b""
    async with asyncio.timeout(100):
        await live.wires[0].ended.wait()
    [outcome] = scene.outcomes
    assert (outcome.cause.value, scene.letters, outcome.status) == ("edge_stopped", "ED", 101)
    assert (outcome.bytes_in, outcome.bytes_out) == (4, 4)
    assert scene.points(HOST, live) == 0


async def test_a_tunnel_whose_client_does_not_read(scene):
    async def flood(wire: Wire) -> None:
        while True:
            await wire.send(b"x" * MIB)
            await asyncio.sleep(0)

    live = scene.scripted(switching(flood))
    scene.route(HOST, [live])
    client = await scene.client(receive_buffer=4096)
    await client.write(request(HOST, "/chat", OFFER))
    await live.got_head()
    await scene.until(
        lambda: any(isinstance(one, Tunnel) and one._client.waiting for one in scene.worker.context.deadline_sweep)
    )
    await scene.worker.stop(flush_timeout=0.05)
    [outcome] = scene.outcomes
    assert (outcome.cause.value, scene.letters) == ("edge_stopped", "ED")
    assert scene.snapshot.client_connections == 0


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_who_does_not_read_holds_up_nobody(scene, version):
    """It is reset after `flush_timeout`, and its line is in the log."""

    async def endless(wire: Wire, got: Received) -> None:
        await wire.send(head_of(200, []))
        while True:
            await wire.send(b"x" * MIB)
            await asyncio.sleep(0)

    live = scene.scripted(endless)
    scene.route(HOST, [live])
    client = await scene.client(receive_buffer=4096)
    await client.write(request(HOST, version=version))
    await live.got_head()
    await scene.until(lambda: not connection(scene).writable)
    began = time.monotonic()
    await scene.worker.stop(flush_timeout=0.2)
    assert version == "1.0" or time.monotonic() - began >= 0.2
    assert (scene.outcome.cause.value, scene.letters) == ("edge_stopped", "ED")
    assert scene.snapshot.client_connections == 0
    with pytest.raises(ConnectionResetError):
        await client.rest()


async def test_a_whole_response_that_is_not_read_looks_truncated(scene):
    """The exchange has ended, but its last bytes have not left: its client must not take that for the end."""
    scene.route(HOST, [scene.backend(body=b"x" * 100_000, framing="chunked")])
    client = await scene.client(receive_buffer=4096)
    await scene.small_send_buffer()
    await client.write(request(HOST, version="1.0"))
    await scene.ended()
    assert scene.attempts == ["ok"]
    assert connection(scene)._transport.get_write_buffer_size()
    await scene.worker.stop(flush_timeout=0.05)
    with pytest.raises(ConnectionResetError):
        await client.rest()


async def test_idle_connections_are_closed_in_an_orderly_way(scene):
    scene.route(HOST, [scene.backend()])
    used, fresh = await scene.client(), await scene.client()
    await used.write(request(HOST))
    assert (await used.read_reply()).status == 200
    await scene.until(lambda: scene.snapshot.client_connections == 2)
    async with asyncio.timeout(DEADLINE):
        await scene.worker.stop(flush_timeout=10 * DEADLINE)
    assert await used.rest() == b""
    assert await fresh.rest() == b""
    assert len(scene.outcomes) == 1


async def test_what_is_asked_at_the_last_moment_reaches_no_backend(scene):
    """It lies in the socket, unread, when the end comes."""
    live = scene.backend()
    scene.route(HOST, [live])
    client = await scene.client()
    await scene.until(lambda: scene.snapshot.client_connections == 1)
    await client.write(request(HOST, method="POST", body=b"a=1"))
    await scene.worker.stop(flush_timeout=0.1)
    reply = await client.read_reply("POST")
    assert (reply.status, reply.error) == (503, "edge_stopped")
    assert await client.closed()
    assert not live.requests
    assert (scene.outcome.method, scene.letters) == ("POST", "EP")


@pytest.mark.parametrize("asked", [b"", b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n" + request(HOST)])
async def test_one_that_has_sent_no_proxy_header(scene, asked):
    scene.listeners({"proxy_protocol": True, "trusted": ("127.0.0.0/8",)})
    client = await scene.client()
    await scene.until(lambda: scene.snapshot.client_connections == 1)
    await client.write(asked)
    async with asyncio.timeout(DEADLINE):
        await scene.worker.stop(flush_timeout=0.2 if asked else 10 * DEADLINE)
    if asked:
        assert (await client.read_reply()).error == "edge_stopped"
    assert await client.closed()
    assert [outcome.client for outcome in scene.outcomes] == (["192.0.2.1"] if asked else [])


async def test_a_pipelined_request_gets_its_response_too(scene):
    live = scene.silent()
    scene.route(HOST, [live])
    client = await scene.client()
    await client.write(request(HOST, "/1") + request(HOST, "/2"))
    await live.got_head()
    await scene.worker.stop(flush_timeout=0.1)
    reply = await client.read_reply()
    assert (reply.status, reply.error, reply["connection"]) == (503, "edge_stopped", "close")
    assert await client.closed(), "what comes behind it is not carried out"
    assert len(live.requests) == 1


async def test_hundreds_get_their_responses_and_are_logged(scene, tmp_path):
    path = tmp_path / "access.log"
    scene.settings(access_log={"path": str(path)}, limits={"in_flight_per_environment": 10_000})
    live = scene.silent()
    scene.route(HOST, [live])
    clients = [await scene.client() for _ in range(500)]
    for number, client in enumerate(clients, 1):
        await client.write(request(HOST))
        if number % 50 == 0:  # no more connects at once than the backend's accept queue holds
            await scene.until(lambda number=number: len(live.requests) == number)
    await scene.worker.stop()
    replies = await asyncio.gather(*(client.read_reply() for client in clients))
    assert {reply.error for reply in replies} == {"edge_stopped"}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["id"] for line in lines} == {reply["x-request-id"] for reply in replies}


async def test_told_twice_to_end(scene):
    """The second time at once: the first time is given up."""
    client = await waiting_for_the_first_byte(scene)
    stopping = asyncio.ensure_future(scene.worker.stop(time_limit=60))
    await scene.until(lambda: scene.worker.context.draining)
    stopping.cancel()
    await scene.worker.stop()
    reply = await client.read_reply()
    assert (reply.status, reply.error) == (503, "edge_stopped")
    with pytest.raises(asyncio.CancelledError):
        await stopping


async def test_one_that_ends_in_time_is_not_cut(scene):
    live = scene.backend()
    live.hold()
    scene.route(HOST, [live])
    client = await scene.client()
    await client.write(request(HOST))
    await live.got_head()
    stopping = asyncio.ensure_future(scene.worker.stop(time_limit=60))
    await scene.until(lambda: scene.worker.context.draining)
    live.release()
    reply = await client.read_reply()
    assert (reply.status, reply.body, reply["connection"]) == (200, b"hello", "close")
    await stopping
    assert scene.outcome.cause.value == "ok"
    with pytest.raises((CutShort, ConnectionError)):
        await client.read_reply()


async def test_a_drain_waits_for_a_client_that_still_takes_its_response(scene):
    """Its exchange is over, but it is no idle client, whose connection is closed after `drain.idle`."""
    scene.route(HOST, [scene.backend(body=b"x" * 100_000)])
    client = await scene.client(receive_buffer=4096)
    await scene.small_send_buffer()
    await client.write(request(HOST))
    await scene.ended()
    assert connection(scene)._transport.get_write_buffer_size()
    stopped = asyncio.create_task(scene.worker.stop(10 * DEADLINE, 0.01))
    await scene.until(lambda: scene.worker.context.draining)
    scene.pass_time(1.0)
    scene.worker.context.deadline_sweep.look()
    assert len((await client.read_reply()).body) == 100_000
    assert await client.rest() == b""
    await stopped
