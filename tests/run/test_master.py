"""The master and its children: supervision and replacement of real processes."""

import asyncio
import os
import pwd
import re
import signal
import time
from pathlib import Path

import pytest

from edge.run.processes.supervisor import accepting_for
from tests.support.processes.edges import Kept, children, counts, edge, text, title, told, worker_of
from tests.support.processes.process_verbs import COMMAND, DEADLINE, ROOT, is_alive, listens


async def test_the_processes_of_an_edge():
    async with edge() as styx:
        assert title(styx.pid) == "styx: master"
        there = children(styx.pid)
        assert set(there) == {"admin", "worker 0", "worker 1"}
        assert await styx.workers() == [there["worker 0"], there["worker 1"]]
        assert [event["by"] for event in told(styx, "serving")] == ["master"]
    assert styx.code == 0


async def test_new_connections_are_spread():
    async with edge() as styx:
        for _ in range(60):
            async with Kept(styx.port) as kept:
                assert (await kept.ask()).startswith(b"HTTP/1.1 503 ")
        accepted = [told["client_connections_accepted"] for told in (await counts(styx)).values()]
        assert sum(accepted) == 60
        assert min(accepted) >= 10


async def test_signals_are_for_the_main_thread_of_a_worker(until):
    """If another thread got the SIGABRT of a stalled worker, the loop would run on meanwhile."""
    async with edge(core_api="http://localhost:9") as styx:
        for _ in range(5):  # each of them asks the core API, and so looks up a name
            async with Kept(styx.port) as kept:
                await kept.ask()
        for pid in await styx.workers():
            # While it makes a thread, the main one blocks them too.
            await until(lambda pid=pid: not blocked_signals(pid)[pid] >> (signal.SIGABRT - 1) & 1)
            _, *others = sorted(blocked_signals(pid).items())
            assert len(others) > 4  # those of the logs, and four of libuv's
            assert all(mask >> (signal.SIGABRT - 1) & 1 for _, mask in others)


