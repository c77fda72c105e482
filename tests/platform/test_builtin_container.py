"""The builtin container: capacity, refusals, identity, sleep, and its special paths."""

import asyncio
import hashlib
import random
import statistics

import pytest

from edge.platform.containers.builtin_container import IDLE_KEPT, lognormal
from edge.rules.settings.traffic import PoolSettings


async def held(port, count, path="/hang"):
    """`count` connections, each with a request in flight."""
    connections = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        connections.append((reader, writer))
    return connections


async def test_the_response_names_the_container(build, ask):
    container = await build()
    response = await ask(container.port, "/any/page")
    assert response.status == 200
    assert response.headers["x-container"] == container.spec.id
    assert b"live-acme" in response.body
    assert container.spec.id.encode() in response.body
    assert b"1 requests" in response.body


async def test_post_is_counted_and_hashed(build, ask):
    container = await build()
    body = random.Random(1).randbytes(300_000)
    response = await ask(container.port, method="POST", body=body, headers={"X-Order-Id": "o-1"})
    assert response.json() == {
        "container": container.spec.id,
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "order_id": "o-1",
    }
    assert container.executed == {"o-1": 1}


async def test_chunked_body_byte_by_byte(build, until):
    container = await build()
    reader, writer = await asyncio.open_connection("127.0.0.1", container.port)
    raw = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n"
    for at in range(len(raw)):
        writer.write(raw[at : at + 1])
        await asyncio.sleep(0)
    await reader.readuntil(b"\r\n\r\n")
    assert b'"bytes":5' in await reader.readuntil(b"}")
    writer.close()


async def test_keep_alive_and_pipelining(build):
    container = await build()
    reader, writer = await asyncio.open_connection("127.0.0.1", container.port)
    writer.write(b"GET /bytes/2 HTTP/1.1\r\n\r\nGET /bytes/3 HTTP/1.1\r\nConnection: close\r\n\r\n")
    raw = await asyncio.wait_for(reader.read(-1), 100)
    assert raw.count(b"HTTP/1.1 200") == 2
    assert raw.endswith(b"\r\n\r\n\x00\x01\x02")
    writer.close()


async def test_refuses_beyond_workers_and_queue_and_frees_closed_requests(build, ask, until):
    container = await build(workers=2, queue=1)
    connections = await held(container.port, 3)
    await until(lambda: container.capacity.taken == 3)
    response = await ask(container.port, headers={"X-Order-Id": "x"})
    assert (response.status, response.refused) == (503, "queue-full")
    assert container.executed == {}
    for _, writer in connections:
        writer.close()
    await until(lambda: container.capacity.taken == 0)
    assert (await ask(container.port)).status == 200


async def test_refusal_does_not_wait_for_the_body(build, until):
    container = await build()
    container.fill(on=True)
    reader, writer = await asyncio.open_connection("127.0.0.1", container.port)
    writer.write(b"POST / HTTP/1.1\r\nContent-Length: 100000000\r\n\r\nonly this")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 100)
    assert b"X-Styx-Refused: queue-full" in head
    assert b"Connection: close" in head
    writer.close()


async def test_queued_request_waits_for_a_worker(build, ask):
    container = await build(workers=1, queue=4, service_time=0.02, service_cv=0)
    responses = await asyncio.gather(*(ask(container.port) for _ in range(5)))
    assert [response.status for response in responses] == [200] * 5
    assert container.ledger.refused == 0


async def test_wrong_id_is_421_before_anything_else(build, ask):
    container = await build()
    container.fill(on=True)
    response = await ask(container.port, headers={"X-Styx-Backend": "zzzz", "X-Order-Id": "o"})
    assert (response.status, response.refused) == (421, None)
    container.fill(on=False)
    assert (await ask(container.port, headers={"X-Styx-Backend": container.spec.id})).status == 200
    assert container.executed == {}


async def test_a_refusal_is_told_with_its_request_id(platform, ask):
    await platform.create_environment("acme")
    [container] = platform.containers("acme")
    container.fill(on=True)
    await ask(container.port, headers={"X-Request-Id": "r-1"})
    assert list(platform.fleet.refusals) == [(container.spec.id, "r-1")]
    container.fill(on=False)
    response = await ask(container.port, headers={"X-Styx-Attempt": "2"})
    assert response.headers["x-container-attempt"] == "2"
    assert "x-container-attempt" not in (await ask(container.port)).headers


async def test_asleep_until_the_first_request(build, ask):
    states = []
    container = await build(states, asleep=True, boot_time=0.05)
    assert (container.state, container.listening) == ("asleep", True)
    loop = asyncio.get_running_loop()
    before = loop.time()
    responses = await asyncio.gather(*(ask(container.port) for _ in range(3)))
    assert loop.time() - before >= 0.045
    assert [response.status for response in responses] == [200] * 3
    assert container.state == "running"
    assert states == ["asleep", "running"]


async def test_a_kept_connection_gets_one_more_response_after_the_container_fell_asleep(build):
    container = await build(boot_time=0.01)
    for bound in (IDLE_KEPT, 0.0):
        container._listener.idle_kept = bound
        reader, writer = await asyncio.open_connection("127.0.0.1", container.port)
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")
        assert b" 200 OK" in await reader.readuntil(b"}")
        await container.sleep()
        if bound:
            writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")
            assert b"Connection: close" in await reader.read()
            assert container.state == "running"
        else:
            assert await reader.read() == b"", "it is closed when no request comes in time"
        writer.close()


