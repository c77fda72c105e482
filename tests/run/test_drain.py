"""Draining an edge, and draining backends."""

import asyncio
import json
import os
import pwd
import re
import signal
import socket
import time
from contextlib import asynccontextmanager

import pytest

from tests.support.processes.edges import Kept, edge, told
from tests.support.processes.process_verbs import DEADLINE, is_alive, listens


async def test_it_accepts_during_the_drain_delay():
    async with edge(delay="60s") as styx, Kept(styx.port) as kept:
        assert b"Connection: close" not in await kept.ask()
        styx.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE):
            while (await styx.ask_admin("/readyz"))[0] == 200:  # noqa: ASYNC110 - no event tells of another process
                await asyncio.sleep(0.005)
        assert await styx.ask_admin("/readyz") == (503, "draining: told to stop\n")
        async with Kept(styx.port) as late:
            assert b"Connection: close" not in await late.ask(), "not yet"
        assert b"Connection: close" not in await kept.ask()
        [event] = told(styx, "stopping")
        assert (event["by"], event["delay"]) == ("master", 60.0)


async def test_it_stops_accepting_after_the_drain_delay(until):
    async with edge(delay="200ms", idle="60s", timeout="60s") as styx, Kept(styx.port) as kept:
        await kept.ask()
        began = time.monotonic()
        styx.send_signal(signal.SIGTERM)
        await until(lambda: not listens(styx.port))
        assert time.monotonic() - began >= 0.2
        assert b"Connection: close" in await kept.ask(), "the last one"
        assert await kept.ended()
        await until(styx.ended.is_set)
        assert styx.code == 0


async def test_an_idle_connection_is_closed_after_drain_idle(until):
    """A connection with a request in time gets its response."""
    async with edge(idle="300ms", timeout="90s") as styx, Kept(styx.port) as silent, Kept(styx.port) as lively:
        await silent.ask()
        await lively.ask()
        styx.send_signal(signal.SIGTERM)
        while head := await lively.ask():  # one after the other: it is never silent
            if b"Connection: close" in head:
                break
        assert head, "not closed before its last answer"
        assert await silent.ended(), "long before drain.timeout"
        await until(styx.ended.is_set)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_second_signal_ends_it_at_once(until, number):
    async with edge(delay="30s", timeout="30s") as styx, Kept(styx.port) as kept:
        await kept.ask()
        styx.send_signal(signal.SIGTERM)
        await until(lambda: told(styx, "stopping") != [])
        styx.send_signal(number)
        if number == signal.SIGTERM:
            await until(lambda: told(styx, "stopping") != [])
        await until(lambda: not listens(styx.port))
        styx.send_signal(number)
        await until(styx.ended.is_set)
        assert styx.code == 0
        assert await kept.ended()


async def test_sigint_drains_without_delay(until):
    async with edge(delay="30s") as styx:
        styx.send_signal(signal.SIGINT)
        await until(styx.ended.is_set)
        assert styx.code == 0


HANG = b"GET /hang HTTP/1.1\r\nHost: live-acme.localhost\r\n\r\n"


@asynccontextmanager
async def hanging(platform, until, kept):
    """A request that the container has received, and never responds to."""
    asking = asyncio.ensure_future(kept.ask(HANG))
    [container] = platform.containers("acme")
    await until(lambda: container.capacity.taken == 1)
    yield asking
    asking.cancel()


def stopped(head: bytes) -> bool:
    """Whether this is the response of an edge that stops."""
    lines = head.split(b"\r\n")
    wanted = {b"X-Styx-Error: edge_stopped", b"Retry-After: 1", b"Connection: close"}
    return lines[0] == b"HTTP/1.1 503 Service Unavailable" and wanted <= set(lines)


def logged(path) -> list[tuple[str, str, int]]:
    """Cause, blame and phase, and status of each exchange in an access log."""
    lines = map(json.loads, path.read_text().splitlines())
    return [(line["cause"], line["blame"] + line["phase"], line["status"]) for line in lines]


async def test_the_time_for_requests_in_flight_is_limited(until, platform, tmp_path):
    """Those that are left then get a response and are logged."""
    log = tmp_path / "access.log"
    async with edge(timeout="500ms", core_api=platform.core_api_url, log=log) as styx, Kept(styx.port) as kept:
        async with hanging(platform, until, kept) as asking:
            pids = await styx.workers()
            began = time.monotonic()
            styx.send_signal(signal.SIGTERM)
            head = await asking
            assert stopped(head), head
            assert await kept.ended()
            await until(styx.ended.is_set)
        assert time.monotonic() - began >= 0.5
        assert not any(map(is_alive, pids))
        assert styx.code == 0
    assert logged(log) == [("edge_stopped", "EH", 503)]


async def test_after_a_second_signal_every_request_gets_a_response(until, platform, tmp_path):
    log = tmp_path / "access.log"
    async with (
        edge(timeout="10m", core_api=platform.core_api_url, log=log) as styx,
        Kept(styx.port) as kept,
        hanging(platform, until, kept) as asking,
    ):
        styx.send_signal(signal.SIGINT)
        await until(lambda: not listens(styx.port))
        styx.send_signal(signal.SIGINT)
        assert stopped(await asking)
        await until(styx.ended.is_set)
    assert logged(log) == [("edge_stopped", "EH", 503)]


async def test_a_client_that_does_not_read_is_logged_and_delays_nothing(until, platform, tmp_path):
    """Its worker writes the line before it ends, though the response cannot be sent."""
    log = tmp_path / "access.log"
    async with edge(workers=1, timeout="0s", core_api=platform.core_api_url, log=log) as styx:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, ("127.0.0.1", styx.port))
            await loop.sock_sendall(deaf, b"GET /bytes/100000000 HTTP/1.1\r\nHost: live-acme.localhost\r\n\r\n")
            assert await loop.sock_recv(deaf, 12) == b"HTTP/1.1 200"
            styx.send_signal(signal.SIGINT)
            await until(styx.ended.is_set)
            assert styx.code == 0
    assert logged(log) == [("edge_stopped", "ED", 200)]