def blocked_signals(pid: int) -> dict[int, int]:
    """By thread, a bit for each signal."""
    told = {int(task.name): (task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()}
    return {thread: int(re.search(r"SigBlk:\s+(\w+)", status)[1], 16) for thread, status in told.items()}


async def test_a_killed_worker_is_replaced_and_nothing_that_waited_is_lost(until):
    async with edge() as styx:
        first, second = await styx.workers()
        # Both stand still: whatever connects now waits in the socket of one of them.
        for pid in (first, second):
            os.kill(pid, signal.SIGSTOP)
        waiting = [Kept(styx.port) for _ in range(20)]
        for kept in waiting:
            await kept.__aenter__()
        asking = [asyncio.ensure_future(kept.ask()) for kept in waiting]
        await asyncio.sleep(0)  # each has written its request, which lies in a socket that nobody reads
        os.kill(first, signal.SIGKILL)
        os.kill(second, signal.SIGCONT)
        assert {head[:12] for head in await asyncio.gather(*asking)} == {b"HTTP/1.1 503"}
        for kept in waiting:
            await kept.__aexit__()
        await until(lambda: told(styx, "process_died") != [])
        [event] = told(styx, "process_died")
        assert (event["process"], event["how"], event["pid"]) == ("worker 0", "killed by SIGKILL", first)
        replaced, kept_pid = await styx.workers()
        assert kept_pid == second
        assert replaced != first
        _, metrics = await styx.ask_admin("/metrics")
        assert 'styx_worker_restarts_total{reason="crashed"} 1.0' in metrics


async def test_counts_are_monotonic_over_a_crash():
    async with edge(workers=1) as styx:
        async with Kept(styx.port) as kept:
            for _ in range(10):
                await kept.ask()
            await counted(styx, 10)  # it is answered first, and counted a moment later
        [pid] = await styx.workers()
        os.kill(pid, signal.SIGKILL)
        async with Kept(styx.port) as kept:
            await kept.ask()
        await counted(styx, 11)


async def counted(styx, requests):
    """Wait until /metrics has this number, and no other one before."""
    async with asyncio.timeout(DEADLINE):
        found = -1.0
        while found != requests:
            _, metrics = await styx.ask_admin("/metrics")
            [number] = re.findall(r'^styx_causes_total{cause="maintenance"} (.*)$', metrics, re.MULTILINE)
            assert found <= float(number) <= requests
            found = float(number)


async def test_a_stalled_worker_writes_a_traceback_and_is_replaced(until):
    async with edge(watchdog="1s") as styx, Kept(styx.port) as kept:
        await kept.ask()
        pids = await styx.workers()
        serving = await worker_of(styx, kept, pids)
        [other] = [pid for pid in pids if pid != serving]
        os.kill(other, signal.SIGSTOP)
        async with asyncio.timeout(DEADLINE):
            while not told(styx, "process_died"):
                assert (await kept.ask()).startswith(b"HTTP/1.1 503 "), "the others go on"
                await asyncio.sleep(0.01)
        await until(lambda: other not in children(styx.pid).values() and len(children(styx.pid)) == 3)
        assert told(styx, "process_stalled")
        assert "Fatal Python error: Aborted" in styx.log.read_text(), "its faulthandler says where it stood"
        _, metrics = await styx.ask_admin("/metrics")
        assert 'styx_worker_restarts_total{reason="stalled"} 1.0' in metrics


@pytest.mark.parametrize(
    ("slots", "accepting", "told"),
    [
        (1, [], {}),
        (1, [0], {}),
        (2, [], {}),
        (2, [1], {0: 1}),
        (2, [0], {1: 0}),
        (4, [1, 3], {0: 1, 2: 3}),
        (4, [1], {0: 1, 2: 1, 3: 1}),
    ],
)
def test_which_slot_accepts_for_which(slots, accepting, told):
    assert accepting_for(slots, accepting) == told


async def answers(styx, count=30):
    """So many connections, one after the other: in the sockets of both workers, but for one in a billion times."""
    for _ in range(count):
        async with asyncio.timeout(DEADLINE), Kept(styx.port) as kept:
            assert (await kept.ask()).startswith(b"HTTP/1.1 503 ")


async def test_another_accepts_for_a_stalled_worker(until):
    async with edge(watchdog="60s") as styx:
        still, other = await styx.workers()
        held = len(os.listdir(f"/proc/{other}/fd"))
        os.kill(still, signal.SIGSTOP)
        await until(lambda: told(styx, "accepting_for_another"))
        await answers(styx)
        os.kill(still, signal.SIGCONT)
        await until(lambda: len(os.listdir(f"/proc/{other}/fd")) == held)
        await answers(styx)
        assert await styx.workers() == [still, other]


async def test_another_accepts_while_a_worker_drains(until):
    async with edge() as styx, Kept(styx.port) as kept:
        await kept.ask()
        serving = await worker_of(styx, kept, await styx.workers())
        os.kill(serving, signal.SIGTERM)
        await until(lambda: told(styx, "accepting_for_another"))
        assert is_alive(serving), "it waits for what its client may say"
        await answers(styx)


async def test_another_accepts_while_a_worker_that_dies_repeatedly_waits_for_its_restart(until):
    died = "process_died"
    async with edge() as styx:
        for deaths in range(1, 7):
            await until(lambda: "worker 0" in children(styx.pid))
            os.kill(children(styx.pid)["worker 0"], signal.SIGKILL)
            await until(lambda n=deaths: len(told(styx, died)) == n)
        assert told(styx, died)[-1]["next_in"] == 5.0
        await answers(styx)
        assert "worker 0" not in children(styx.pid), "still in its pause"


async def test_an_admin_process_that_dies_is_replaced_and_no_request_fails(until, call):
    async with edge() as styx, Kept(styx.port) as kept:
        await kept.ask()
        drained = await call("drain", "server", "srv-7", "--force", "--admin", styx.settings.admin.address)
        assert drained.code == 0, drained.err
        os.kill(children(styx.pid)["admin"], signal.SIGKILL)
        assert (await kept.ask()).startswith(b"HTTP/1.1 503 ")
        assert await styx.ask_admin("/readyz") == (200, "ready\n")  # asked while nobody was there: it waited
        async with asyncio.timeout(DEADLINE):  # the workers come back to it, and tell what they drain
            while "srv-7" not in (await styx.ask_admin("/v1/drains"))[1]:  # noqa: ASYNC110 - no event tells of another process
                await asyncio.sleep(0.02)
        assert len(await styx.workers()) == 2


async def test_a_worker_that_gets_sigterm_drains_and_is_replaced(until):
    async with edge() as styx, Kept(styx.port) as kept:
        await kept.ask()
        serving = await worker_of(styx, kept, await styx.workers())
        os.kill(serving, signal.SIGTERM)
        await until(lambda: "(leaving)" in title(serving))
        async with asyncio.timeout(DEADLINE):
            while b"Connection: close" not in await kept.ask():
                pass  # it was asked in the moment before connections are told
        await until(lambda: not is_alive(serving))
        await until(lambda: len(children(styx.pid)) == 3)


async def test_a_worker_that_dies_at_its_start_again_and_again(until, tmp_path):
    """It is logged as an error, and restarted less and less often; the others serve."""
    (tmp_path / "logs").mkdir()
    async with edge(log=tmp_path / "logs" / "access.log") as styx:
        (tmp_path / "logs").rename(tmp_path / "gone")
        first, _ = await styx.workers()
        os.kill(first, signal.SIGKILL)
        ended = "process_died"
        await until(lambda: len(told(styx, ended)) >= 4)
        assert [event["next_in"] for event in told(styx, ended)][:4] == [0.0, 0.1, 0.5, 1.0]
        assert {event["why"] for event in told(styx, ended)[1:]} == {
            f"access_log.path: No such file or directory: {tmp_path}/logs/access.log"
        }
        (tmp_path / "gone").rename(tmp_path / "logs")
        await until(lambda: {"worker 0", "worker 1"} <= set(children(styx.pid)))


async def test_children_end_without_their_master(until):
    async with edge() as styx:
        pids = list(children(styx.pid).values())
        styx.kill()
        await until(lambda: not any(map(is_alive, pids)))
        await until(lambda: not listens(styx.port))  # the last thread of a process closes its files


async def test_a_worker_that_cannot_start_is_reported_at_the_start(tmp_path):
    """Only the master may write its access log."""
    (tmp_path / "styx.yaml").write_text(text(log="/proc/self/task/${MASTER}/comm"))
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        'MASTER=$$ exec "$@"',
        "sh",
        *COMMAND,
        "serve",
        "-c",
        str(tmp_path / "styx.yaml"),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    said = (await process.communicate())[1].decode()
    assert process.returncode == 1
    log = f"/proc/self/task/{process.pid}/comm"
    assert said.splitlines()[-1] == f"styx: access_log.path: No such file or directory: {log}"
    assert "Traceback" not in said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_privileges_are_dropped():
    async with edge(more="user: nobody") as styx:
        nobody = pwd.getpwnam("nobody").pw_uid
        assert {os.stat(f"/proc/{pid}").st_uid for pid in children(styx.pid).values()} == {nobody}
        assert os.stat(f"/proc/{styx.pid}").st_uid == 0
        async with Kept(styx.port) as kept:
            assert (await kept.ask()).startswith(b"HTTP/1.1 503 ")


async def test_an_idle_master_uses_no_cpu():
    """It wakes up once a second to look at the heartbeats."""
    async with edge() as styx:
        before, began = _waits(styx.pid), time.monotonic()
        await asyncio.sleep(1.5)  # rest shows over time only
        assert _waits(styx.pid) - before <= 2 * (time.monotonic() - began) + 2


def _waits(pid):
    """The number of its voluntary context switches."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.MULTILINE)[1])
