"""The installed version takes over from the running one, or fails to."""

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.support.processes.edges import CLOSED, Kept, children, text, title
from tests.support.processes.process_verbs import DEADLINE, ROOT, is_alive

LOG = "styx.log"
HOST = b"GET / HTTP/1.1\r\nHost: live-acme.localhost\r\n\r\n"


class Installed:
    """A copy of styx that can be broken, and an edge that runs it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        shutil.copytree(ROOT / "edge", directory / "edge", ignore=shutil.ignore_patterns("__pycache__"))
        self.config = directory / "styx.yaml"
        self.config.write_text(text(timeout="2s"))
        lines = self.config.read_text().split('"127.0.0.1:')
        self.port, self.admin = (int(part.partition('"')[0]) for part in (lines[1], lines[2]))
        self.pids: list[int] = []

    async def start(self):
        with open(self.directory / LOG, "wb") as log:  # noqa: ASYNC230
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "edge",
                "serve",
                "-c",
                str(self.config),
                cwd=self.directory,
                stderr=log,
                stdout=log,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "RUNTIME_DIRECTORY": str(self.directory)},
            )
        await self.until(lambda: self.log.count('"code": "serving"') == 1)

    @property
    def log(self) -> str:
        return (self.directory / LOG).read_text()

    def masters(self) -> list[int]:
        """Living processes of this copy that are masters, the oldest first."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and os.readlink(entry / "cwd") == str(self.directory):
                    pid = int(entry.name)
                    if is_alive(pid) and title(pid).startswith("styx: master"):
                        found.append(pid)
            except OSError:
                continue
        return sorted(found)

    async def until(self, condition):
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - no event tells of another process
                await asyncio.sleep(0.01)

    async def end(self):
        for pid in self.masters():
            os.kill(pid, signal.SIGINT)
        await self.until(lambda: not self.masters())
        await self.process.wait()


@pytest.fixture
async def installed(tmp_path):
    copy = Installed(tmp_path)
    await copy.start()
    yield copy
    await copy.end()


async def requests_on(port, told):
    """One request after the other, on a connection that is reused while the edge allows it."""
    while True:
        async with Kept(port) as kept:
            head = b""
            while b"Connection: close" not in head:
                head = await kept.ask()
                told.append(head[:12])
                if not head:
                    break
                await asyncio.sleep(0.002)


async def test_an_upgrade(installed, call):
    told = []
    asking = asyncio.ensure_future(requests_on(installed.port, told))
    before = installed.masters()
    file = installed.directory / "edge" / "__init__.py"
    file.write_text(file.read_text().replace('__version__ = "', '__version__ = "9.'))
    ran = await call("upgrade", "--admin", f"127.0.0.1:{installed.admin}")
    assert ran.code == 0, ran.err
    after = [pid for pid in installed.masters() if pid not in before]
    assert f"process {after[0]} serves now" in ran.out
    await installed.until(lambda: installed.masters() == after)
    assert await installed.process.wait() == 0
    seen = len(told)
    await installed.until(lambda: len(told) > seen + 20)
    assert set(told) == {b"HTTP/1.1 503"}
    asking.cancel()
    overview = await asyncio.create_subprocess_exec(
        "curl", "-s", f"http://127.0.0.1:{installed.admin}/v1/overview", stdout=asyncio.subprocess.PIPE
    )
    assert b'"version":"9.' in (await overview.communicate())[0]


async def test_the_admin_socket_is_handed_over(installed, call):
    admin = f"127.0.0.1:{installed.admin}"
    path, before = installed.directory / f"admin-{admin}.sock", installed.masters()
    inode = path.stat().st_ino
    assert (await call("upgrade", "--admin", f"unix:{path}")).code == 0
    await installed.until(lambda: set(installed.masters()).isdisjoint(before))
    assert path.stat().st_ino == inode
    assert (await call("drain", "server", "s", "--force", "--admin", admin)).code == 0
    path.unlink()  # as a cleaner of temporary files does
    assert (await call("drain", "server", "s", "--force", "--admin", admin)).code == 1
    [second] = installed.masters()
    os.kill(second, signal.SIGUSR2)
    await installed.until(lambda: installed.masters() and second not in installed.masters())
    assert (await call("drain", "server", "s", "--force", "--admin", admin)).code == 0


async def test_the_new_version_knows_the_routes_though_the_core_api_is_down(installed, call, platform):
    config, routes = installed.config, installed.directory / "kept"
    told = config.read_text().replace(CLOSED, platform.core_api_url)
    config.write_text(f'{told}\nroutes: {{directory: "{routes}"}}\n')
    assert (await call("reload", "--admin", f"127.0.0.1:{installed.admin}")).code == 0
    async with Kept(installed.port) as kept:
        assert (await kept.ask(HOST)).startswith(b"HTTP/1.1 200 ")
    await installed.until((routes / "routes.new").exists)
    await platform.stop_core_api()
    before = installed.masters()
    assert (await call("upgrade", "--admin", f"127.0.0.1:{installed.admin}")).code == 0
    await installed.until(lambda: set(installed.masters()).isdisjoint(before))
    for _ in range(8):
        async with Kept(installed.port) as kept:
            assert (await kept.ask(HOST)).startswith(b"HTTP/1.1 200 ")


async def test_requests_that_an_upgrade_cuts_off_get_a_response_and_are_logged(installed, call, platform):
    """`drain.timeout` is over, and the container has not responded to the request of the old version."""
    log = installed.directory / "access.log"
    text = installed.config.read_text().replace(CLOSED, platform.core_api_url)
    installed.config.write_text(text.replace('access_log: {path: ""}', f'access_log: {{path: "{log}"}}'))
    assert (await call("reload", "--admin", f"127.0.0.1:{installed.admin}")).code == 0
    before = installed.masters()
    async with Kept(installed.port) as kept:
        asking = asyncio.ensure_future(kept.ask(HOST.replace(b"/ ", b"/hang ")))
        [container] = platform.containers("acme")
        await installed.until(lambda: container.capacity.taken == 1)
        assert (await call("upgrade", "--admin", f"127.0.0.1:{installed.admin}")).code == 0
        assert b"\r\nX-Styx-Error: edge_stopped\r\n" in await asking
    await installed.until(lambda: set(installed.masters()).isdisjoint(before))
    assert '"cause":"edge_stopped"' in log.read_text()


async def test_a_version_that_does_not_become_ready(installed, call):
    """The old one stays; when the new one is repaired the upgrade works, here by signal."""
    told = []
    asking = asyncio.ensure_future(requests_on(installed.port, told))
    before, workers = installed.masters(), children(installed.masters()[0])
    broken = installed.directory / "edge" / "run" / "master.py"
    good = broken.read_text()
    broken.write_text(good + "\nthis is no Python\n")
    ran = await call("upgrade", "--admin", f"127.0.0.1:{installed.admin}")
    assert ran.code == 1
    assert "the new version ended before it was ready (see its log)" in ran.err
    assert "SyntaxError" in installed.log
    assert installed.masters() == before
    assert children(before[0]) == workers
    broken.write_text(good)
    os.kill(before[0], signal.SIGUSR2)
    await installed.until(lambda: set(installed.masters()).isdisjoint(before))
    seen = len(told)
    await installed.until(lambda: len(told) > seen + 20)
    asking.cancel()
    assert set(told) == {b"HTTP/1.1 503"}
