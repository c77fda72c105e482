"""While the core API is down, learned routes survive a reload, a crash, and the end of the edge.

For an upgrade see test_upgrade.py."""

import os
import signal
from contextlib import asynccontextmanager

from edge.rules.routing.route_records import HEADER
from tests.run.test_reload import change, reload
from tests.support.processes.edges import NO_CORE_API, Kept, children, edge, text, told
from tests.support.processes.process_verbs import is_alive

HOST = b"GET / HTTP/1.1\r\nHost: live-acme.localhost\r\n\r\n"
OFTEN = 16
"Fresh connections: the chance that the kernel gives all of them to one of two workers is 1 in 32,768."


async def responses(styx) -> set[bytes]:
    """The status lines from many new connections, of which every worker gets some."""
    seen = set()
    for _ in range(OFTEN):
        async with Kept(styx.port) as kept:
            seen.add((await kept.ask(HOST)).partition(b"\r\n")[0])
    return seen


@asynccontextmanager
async def knowing(platform, until, directory="", **changes):
    """An edge that has learned a route by one request, and whose core API is down since then."""
    more = f'routes: {{directory: "{directory}"}}' if directory else ""
    async with edge(core_api=platform.core_api_url, more=more, **changes) as styx:
        async with Kept(styx.port) as kept:
            assert (await kept.ask(HOST)).startswith(b"HTTP/1.1 200 ")
        if directory:  # written down: nothing else tells when a crash is survived
            await until(lambda: (directory / "routes.new").exists())
        await platform.stop_core_api()
        yield styx


async def test_a_route_that_one_worker_looked_up_reaches_the_others(platform, until, tmp_path):
    async with knowing(platform, until, tmp_path) as styx:
        assert await responses(styx) == {b"HTTP/1.1 200 OK"}
        assert platform.lookups["live-acme.localhost"] == 1


async def test_new_workers_of_a_cold_reload_know(platform, until, call):
    async with knowing(platform, until) as styx:
        change(styx, "workers: 2", "workers: 3")
        assert (await reload(call, styx)).code == 0
        assert await responses(styx) == {b"HTTP/1.1 200 OK"}


async def test_the_successor_of_a_killed_worker_knows(platform, until, tmp_path):
    async with knowing(platform, until, tmp_path, workers=1) as styx:
        [killed] = await styx.workers()
        os.kill(killed, signal.SIGKILL)
        await until(lambda: children(styx.pid).get("worker 0", killed) != killed)
        assert await responses(styx) == {b"HTTP/1.1 200 OK"}


async def test_an_edge_that_was_killed_knows_when_it_is_started_again(platform, until, call, tmp_path):
    async with knowing(platform, until, tmp_path) as styx:
        workers = await styx.workers()
        os.kill(styx.pid, signal.SIGKILL)
        await until(lambda: not any(is_alive(pid) for pid in workers))
    async with edge(core_api=NO_CORE_API, more=f'routes: {{directory: "{tmp_path}"}}') as again:
        listed = await call("routes", "--site", "acme", "--admin", again.settings.admin.address)
        assert listed.out.count("live-acme.localhost") == 2, "by both workers, though nobody has asked for it yet"
        assert await responses(again) == {b"HTTP/1.1 200 OK"}


async def test_a_foreign_or_damaged_file_is_logged_and_does_no_harm(platform, until, tmp_path):
    (tmp_path / "routes").write_bytes(b"GIF89a, or what else may lie there")
    (tmp_path / "routes.new").write_bytes(HEADER + b"\0\0\0\x20 torn")
    async with edge(workers=1, more=f'routes: {{directory: "{tmp_path}"}}') as styx:
        assert {event["file"] for event in told(styx, "routes_damaged")} == {
            str(tmp_path / "routes"),
            str(tmp_path / "routes.new"),
        }
        await until(lambda: (tmp_path / "routes").read_bytes() == HEADER)
    async with knowing(platform, until, tmp_path):
        pass
    async with edge(core_api=NO_CORE_API, workers=1, more=f'routes: {{directory: "{tmp_path}"}}') as again:
        assert await responses(again) == {b"HTTP/1.1 200 OK"}


async def test_a_directory_that_cannot_be_used_is_reported_at_the_start(run, tmp_path):
    file = tmp_path / "styx.yaml"
    (tmp_path / "taken").write_text("")
    file.write_text(text(more=f'routes: {{directory: "{tmp_path}/taken"}}'))
    ran = await run("serve", "-c", str(file))
    assert ran.code == 2
    assert f"routes.directory: {tmp_path}/taken: Not a directory" in ran.err
