"""`styx serve` and the limit of open files: raised to the hard limit, logged when too low, survived when
reached."""

import asyncio
import json
import os
import re
import resource
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest

from edge.demo.free_ports import free_port
from edge.demo.styx_process import StyxProcess
from tests.support.processes.process_verbs import CONFIG, DEADLINE, ROOT

HOST = "live-acme.localhost"
REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()

RAISING = """
import resource, sys
from edge.rules.settings import Settings
from edge.run import event_log
from edge.run.processes.fd_limit import raise_open_files

resource.setrlimit(resource.RLIMIT_NOFILE, (128, 2048))
settings = Settings.model_validate(
    {
        "listeners": ({"address": "127.0.0.1:0"},),
        "core_api": {"url": "http://127.0.0.1:9"},
        "limits": {"connections": int(sys.argv[1])},
        "pool": {"idle_total": 500},
    }
)
event_log.configure(settings.log)
raise_open_files(settings)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""
"Needs 500 + 256 files besides those of the clients."


@pytest.mark.parametrize(("connections", "warns"), [(2048 - 756, False), (2048 - 755, True), (100_000, True)])
async def test_as_many_as_the_system_allows(connections, warns):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        RAISING,
        str(connections),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert out.split() == [b"2048", b"2048"], err
    logged = [json.loads(line) for line in err.splitlines()]
    assert [(one["level"], one["allowed"], one["needed"]) for one in logged] == [
        ("warning", 2048, connections + 756)
    ] * warns
    assert all("raise their hard limit" in one["remedy"] for one in logged)


@pytest.fixture
def few_files():
    """Children are started with a low soft limit."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before[1]), before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_styx_raises_its_own(few_files):
    text = CONFIG.format(port=free_port(), core_api="http://127.0.0.1:9", admin=f"127.0.0.1:{free_port()}")
    async with StyxProcess(text) as child:
        assert resource.prlimit(child.pid, resource.RLIMIT_NOFILE) == (few_files, few_files)


def is_whole(response):
    """Whether this response is complete, with a body of its `Content-Length`."""
    head, blank, body = response.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
    return bool(blank) and len(body) >= int(length or 0)


@pytest.fixture(autouse=True)
def sockets():
    """The sockets of the clients of a test, closed after it."""
    yield Plain.sockets
    while Plain.sockets:
        Plain.sockets.pop().close()


class Plain:
    """A minimal client."""

    sockets: ClassVar[list[socket.socket]] = []

    def __init__(self, port):
        self._sock = socket.create_connection(("127.0.0.1", port))
        self._sock.setblocking(False)
        self.sockets.append(self._sock)

    async def ask(self):
        """The status of the response to one request; 0 = the connection was closed."""
        try:
            async with asyncio.timeout(DEADLINE):
                await asyncio.get_running_loop().sock_sendall(self._sock, REQUEST)
                return await self.response_status()
        except ConnectionError:
            return 0

    async def response_status(self):
        """The status of the next response; 0 = the connection was closed."""
        loop, data = asyncio.get_running_loop(), b""
        try:
            while not is_whole(data):
                more = await loop.sock_recv(self._sock, 65536)
                if not more:
                    return 0
                data += more
        except ConnectionError:
            return 0
        return int(data.split(b" ")[1])

    def leave(self):
        self._sock.close()


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid):
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


HARD_LIMIT = 200


@pytest.fixture
async def narrow(platform):
    """A styx whose processes may open 200 files each."""
    text = CONFIG.format(port=free_port(), core_api=platform.core_api_url, admin=f"127.0.0.1:{free_port()}")
    text += "pool: {idle_timeout: 1s}\n"  # so that kept connections of clients outlive those to the backend
    async with StyxProcess(text, within=("prlimit", f"--nofile={HARD_LIMIT}:{HARD_LIMIT}")) as child:
        yield child


async def test_idle_clients_do_not_use_up_the_files_of_active_ones(narrow, until):
    """Files for the connections of clients, and for the connection to the backend."""
    kept = [Plain(narrow.port) for _ in range(30)]
    assert Counter(await asyncio.gather(*(one.ask() for one in kept))) == {200: 30}
    [worker] = await narrow.workers()
    await until(lambda: open_files(worker) < 70)  # the pool has closed its own
    idle = [Plain(narrow.port) for _ in range(300)]
    waiting = [asyncio.ensure_future(one.response_status()) for one in idle]
    assert Counter(await asyncio.gather(*(one.ask() for one in kept))) == {200: 30}
    await until(lambda: sum(one.done() for one in waiting) >= 300 - (64 - 30))
    statuses = Counter(one.result() for one in waiting if one.done())
    # One that was let in and asked for nothing within a second makes room for the next.
    assert statuses[503] >= 1, "no room for all"
    assert statuses.keys() <= {0, 503}
    made_room = 0.0
    async with asyncio.timeout(DEADLINE):  # nobody else was closed without a response
        while made_room < statuses[0]:  # a worker publishes the number four times a second
            metrics = (await narrow.ask_admin("/metrics"))[1]
            [made_room] = [float(one) for one in re.findall(r"(?m)^styx_idle_clients_closed_total (\S+)$", metrics)]
    await asyncio.sleep(1.0)  # so long a newcomer may take to ask for something
    new = [Plain(narrow.port) for _ in range(20)]
    assert Counter(await asyncio.gather(*(one.ask() for one in new))) == {200: 20}, "others were idle"
    for one in waiting:
        one.cancel()
    await asyncio.wait(waiting)
    for one in [*kept, *idle, *new]:
        one.leave()
    [warned] = [event for event in narrow.log.read_text().splitlines() if "too_few_open_files" in event]
    logged = json.loads(warned)
    assert (logged["allowed"], logged["connections"]) == (HARD_LIMIT, 64)


async def test_no_file_left(styx, platform, client, until):
    """Connections beyond the limit are closed, the others get responses; nothing spins, and styx recovers."""
    assert (await client.ask(HOST)).status == 200
    [pid] = await styx.workers()
    idle = open_files(pid)
    room = idle + 30
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (room, room))
    crowd = [Plain(styx.port) for _ in range(100)]
    try:
        await until(lambda: open_files(pid) >= room - 1)
        spent = cpu_seconds(pid)
        await asyncio.sleep(0.5)  # one that spins is seen over time only
        assert cpu_seconds(pid) - spent < 0.25
        statuses = Counter(await asyncio.gather(*(one.ask() for one in crowd)))
        assert statuses[0] >= 60, "they were not accepted"
        assert statuses[200] + statuses[503] >= 20, "they were"
        assert statuses.total() == 100
        assert len(statuses) <= 3
    finally:
        for one in crowd:
            one.leave()
    await until(lambda: open_files(pid) <= idle + 5)
    late = Plain(styx.port)
    assert await late.ask() == 200
    late.leave()
    assert (await client.ask(HOST)).status == 200
    assert "Traceback" not in styx.log.read_text()
