"""Real nginx and php-fpm: the small queue, X-Styx-Refused, identity, sleep, and the end of all processes."""

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from edge.platform.child_process import has_members
from edge.platform.containers.container import ContainerFailed, ContainerSpec, Recipe
from edge.platform.containers.nginx_container import Binaries, NginxContainer
from edge.platform.pocket_platform import PlatformSpec, PocketPlatform
from tests.support.needs import needs_nginx


@pytest.fixture
def short_directory():
    """A directory whose path, unlike tmp_path, is never longer than the 107 bytes of a Unix socket's address."""
    with tempfile.TemporaryDirectory(prefix="styx-") as name:
        yield Path(name)


@pytest.fixture
async def build(short_directory):
    built = []

    async def make(states=None, **recipe):
        spec = ContainerSpec(
            id=f"c{len(built):03}",
            site="acme",
            environment="live",
            recipe=Recipe(**{"make": "nginx", "service_time": 0, "workers": 2, "queue": 1, **recipe}),
            directory=short_directory / f"c{len(built)}",
        )
        container = NginxContainer(
            spec, on_state_change=None if states is None else lambda _, state: states.append(state)
        )
        built.append(container)
        await (container.sleep() if spec.recipe.asleep else container.start())
        return container

    yield make
    for container in built:
        await container.kill()
        container.dismiss()


@needs_nginx
async def test_get_and_post(build, ask):
    container = await build()
    page = await ask(container.port, "/any/page?x=1")
    assert (page.status, page.headers["x-container"]) == (200, container.spec.id)
    assert b"live-acme" in page.body
    body = random.Random(1).randbytes(3_000_000)
    receipt = (await ask(container.port, method="POST", body=body, headers={"X-Order-Id": "o-1"})).json()
    assert receipt == {
        "container": container.spec.id,
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "order_id": "o-1",
    }
    assert container.executed == {"o-1": 1}


@needs_nginx
async def test_form_bodies_are_counted_too(build, ask):
    container = await build()
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    body = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--\r\n'
    assert (await ask(container.port, method="POST", body=body, headers=headers)).json()["bytes"] == len(body)


@needs_nginx
async def test_refuses_beyond_workers_and_queue(build, ask):
    container = await build()
    responses = await asyncio.gather(
        *(ask(container.port, "/sleep/300", headers={"X-Order-Id": f"o-{n}"}) for n in range(8))
    )
    refused = [response for response in responses if response.status == 503]
    assert [response.refused for response in refused] == ["queue-full"] * 5
    assert [response.status for response in responses].count(200) == 3
    # This proves that a refused request may be retried with any method: it was not executed.
    assert sorted(container.executed.values()) == [1, 1, 1]
    assert (await ask(container.port)).status == 200


@needs_nginx
async def test_a_site_cannot_forge_a_refusal(build, ask, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.php").write_text(
        "<?php http_response_code(503); header('X-Styx-Refused: queue-full'); header('X-Own: kept'); echo 'mine';"
    )
    (site / "robots.txt").write_text("a static file")
    container = await build(docroot=str(site))
    response = await ask(container.port, method="POST", body=b"x")
    assert (response.status, response.refused) == (503, None)
    assert response.headers["x-own"] == "kept"
    assert b"mine" in response.body
    assert (await ask(container.port, "/robots.txt")).body == b"a static file"


@needs_nginx
async def test_a_503_of_the_site_is_no_refusal(build, ask):
    container = await build()
    response = await ask(container.port, "/status/503")
    assert (response.status, response.refused) == (503, None)
    assert b"status 503" in response.body


@needs_nginx
async def test_wrong_id_is_421(build, ask):
    container = await build()
    headers = {"X-Order-Id": "o"}
    response = await ask(container.port, headers={"X-Styx-Backend": "zzzz", **headers})
    assert (response.status, response.refused) == (421, None)
    assert container.executed == {}
    assert (await ask(container.port, headers={"X-Styx-Backend": container.spec.id, **headers})).status == 200


@needs_nginx
async def test_fill_slow_and_heal(build, ask):
    container = await build(service_time=0.01)
    container.fill(on=True)
    assert (await ask(container.port)).refused == "queue-full"
    assert (await ask(container.port, method="POST", body=b"x")).refused == "queue-full"
    container.fill(on=False)
    container.slow(10)
    loop = asyncio.get_running_loop()
    before = loop.time()
    await ask(container.port)
    assert loop.time() - before >= 0.1
    await container.heal()
    assert (container.spec.directory / "slow").read_text() == "1.0"
    assert (await ask(container.port)).status == 200


@needs_nginx
async def test_kill_and_heal_at_the_same_port(build, ask):
    container = await build()
    port = container.port
    await container.kill()
    with pytest.raises(ConnectionRefusedError):
        await ask(port)
    await container.heal()
    assert container.port == port
    assert (await ask(port)).status == 200


@needs_nginx
async def test_move_finishes_at_the_old_port(build, ask):
    container = await build()
    old = container.port
    reader, writer = await asyncio.open_connection("127.0.0.1", old)
    writer.write(b"GET /sleep/200 HTTP/1.1\r\nHost: test\r\n\r\n")
    ended = asyncio.ensure_future(reader.read(-1))
    # A response to a later request proves that nginx has taken the earlier connection.
    await ask(old)
    await container.move()
    assert [(await ask(port)).status for port in (old, container.port)] == [200, 200]
    await container.leave_old_port()
    assert b" 200 OK" in await ended
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await ask(old)
    assert (await ask(container.port)).status == 200


