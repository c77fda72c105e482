"""The protocols of systemd, tested with its own tools and with a socket in place of the service manager."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from itertools import pairwise
from statistics import median

import pytest

from edge.run.sockets.systemd import Systemd, listening_descriptors
from tests.support.processes.edges import Kept, text
from tests.support.processes.process_verbs import DEADLINE, ROOT, is_alive

NEEDS = {"systemd-notify", "systemd-socket-activate", "systemd-analyze"}


@pytest.fixture
def tools():
    missing = sorted(name for name in NEEDS if shutil.which(name) is None)
    if missing and not os.environ.get("STYX_NO_SKIP"):
        pytest.skip(f"{', '.join(missing)} of Debian's package systemd is not installed")
    assert not missing


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """A socket that receives notifications of a service, and its address as systemd passes it."""
    address = f"@styx-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address.replace("@", "\0"))
        sock.settimeout(DEADLINE)
        yield sock, address


def next_notification(sock):
    return dict(line.split("=", 1) for line in sock.recv(4096).decode().splitlines())


def test_every_notification(manager):
    sock, address = manager
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7", "HOME": "/"}
    systemd = Systemd.from_environment(environ, 7)
    assert environ == {"HOME": "/"}, "no child must believe that it is meant"
    assert systemd.watchdog == 3.0
    systemd.alive()  # not sent: the watchdog counts from READY=1
    systemd.ready("serving")
    assert next_notification(sock) == {"READY": "1", "STATUS": "serving"}
    systemd.reloading()
    received = next_notification(sock)
    assert received["RELOADING"] == "1"
    assert int(received["MONOTONIC_USEC"]) > 0
    systemd.alive()
    assert next_notification(sock) == {"WATCHDOG": "1"}
    systemd.stopping("draining")
    assert next_notification(sock) == {"STOPPING": "1", "STATUS": "draining"}
    assert systemd.environment() == {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000"}
    systemd.replaced_by(8)
    assert next_notification(sock) == {"MAINPID": "8", "READY": "1"}
    systemd.alive()
    systemd.stopping("draining")
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv(4096)


def test_variables_for_another_process_are_ignored(tmp_path):
    nobody = Systemd.from_environment({}, 7)
    nobody.ready("serving")
    nobody.alive()
    assert nobody.environment() == {}
    assert Systemd.from_environment({"WATCHDOG_USEC": "5", "WATCHDOG_PID": "8"}, 7).watchdog == 0
    Systemd(str(tmp_path / "gone")).ready("nobody listens, and nothing happens")
    other = {"LISTEN_FDS": "1", "LISTEN_PID": "8", "LISTEN_FDNAMES": "x"}
    assert list(listening_descriptors(other, 7)) == []
    assert other == {}
    assert list(listening_descriptors({}, 7)) == []


async def notification_from(sock):
    return dict(
        line.split("=", 1)
        for line in (await asyncio.get_running_loop().sock_recv(sock, 4096)).decode().splitlines()
    )


async def until_notified(sock, name):
    """The notifications up to one with this name, without those for the watchdog."""
    seen = []
    async with asyncio.timeout(DEADLINE):
        while True:
            received = await notification_from(sock)
            if "WATCHDOG" not in received:
                seen.append(received)
            if name in received:
                return seen


async def test_a_service(manager, tmp_path):
    """Start, reload, upgrade and end."""
    sock, address = manager
    sock.setblocking(False)
    config = tmp_path / "styx.yaml"
    config.write_text(text())
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "edge",
        "serve",
        "-c",
        str(config),
        cwd=ROOT,
        env={**os.environ, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"},
        stderr=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        assert await until_notified(sock, "READY") == [{"READY": "1", "STATUS": "serving with 2 workers"}]
        loop = asyncio.get_running_loop()
        times = []
        async with asyncio.timeout(DEADLINE):
            while len(times) < 5:
                assert await notification_from(sock) == {"WATCHDOG": "1"}
                times.append(loop.time())
        assert median(b - a for a, b in pairwise(times)) < 0.4
        config.write_text(config.read_text().replace("workers: 2", "workers: 1"))
        process.send_signal(signal.SIGHUP)
        first, second = await until_notified(sock, "READY")
        assert first["RELOADING"] == "1"
        assert second == {"READY": "1", "STATUS": "serving with 1 workers"}
        process.send_signal(signal.SIGUSR2)
        received = await until_notified(sock, "MAINPID")
        new = int(received[-1]["MAINPID"])
        assert [next(iter(one)) for one in received] == ["RELOADING", "READY", "MAINPID"], (
            "the new one says that it serves"
        )
        async with asyncio.timeout(DEADLINE):
            assert await process.wait() == 0
        assert is_alive(new)
        os.kill(new, signal.SIGTERM)
        assert (await until_notified(sock, "STOPPING"))[-1]["STATUS"] == "draining"
        async with asyncio.timeout(DEADLINE):
            while is_alive(new):  # noqa: ASYNC110 - no event tells of another process
                await asyncio.sleep(0.01)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_our_notifications_equal_those_of_systemd_notify(tools, manager):
    """Compares with what the tool of systemd sends."""
    sock, address = manager
    subprocess.run(
        ["systemd-notify", "--no-block", "--ready", "--status=serving"],
        env={**os.environ, "NOTIFY_SOCKET": address},
        check=True,
    )
    theirs = next_notification(sock)
    while "READY" not in theirs or "STATUS" not in theirs:  # newer versions send a barrier or two datagrams
        theirs |= next_notification(sock)
    Systemd(address).ready("serving")
    assert {name: theirs[name] for name in ("READY", "STATUS")} == next_notification(sock)


async def test_sockets_that_systemd_opened(tools, tmp_path):
    """Both workers accept on the one socket; the edge is replaced, and the socket stays."""
    config = tmp_path / "styx.yaml"
    config.write_text(text())
    port = re.search(r"127\.0\.0\.1:(\d+)", config.read_text())[1]
    process = await asyncio.create_subprocess_exec(
        "systemd-socket-activate",
        "--listen",
        f"127.0.0.1:{port}",
        "--setenv=PATH",
        sys.executable,
        "-m",
        "edge",
        "serve",
        "-c",
        str(config),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        assert b"Listening on" in await process.stderr.readline()
        async with Kept(int(port)) as kept:  # the first connection starts it, and waits for it
            assert (await kept.ask()).startswith(b"HTTP/1.1 503 ")
        for _ in range(10):
            async with Kept(int(port)) as kept:
                assert (await kept.ask()).startswith(b"HTTP/1.1 503 ")
        process.send_signal(signal.SIGTERM)
        output = (await process.stderr.read()).decode()
        assert await process.wait() == 0
        assert "no listener is configured" not in output
        assert "Traceback" not in output
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_an_edge_is_replaced_on_sockets_that_stay(tmp_path):
    """As systemd does at `systemctl restart` with a socket unit: connections wait meanwhile."""
    config = tmp_path / "styx.yaml"
    config.write_text(text(delay="200ms"))
    port = int(re.search(r"127\.0\.0\.1:(\d+)", config.read_text())[1])
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listening:
        program = (
            "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.executable, sys.argv[1:])"
        )

        async def start():
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                f"import os; os.dup2({listening.fileno()}, 3); " + program,
                *(sys.executable, "-m", "edge", "serve", "-c", str(config)),
                cwd=ROOT,
                env={**os.environ, "LISTEN_FDS": "1"},
                pass_fds=(listening.fileno(),),
                stderr=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
            )

        received = []

        async def ask():
            while True:
                async with Kept(port) as kept:
                    received.append((await kept.ask())[:12])

        asking = asyncio.ensure_future(ask())
        for _ in range(3):
            seen, edge = len(received), await start()
            async with asyncio.timeout(DEADLINE):
                while len(received) < seen + 50 and not asking.done():  # noqa: ASYNC110 - nothing tells of another process
                    await asyncio.sleep(0.01)
            edge.send_signal(signal.SIGTERM)
            assert await edge.wait() == 0
        asking.cancel()
        assert set(received) == {b"HTTP/1.1 503"}
