"""`styx serve` as a process: how it starts, and how it ends."""

import asyncio
import os
import signal
import sys
import textwrap

import pytest

from edge.demo.free_ports import free_port
from edge.demo.script_client import CUT
from edge.demo.styx_process import StyxFailed, StyxProcess
from tests.support.processes.process_verbs import CONFIG, ROOT, is_alive, listens

HOST = "live-acme.localhost"


def config(**changes):
    return CONFIG.format(
        **{
            "port": free_port(),
            "core_api": "http://127.0.0.1:9",
            "admin": f"127.0.0.1:{free_port()}",
            **changes,
        }
    )


async def test_a_taken_port(run, tmp_path, taken_port):
    path = tmp_path / "styx.yaml"
    path.write_text(config(port=taken_port))
    ran = await run("serve", "-c", path)
    assert (ran.code, ran.err) == (1, f"styx: cannot listen on 127.0.0.1:{taken_port}: Address already in use\n")


async def test_a_taken_admin_port(run, tmp_path, taken_port):
    path = tmp_path / "styx.yaml"
    path.write_text(config(admin=f"127.0.0.1:{taken_port}"))
    ran = await run("serve", "-c", path)
    assert ran.code == 1
    assert ran.err.startswith("styx: ")
    assert str(taken_port) in ran.err
    assert "Traceback" not in ran.err


async def test_a_child_that_does_not_become_ready_reports_why(taken_port):
    child = StyxProcess(config(port=taken_port))
    with pytest.raises(StyxFailed, match=f"(?s)exit status 1.*cannot listen on 127.0.0.1:{taken_port}"):
        await child.start()
    assert not child.log.parent.exists()


async def test_an_admin_server_on_a_unix_socket(run, tmp_path):
    async with StyxProcess(config(admin=f"unix:{tmp_path}/admin.sock")) as child:
        assert await child.ask_admin("/readyz") == (200, "ready\n")
        ran = await run("healthcheck", "--admin", child.settings.admin.address)
        assert (ran.code, ran.out) == (0, "ready\n")
    assert not (tmp_path / "admin.sock").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_request_in_flight_is_finished(styx, platform, client, until, number):
    [container] = platform.containers("acme")
    workers = container.spec.recipe.workers
    for _ in range(workers):
        await container.capacity.workers.acquire()
    in_hand = asyncio.ensure_future(client.ask(HOST))
    await until(lambda: container.capacity.taken == 1)
    styx.send_signal(number)
    await until(lambda: not listens(styx.port))
    assert not styx.ended.is_set()
    assert (await styx.ask_admin("/readyz"))[0] == 503
    for _ in range(workers):
        container.capacity.workers.release()
    reply = await in_hand
    assert (reply.status, reply.container) == (200, container.spec.id)
    assert await styx.stop() == 0


async def test_an_idle_client_does_not_delay_the_end(styx, client, until):
    assert (await client.ask(HOST)).status == 200
    styx.send_signal(signal.SIGTERM)
    await until(styx.ended.is_set)
    assert styx.code == 0


async def test_a_second_signal_ends_it_at_once(styx, platform, client, until):
    [container] = platform.containers("acme")
    in_hand = asyncio.ensure_future(client.ask(HOST, "/hang"))
    await until(lambda: container.capacity.taken == 1)
    styx.send_signal(signal.SIGTERM)
    await until(lambda: not listens(styx.port))
    styx.send_signal(signal.SIGTERM)
    await until(styx.ended.is_set)
    assert styx.code == 0
    assert (await in_hand).status in (CUT, 503)


ORPHAN = """
    import asyncio, os, signal, sys
    from edge.demo.styx_process import StyxProcess

    async def main():
        child = StyxProcess(sys.argv[1])
        await child.start()
        print(child.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())
"""


async def test_it_does_not_outlive_its_parent(until, tmp_path):
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(ORPHAN),
        config(),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )
    out, _ = await parent.communicate()
    assert parent.returncode == -signal.SIGKILL
    await until(lambda: not is_alive(int(out)))
