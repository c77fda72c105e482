"""Which processes may send commands, and what an unprivileged user can do to an edge: real processes and users."""

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from edge.run.control.control_messages import Command, SettingsApplied, packed
from tests.support.processes.edges import Kept, children, edge, told
from tests.support.processes.process_verbs import DEADLINE, is_alive

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
STRANGER = """
import os, socket, sys, time

address, count, seconds = "\\0" + sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
made, until, garbage = 0, time.monotonic() + seconds, b"\\0\\x40\\0\\0" + bytes(65536)
print("begins", flush=True)
open_ones = []
while made < count or time.monotonic() < until:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.connect(address)
        made += 1
        open_ones.append(sock)
        while sock.send(garbage):
            pass
    except OSError:  # too many wait, it is not read, or it was closed
        pass
    for one in open_ones[:10]:  # those that are still open go on
        try:
            one.send(garbage)
        except OSError:
            pass
    if len(open_ones) > count:
        open_ones.pop(0).close()
print(made)
"""


def resident(pid: int) -> int:
    """Bytes."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) << 10


def control_address(master: int) -> str:
    """The address, as every process on this machine can read it."""
    [address] = set(re.findall(rf"@(styx-{master}-\w+)", Path("/proc/net/unix").read_text()))
    return address


@needs_root
@pytest.mark.parametrize("count", [100, 1000])
async def test_refused_connections_on_the_control_channel_cost_nothing(until, count):
    """They connect and write for three seconds, as fast as they can. Meanwhile a worker dies, and its successor
    connects; no request fails."""
    async with edge() as styx, Kept(styx.port) as kept:
        there = children(styx.pid)
        first, second = await styx.workers()
        watched = {name: (there[name], resident(there[name])) for name in ("admin", "worker 1")}
        outsider = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            STRANGER,
            control_address(styx.pid),
            str(count),
            "3",
            stdout=asyncio.subprocess.PIPE,
        )
        assert await outsider.stdout.readline() == b"begins\n"
        os.kill(first, signal.SIGKILL)
        asked = asyncio.get_running_loop().create_task(outsider.communicate())
        grown = {}
        while not asked.done():
            await kept_or_new(styx, kept)
            for name, (pid, before) in watched.items():
                grown[name] = max(grown.get(name, 0), resident(pid) - before)
            await asyncio.sleep(0.02)
        made = int((await asked)[0])
        assert made >= count
        assert max(grown.values()) < 20 << 20, grown
        replaced, kept_pid = await styx.workers()
        assert (replaced != first, kept_pid) == (True, second)
        _, metrics = await styx.ask_admin("/metrics")
        [refused] = re.findall(r"^styx_control_connections_refused_total (.*)$", metrics, re.MULTILINE)
        assert float(refused) > made / 2
        lines = told(styx, "control_connections_refused")
        assert 1 <= len(lines) <= 2, "not one for each"
        assert told(styx, "process_stalled") == []


async def kept_or_new(styx, kept):
    """A request that gets a response; its worker may have been the one that was killed."""
    if not await kept.ask():
        async with Kept(styx.port) as other:
            assert (await other.ask()).startswith(b"HTTP/1.1 503 ")


async def test_a_process_of_our_user_that_is_no_worker_is_refused():
    """Same user, but not a child of that master."""
    async with edge(workers=1) as styx:
        await styx.workers()
        reader, writer = await asyncio.open_unix_connection("\0" + control_address(styx.pid))
        async with asyncio.timeout(DEADLINE):
            assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def channels_of(pid: int) -> list[socket.socket]:
    """Copies of the unnamed Unix sockets that a process has: pidfd_getfd(2), as the same user may."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    copies = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                continue
        number = libc.syscall(438, pidfd, int(name), 0)
        if number < 0:
            continue
        sock = socket.socket(fileno=number)
        unnamed = sock.family == socket.AF_UNIX and not sock.getsockname()
        if unnamed and sock.type == socket.SOCK_STREAM:
            with contextlib.suppress(OSError):
                if not sock.getpeername():
                    copies.append(sock)
                    continue
        sock.close()
    os.close(pidfd)
    return copies


@needs_root
@pytest.mark.parametrize("victim", ["worker 0", "admin"])
async def test_a_stolen_channel_gives_no_orders(until, victim):
    """The channel ends, another process is started, and requests in flight are finished; nothing is reloaded."""
    async with edge() as styx, Kept(styx.port) as kept:
        before = children(styx.pid)
        assert (await kept.ask()).startswith(b"HTTP/1.1 503 ")
        copies = channels_of(before[victim])
        assert copies, "the line was not found"
        for copy in copies:
            with contextlib.suppress(OSError):
                copy.send(packed(SettingsApplied(99, "")) + packed(Command(1, "reload")))
        # loop-internal socket pairs are among the copies: those bytes go nowhere
        for copy in copies:
            copy.close()
        await until(lambda: told(styx, "bad_channel_message") != [])
        [event] = told(styx, "bad_channel_message")
        assert (event["code"], event["error"]) == ("bad_channel_message", f"sent by process {os.getpid()}")
        await until(lambda: not is_alive(before[victim]))
        await until(lambda: set(children(styx.pid)) == {"admin", "worker 0", "worker 1"})
        assert told(styx, "reloaded") == []
        await kept_or_new(styx, kept)
        _, metrics = await styx.ask_admin("/metrics")
        reason = "admin_bad_message" if victim == "admin" else "bad_message"
        assert f'styx_worker_restarts_total{{reason="{reason}"}} 1.0' in metrics


async def test_a_stalled_admin_process_is_replaced(until, call):
    """Its successor gets the drains from the workers; no request fails."""
    async with edge(watchdog="1s") as styx, Kept(styx.port) as kept:
        drained = await call("drain", "server", "srv-7", "--force", "--admin", styx.settings.admin.address)
        assert drained.code == 0, drained.err
        admin = children(styx.pid)["admin"]
        os.kill(admin, signal.SIGSTOP)
        began = time.monotonic()
        while is_alive(admin):
            assert (await kept.ask()).startswith(b"HTTP/1.1 503 ")
            assert time.monotonic() - began < DEADLINE
        await until(lambda: children(styx.pid).get("admin", admin) != admin)
        assert await styx.ask_admin("/readyz") == (200, "ready\n")
        [event] = [one for one in told(styx, "process_stalled") if one["pid"] == admin]
        assert (event["code"], event["process"], event["pid"]) == ("process_stalled", "admin process", admin)
        assert "Fatal Python error: Aborted" in styx.log.read_text(), "its faulthandler says where it stood"
        assert len(await styx.workers()) == 2
        async with asyncio.timeout(DEADLINE):
            while "srv-7" not in (await styx.ask_admin("/v1/drains"))[1]:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.02)
        _, metrics = await styx.ask_admin("/metrics")
        assert 'styx_worker_restarts_total{reason="admin_stalled"} 1.0' in metrics
        assert 'styx_worker_restarts_total{reason="stalled"} 0.0' in metrics


async def test_a_worker_is_not_in_the_metrics_twice(until):
    """The admin process has a row of its own, and is no worker."""
    async with edge(workers=1) as styx:
        await styx.workers()
        _, metrics = await styx.ask_admin("/metrics")
        assert re.findall(r"^styx_worker_up.*$", metrics, re.MULTILINE) == ['styx_worker_up{worker="0"} 1.0']