def test_idle_connections_are_kept_for_longer_than_an_edge_keeps_them():
    assert 1.2 * PoolSettings().idle_timeout < IDLE_KEPT


async def test_kill_resets_and_heal_brings_it_back_at_the_same_port(build, ask, until):
    container = await build()
    port = container.port
    [(reader, writer)] = await held(port, 1)
    await until(lambda: container.capacity.taken == 1)
    await container.kill()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 100)
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await ask(port)
    await container.heal()
    assert container.port == port
    assert (await ask(port)).status == 200


async def test_stop_finishes_requests_in_flight(build, ask, until):
    container = await build(service_time=0.05, service_cv=0)
    asked = asyncio.ensure_future(ask(container.port))
    await until(lambda: container.capacity.taken == 1)
    await container.stop()
    assert (await asked).status == 200
    with pytest.raises(ConnectionRefusedError):
        await ask(container.port)


async def test_move_finishes_at_the_old_port_and_serves_at_the_new(build, ask, until):
    container = await build(service_time=0.05, service_cv=0)
    old = container.port
    asked = asyncio.ensure_future(ask(old))
    await until(lambda: container.capacity.taken == 1)
    await container.move()
    assert container.port != old
    assert [(await ask(port)).status for port in (old, container.port)] == [200, 200]
    await container.leave_old_port()
    assert (await ask(container.port)).status == 200
    assert (await asked).status == 200
    with pytest.raises(ConnectionRefusedError):
        await ask(old)


async def test_slow_multiplies_the_service_time(build, ask):
    container = await build(service_time=0.005, service_cv=0)
    container.slow(10)
    loop = asyncio.get_running_loop()
    before = loop.time()
    await ask(container.port)
    assert loop.time() - before >= 0.045


def test_service_times_have_the_mean_and_the_spread_asked_for():
    rand = random.Random(3)
    draws = [lognormal(rand, 0.02, 0.5) for _ in range(20_000)]
    assert statistics.mean(draws) == pytest.approx(0.02, rel=0.03)
    assert statistics.stdev(draws) / statistics.mean(draws) == pytest.approx(0.5, rel=0.1)
    assert lognormal(rand, 0.02, 0) == 0.02


@pytest.mark.parametrize(
    ("path", "status", "length"),
    [("/status/404", 404, None), ("/status/503", 503, None), ("/bytes/70000", 200, 70000)],
)
async def test_responses_by_path(build, ask, path, status, length):
    container = await build()
    response = await ask(container.port, path)
    assert response.status == status
    assert response.refused is None
    assert length is None or len(response.body) == length


async def test_responses_to_head_and_empty_responses_have_no_body(build, ask):
    container = await build()
    response = await ask(container.port, "/bytes/5", method="HEAD")
    assert (response.headers["content-length"], response.body) == ("5", b"")
    assert (await ask(container.port, "/status/204")).body == b""


async def test_chunked_responses_whole_and_cut(build, ask):
    container = await build()
    assert (await ask(container.port, "/chunked/70000")).body.endswith(b"\r\n0\r\n\r\n")
    assert not (await ask(container.port, "/cut-chunked/10")).body.endswith(b"0\r\n\r\n")


async def test_cut_response_ends_early(build, ask):
    container = await build()
    response = await ask(container.port, "/cut/1000")
    assert len(response.body) == 1000 < int(response.headers["content-length"])


async def test_stalled_response_sends_and_stalls(build, until):
    container = await build()
    [(reader, writer)] = await held(container.port, 1, "/stall/10")
    await reader.readuntil(b"\r\n\r\n")
    assert len(await reader.readexactly(10)) == 10
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.05)
    writer.close()


async def test_echo_head_returns_the_bytes_received(build, ask):
    container = await build()
    response = await ask(container.port, "/echo-head", headers={"X-Odd-CASE": "v"})
    assert response.body.startswith(b"GET /echo-head HTTP/1.1\r\n")
    assert b"X-Odd-CASE: v\r\n" in response.body


async def test_big_response_waits_for_a_slow_reader(build, until):
    container = await build()
    [(reader, writer)] = await held(container.port, 1, "/bytes/100000000")
    await reader.readuntil(b"\r\n\r\n")
    await until(lambda: container.capacity.taken == 1)
    [connection] = container._listener.connections
    for _ in range(100):
        await asyncio.sleep(0)
    assert connection.transport.get_write_buffer_size() < 1_000_000
    assert container.capacity.taken == 1
    writer.close()
    await until(lambda: container.capacity.taken == 0)


async def test_sipping_reads_the_body_slowly(build):
    container = await build()
    _, writer = await asyncio.open_connection("127.0.0.1", container.port)
    writer.write(b"POST /sip/1000 HTTP/1.1\r\nContent-Length: 50000000\r\n\r\n" + bytes(20_000_000))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(writer.drain(), 0.1)
    writer.transport.abort()


async def test_malformed_head_is_400(build):
    container = await build()
    reader, writer = await asyncio.open_connection("127.0.0.1", container.port)
    writer.write(b"nonsense\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(-1), 100)).startswith(b"HTTP/1.1 400 ")
    writer.close()


async def test_continue_is_sent_only_when_admitted(build, until):
    container = await build()
    reader, writer = await asyncio.open_connection("127.0.0.1", container.port)
    writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"hi")
    assert b" 200 OK" in await reader.readuntil(b"\r\n\r\n")
    writer.close()
