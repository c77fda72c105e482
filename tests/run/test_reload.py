"""Reload: a bad file changes nothing, hot settings are swapped in place, cold ones replace the workers."""

import asyncio
import json
import os
import signal

from edge.demo.free_ports import free_port
from tests.support.processes.edges import NO_CORE_API, Kept, children, counts, edge, told
from tests.support.processes.process_verbs import DEADLINE, is_alive, listens

HOST = b"GET / HTTP/1.1\r\nHost: live-acme.localhost\r\n\r\n"


def change(styx, old, new):
    """Edit the configuration, as an operator does."""
    content = styx.file.read_text()
    assert old in content
    styx.file.write_text(content.replace(old, new))


async def reload(call, styx):
    return await call("reload", "--admin", styx.settings.admin.address)


async def test_a_hot_change_keeps_workers_and_connections(call, platform):
    """Workers, connections of clients and to backends, and routes are as before; only the limit has changed."""
    async with edge(workers=1, core_api=NO_CORE_API) as styx:
        change(styx, NO_CORE_API, platform.core_api_url)
        assert (await reload(call, styx)).code == 0
        async with Kept(styx.port) as kept:
            assert (await kept.ask(HOST)).startswith(b"HTTP/1.1 200 ")
            before = await counts(styx)
            change(styx, "workers: 1", "workers: 1\nlimits: {request_line: 64B}")
            ran = await reload(call, styx)
            assert (ran.code, ran.out) == (0, "limits.request_line: 8KiB -> 64B\n")
            assert (await kept.ask(HOST)).startswith(b"HTTP/1.1 200 ")
            after = await counts(styx)
            assert list(after) == list(before), "the same process"
            [one], [two] = before.values(), after.values()
            # Stale if the stream of changes, which has just begun, has said that some may have been missed.
            assert two["route_hits"] + two["route_stale"] == one["route_hits"] + one["route_stale"] + 1
            assert two["route_misses"] == one["route_misses"]
            assert two["links_opened"] == one["links_opened"] == 1
            long = HOST.replace(b"/ ", b"/" + b"x" * 80 + b" ")
            assert (await kept.ask(long)).startswith(b"HTTP/1.1 414 ")


async def test_a_cold_change_replaces_the_workers_when_the_new_ones_are_ready(call, until):
    async with edge() as styx, Kept(styx.port) as kept:
        await kept.ask()
        before = await styx.workers()
        change(styx, "workers: 2", "workers: 2\nforwarding: {via_name: other}")
        ran = await reload(call, styx)
        assert ran.code == 0
        assert ran.out.splitlines() == [
            "forwarding.via_name: 'styx' -> 'other'",
            "2 new workers serve; the 2 old ones finish what they have",
        ]
        assert not set(before) & set(await styx.workers())
        await until(lambda: all("leaving" in name for name, pid in children(styx.pid).items() if pid in before))
        head = await kept.ask()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Connection: close" in head, "the last answer of its connection"
        await until(lambda: not any(map(is_alive, before)))


async def test_two_three_two_workers(call, until):
    """The others accept what waits in the socket of a removed worker."""
    async with edge() as styx:
        change(styx, "workers: 2", "workers: 3")
        assert (await reload(call, styx)).code == 0
        assert len(await styx.workers()) == 3
        three = await styx.workers()
        for pid in three:
            os.kill(pid, signal.SIGSTOP)
        waiting = [Kept(styx.port) for _ in range(30)]
        for kept in waiting:
            await kept.__aenter__()
        for pid in three[:2]:
            os.kill(pid, signal.SIGCONT)
        asking = [asyncio.ensure_future(kept.ask()) for kept in waiting]
        await asyncio.sleep(0)  # each has written its request; two of three serve theirs
        change(styx, "workers: 3", "workers: 2")
        assert (await reload(call, styx)).code == 0
        assert {head[:12] for head in await asyncio.gather(*asking)} == {b"HTTP/1.1 503"}
        for kept in waiting:
            await kept.__aexit__()
        os.kill(three[2], signal.SIGCONT)
        await until(lambda: not any(map(is_alive, three)))
        assert len(await styx.workers()) == 2
        for _ in range(20):
            async with Kept(styx.port) as kept:
                assert (await kept.ask()).startswith(b"HTTP/1.1 503 ")


async def test_a_bad_file_changes_nothing(call):
    async with edge() as styx:
        before = await styx.workers()
        change(styx, "workers: 2", "wrokers: 2\ntimeouts: {head: 5}")
        ran = await reload(call, styx)
        assert ran.code == 1
        assert ran.err.splitlines() == [
            f"{styx.file}:4:1: wrokers: unknown setting; did you mean workers?",
            f"{styx.file}:5:18: timeouts.head: has no unit: write 5ms, 5s, 5m, 5h or 5d",
        ]
        assert await styx.workers() == before
        _, metrics = await styx.ask_admin("/metrics")
        assert 'styx_reloads_total{result="failed"} 1.0' in metrics
        assert "styx_last_reload_success 0.0" in metrics
        change(styx, "wrokers: 2\ntimeouts: {head: 5}", "workers: 2")
        assert (await reload(call, styx)).out == "nothing changed\n"
        assert "styx_last_reload_success 1.0" in (await styx.ask_admin("/metrics"))[1]