@needs_nginx
async def test_a_connection_that_comes_while_it_falls_asleep_is_served(build, ask):
    """It waits in the queue of the listening socket, which the platform holds."""
    container = await build()
    reader, writer = await asyncio.open_connection("127.0.0.1", container.port)
    writer.write(b"GET /sleep/200 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    await ask(container.port)
    sleeping = asyncio.ensure_future(container.sleep())
    responses = await asyncio.gather(*(ask(container.port) for _ in range(2)))
    assert [response.status for response in responses] == [200] * 2
    await sleeping
    assert b" 200 OK" in await reader.read()
    writer.close()
    await container.wake()
    assert container.state == "running"


@needs_nginx
async def test_an_nginx_that_ends_by_itself_refuses_connections(build, ask, until):
    container = await build()
    pid = container._nginx.pid
    os.kill(pid, signal.SIGKILL)
    await until(lambda: container._held is None and not has_members(pid))
    with pytest.raises(ConnectionRefusedError):
        await ask(container.port)
    await container.heal()
    assert (await ask(container.port)).status == 200


@needs_nginx
async def test_php_tells_of_the_last_request(build, ask):
    container = await build()
    assert container.activity().last_request == ""
    assert container.activity().idle_for < 60
    await ask(container.port, "/some/page?q=1", headers={"User-Agent": "visitor/2 (more)"})
    assert container.activity().last_request == "GET /some/page by visitor/2"
    response = await ask(container.port, method="POST", body=b"hi", headers={"X-Styx-Attempt": "2"})
    assert response.headers["x-container-attempt"] == "2"
    assert container.activity().last_request == "POST /"


@needs_nginx
async def test_sleeps_until_the_first_request(build, ask):
    states = []
    container = await build(states, asleep=True)
    assert (container.state, container.listening, container._nginx) == ("asleep", True, None)
    responses = await asyncio.gather(*(ask(container.port) for _ in range(3)))
    assert [response.status for response in responses] == [200] * 3
    await container.wake()
    assert states == ["asleep", "running"]
    await container.sleep()
    assert (container.state, container._nginx) == ("asleep", None)
    await container.wake()
    assert (await ask(container.port)).status == 200
    await container.stop()
    with pytest.raises(ConnectionRefusedError):
        await ask(container.port)


@needs_nginx
async def test_a_start_that_fails_reports_the_logs(build, monkeypatch):
    monkeypatch.setattr("edge.platform.containers.nginx_files.NGINX_CONF", "nonsense {dir};\n")
    with pytest.raises(ContainerFailed, match="unknown directive"):
        await build()


def test_missing_servers_are_named(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    monkeypatch.setattr("pathlib.Path.glob", lambda *_: iter(()))
    with pytest.raises(ContainerFailed, match="nginx-light and php-fpm"):
        Binaries.find()


@needs_nginx
async def test_in_the_platform(ask):
    async with asyncio.timeout(100), PocketPlatform(PlatformSpec(make="nginx", notice=0.01)) as platform:
        await platform.create_environment("acme", containers=2, workers=1, service_time=0)
        await platform.set_goal("acme", containers=3)
        containers = platform.containers("acme")
        for container in containers:
            assert (await ask(container.port)).headers["x-container"] == container.spec.id
        old = containers[0].port
        await platform.move(containers[0].spec.id, leave="another")
        assert (await ask(old, headers={"X-Styx-Backend": containers[0].spec.id})).status == 421
        await platform.set_goal("acme", containers=1)
        directory = platform._directory
        assert [path.name for path in directory.iterdir()] == [containers[0].spec.id]
    assert not directory.exists()


SHORT_LIVED = """
    import asyncio
    from edge.platform.pocket_platform import PlatformSpec, PocketPlatform

    async def main():
        platform = PocketPlatform(PlatformSpec(make="nginx"))
        await platform.start()
        await platform.create_environment("acme", workers=2)
        [container] = platform.containers("acme")
        print("MASTERS", container._nginx.pid, container._fpm.pid, platform._directory, flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
"""


def session_members(leader):
    """Pids of all processes in the session of `leader`."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(ProcessLookupError, ValueError):
            if os.getsid(int(entry)) == leader:
                found.append(int(entry))
    return found


@needs_nginx
async def test_processes_die_with_a_killed_platform(until, short_directory):
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(SHORT_LIVED),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(short_directory)},
    )
    async with asyncio.timeout(100):
        while not (line := await child.stdout.readline()).startswith(b"MASTERS"):
            assert line, "it ended early"
        masters = [int(word) for word in line.split()[1:3]]
        assert all(len(session_members(master)) > 1 for master in masters)
        child.send_signal(signal.SIGKILL)
        await child.wait()
    await until(lambda: not any(alive(pid) for master in masters for pid in session_members(master)))


def alive(pid):
    """Whether a process runs; False for zombies, because an orphan may have no parent that reaps it."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