async def test_what_a_reload_cuts_is_counted(until, call, platform, tmp_path):
    """The new workers serve; the time of the old ones for their requests in flight is over."""
    log = tmp_path / "access.log"
    async with edge(workers=1, timeout="300ms", core_api=platform.core_api_url, log=log) as styx:
        admin = styx.settings.admin.address
        async with Kept(styx.port) as kept, hanging(platform, until, kept) as asking:
            [old] = await styx.workers()
            styx.file.write_text(styx.file.read_text() + "\nforwarding: {via_name: other}\n")
            assert (await call("reload", "--admin", admin)).code == 0
            assert stopped(await asking)
            await until(lambda: not is_alive(old))
            metrics = (await styx.ask_admin("/metrics"))[1]
            counted = [
                line for line in metrics.splitlines() if line.startswith('styx_causes_total{cause="edge_stopped"')
            ]
            assert counted, metrics
            assert {line.rpartition(" ")[2] for line in counted} == {"1.0"}, counted
        assert logged(log) == [("edge_stopped", "EH", 503)]


async def test_drained_backends(call, run, platform):
    """By id, by server and by environment; a drain ends by itself, or by command."""
    await platform.set_goal("acme", containers=2)
    first, second = platform.containers("acme")
    request = b"GET / HTTP/1.1\r\nHost: live-acme.localhost\r\n\r\n"

    async def served_by(styx, requests=40):
        found = set()
        async with Kept(styx.port) as kept:
            for _ in range(requests):
                head = await kept.ask(request)
                lines = [
                    line for line in head.split(b"\r\n") if line.startswith((b"X-Styx-Backend", b"X-Styx-Error"))
                ]
                found.add(lines[0].split(b": ")[1].decode())
        return found

    async with edge(workers=1, core_api=platform.core_api_url) as styx:
        admin = str(styx.settings.admin.address)
        both = {first.spec.id, second.spec.id}
        assert await served_by(styx) == both
        ran = await call("drain", "backend", f"acme/live/{first.spec.id}", "--for", "1m", "--admin", admin)
        assert (ran.code, ran.out) == (0, f"backend acme/live/{first.spec.id}: gets no new requests for 1m\n")
        assert await served_by(styx) == {second.spec.id}
        ran = await call("drain", "backend", f"acme/live/{first.spec.id}", "--end", "--admin", admin)
        assert ran.out == f"backend acme/live/{first.spec.id}: gets requests again\n"
        assert await served_by(styx) == both
        assert (await call("drain", "environment", "acme/live", "--for", "1m", "--admin", admin)).code == 0
        assert await served_by(styx, 1) == {"drained"}
        assert (await call("drain", "environment", "acme/live", "--for", "100ms", "--admin", admin)).code == 0
        async with asyncio.timeout(DEADLINE):
            while await served_by(styx, 1) == {"drained"}:
                pass
        assert await served_by(styx) == both
        assert (await call("drain", "backend", "x", "--for", "long", "--admin", admin)).code == 2
        await names_in_drains(run, admin, first.spec.id)


async def names_in_drains(call, admin, known):
    """Unknown names are refused with the nearest known ones, and `styx drains` lists who drained what."""
    assert (await call("drains", "--admin", admin)).out == "nothing is drained\n"
    ran = await call("drain", "backend", known, "--admin", admin)
    assert ran.code == 1
    assert f"Did you mean acme/live/{known}?" in ran.err
    ran = await call("drain", "environment", "acme/liev", "--admin", admin)
    assert "Did you mean acme/live?" in ran.err
    assert (await call("drain", "environment", "acme/liev", "--force", "--admin", admin)).code == 0
    assert (await call("drain", "backend", f"acme/live/{known}", "--admin", admin)).code == 0
    listed = (await call("drains", "--admin", admin)).out.splitlines()
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert sorted(line.split()[:3] for line in listed[1:]) == [
        ["backend", f"acme/live/{known}", me],
        ["environment", "acme/liev", me],
    ]
    explained = (await call("explain", "live-acme.localhost", "--admin", admin)).out
    # 10 min within its first half second
    assert re.search(rf"drained by {me} for another (9 min|10 min)", explained)
    ran = await call("drain", "environment", "acme/liv", "--end", "--admin", admin)
    assert ran.err == "styx: The environment acme/liv is not drained. Did you mean acme/liev?\n"


async def test_invalidated_routes(call, platform, styx, client):
    admin = styx.settings.admin.address
    assert (await client.ask("live-acme.localhost")).status == 200
    asked = platform.lookups["live-acme.localhost"]
    ran = await call("invalidate", "hostname", "live-acme.localhost", "--admin", admin)
    assert (ran.code, ran.out) == (0, "routes to be asked for anew: 1\n")
    assert (await client.ask("live-acme.localhost")).status == 200
    assert platform.lookups["live-acme.localhost"] == asked + 1
    for kind, name, count in (
        ("site", "acme", 1),
        ("environment", "acme/live", 1),
        ("all", "", 1),
        ("site", "x", 0),
    ):
        ran = await call("invalidate", kind, name, "--admin", admin)
        nothing = "" if count else f" (this edge knows none of the {kind} {name})"
        assert ran.out == f"routes to be asked for anew: {count}{nothing}\n"
    await platform.stop_core_api()
    assert (await client.ask("live-acme.localhost")).status == 200, "what is known holds when nobody can be asked"