async def test_a_missing_token_file_changes_nothing(call):
    async with edge(core_api=NO_CORE_API) as styx:
        change(styx, f'"{NO_CORE_API}"', f'"{NO_CORE_API}", token_file: /nowhere/token')
        ran = await reload(call, styx)
        fault = f"{styx.file}:2:51: core_api.token_file: No such file or directory: /nowhere/token\n"
        assert (ran.code, ran.err) == (1, fault)


async def test_new_workers_that_cannot_begin_leave_the_old_ones(call):
    async with edge() as styx:
        before = await styx.workers()
        only_the_masters = f"/proc/self/task/{styx.pid}/comm"
        change(styx, 'path: ""', f'path: "{only_the_masters}"')
        ran = await reload(call, styx)
        assert ran.code == 1
        assert set(ran.err.splitlines()) == {f"access_log.path: No such file or directory: {only_the_masters}"}
        assert await styx.workers() == before
        async with Kept(styx.port) as kept:
            assert (await kept.ask()).startswith(b"HTTP/1.1 503 ")


async def test_by_signal(until):
    async with edge() as styx:
        change(styx, "workers: 2", "workers: 1")
        styx.send_signal(signal.SIGHUP)
        await until(lambda: told(styx, "reloaded") != [])
        [event] = told(styx, "reloaded")
        assert event["what"][0] == "workers: 2 -> 1"
        assert len(await styx.workers()) == 1


async def test_listeners_come_and_go(call, until, taken_port):
    async with edge() as styx:
        more, first = free_port(), f'{{address: "127.0.0.1:{styx.port}"}}'
        change(styx, first, f'{first}, {{address: "127.0.0.1:{more}"}}')
        assert (await reload(call, styx)).code == 0
        for port in (styx.port, more):
            async with Kept(port) as kept:
                assert (await kept.ask()).startswith(b"HTTP/1.1 503 ")
        change(styx, f":{more}", f":{taken_port}")
        ran = await reload(call, styx)
        assert (ran.code, ran.err) == (1, f"cannot listen on 127.0.0.1:{taken_port}: Address already in use\n")
        assert listens(more), "all is as before"
        change(styx, f'{first}, {{address: "127.0.0.1:{taken_port}"}}', first)
        assert (await reload(call, styx)).code == 0
        await until(lambda: not listens(more))
        assert listens(styx.port)


async def test_the_admin_server_moves(call, tmp_path):
    async with edge() as styx:
        change(styx, str(styx.settings.admin.address), f"unix:{tmp_path}/admin")
        assert (await reload(call, styx)).code == 0
        async with asyncio.timeout(DEADLINE):  # another admin process begins; who asks meanwhile waits five seconds
            while (ran := await call("healthcheck", "--admin", f"unix:{tmp_path}/admin")).code:
                assert ran.out == "", "nobody is told that the edge is not ready"
        assert ran.out == "ready\n"
        assert not listens(styx.settings.admin.address.port)


async def test_rotated_logs(until, tmp_path):
    log = tmp_path / "access.log"
    async with edge(log=log) as styx, Kept(styx.port) as kept:
        await kept.ask()
        log.rename(tmp_path / "old.log")
        styx.send_signal(signal.SIGUSR1)
        await until(log.exists)
        await kept.ask()
    old, new = ((tmp_path / name).read_text().splitlines() for name in ("old.log", "access.log"))
    assert len(old) + len(new) == 2
    assert json.loads(new[-1])["host"] == "a.test"


async def test_tokens_are_read_again(call, tmp_path):
    """A new content of the file is enough; also as Kubernetes does it, which swaps a link to its directory."""
    for number in (1, 2):
        (tmp_path / f"data{number}").mkdir()
        (tmp_path / f"data{number}" / "token").write_text(f"sesame{number}\n")
    (tmp_path / "..data").symlink_to("data1")
    (tmp_path / "token").symlink_to("..data/token")
    (tmp_path / "given").write_text("sesame1")
    async with edge() as styx:
        admin = str(styx.settings.admin.address)
        change(styx, f'"{admin}"', f'"{admin}", token_file: "{tmp_path}/token"')
        assert (await reload(call, styx)).code == 0
        asked = ("drain", "server", "s", "--force", "--admin", admin)
        async with asyncio.timeout(DEADLINE):  # the admin process is another one now
            while (await call(*asked, "--token-file", tmp_path / "given")).code:
                pass
        (tmp_path / "wrong").write_text("sesame2")
        assert "not the admin token" in (await call(*asked, "--token-file", tmp_path / "wrong")).err
        (tmp_path / "new").symlink_to("data2")
        (tmp_path / "new").rename(tmp_path / "..data")
        async with asyncio.timeout(DEADLINE):
            while not told(styx, "admin_token_read"):  # noqa: ASYNC110 - no event tells of another process
                await asyncio.sleep(0.01)
        assert (await call(*asked, "--token-file", tmp_path / "given")).code == 1
        assert (await call(*asked, "--token-file", tmp_path / "data2" / "token")).code == 0
