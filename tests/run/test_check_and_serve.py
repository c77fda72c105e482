"""`styx check` finds what `styx serve` finds, with the same words and exit status."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from edge.demo.free_ports import free_port
from tests.support.processes.broken_setups import SETUPS, Setup, filled
from tests.support.processes.process_verbs import COMMAND, DEADLINE, ROOT
from tests.support.processes.unprivileged import command_as_nobody, needs_root


class Served(NamedTuple):
    """What `styx serve` did."""

    code: int
    "Its exit status; 0 = it served, and ended when it was told to."
    err: str
    events: list[dict[str, object]]


async def served(config: Path, environ: dict[str, str], event: str) -> Served:
    """Serve until it ends by itself, or serves and has logged this event."""
    log = config.with_name("styx.log")
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "serve", "-c", str(config), stdout=output, stderr=output, cwd=ROOT, env=environ
        )
    ended = asyncio.create_task(process.wait())
    try:
        async with asyncio.timeout(DEADLINE):
            while not ended.done() and not {"serving", event or "serving"} <= {e["code"] for e in events(log)}:
                await asyncio.wait([ended], timeout=0.02)
            if not ended.done():
                process.send_signal(signal.SIGINT)
            code = await ended
    finally:
        if process.returncode is None:
            process.kill()
            await ended
    return Served(code, log.read_text(), events(log))


def events(log: Path) -> list[dict[str, object]]:
    """The events in whole lines of this file."""
    lines = log.read_text().split("\n")[:-1]
    return [event for line in lines if line.startswith("{") and "code" in (event := json.loads(line))]


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.name)
async def test_both_say_the_same_and_exit_alike(call, open_path, taken_port, setup: Setup) -> None:
    if setup.needs_root and os.geteuid():
        pytest.skip("needs root")
    names = {"dir": open_path, "port": free_port(), "admin": free_port(), "taken": taken_port}
    config = open_path / "styx.yaml"
    config.write_text(setup.text(names))
    environ = {name: filled(value, names) for name, value in setup.environ.items()}
    with ExitStack() as held:
        for prepare in setup.prepare:
            prepare(open_path, held)
        before = sorted(open_path.rglob("*"))
        checked = await call("check", "-c", config, **environ)
        assert sorted(open_path.rglob("*")) == before, "it changes nothing"
        run = await served(config, {**os.environ, **environ}, setup.event)
    words = filled(setup.words, names)
    assert (checked.code, run.code) == (setup.code, setup.code)
    if setup.code:
        assert words in checked.err
        assert run.err == checked.err
        return
    warnings = [line for line in checked.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == bool(words), warnings
    assert words in checked.err
    if setup.event:
        assert setup.event in {event["code"] for event in run.events if event["level"] != "info"}


async def test_strict_fails_for_a_warning(call, open_path):
    config = open_path / "styx.yaml"
    setup = next(setup for setup in SETUPS if setup.name == "no_pages")
    config.write_text(setup.text({"dir": open_path, "port": free_port(), "admin": free_port()}))
    ran = await call("check", "-c", config, "--strict")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"warning: {config}:1:")
    ran = await call("check", "-c", config, "--strict", "--json")
    assert (ran.code, json.loads(ran.out)["good"], len(json.loads(ran.out)["warnings"])) == (1, False, 1)
    assert json.loads((await call("check", "-c", config, "--json")).out)["good"]


async def test_json_says_that_an_address_is_in_use(call, open_path, taken_port):
    config = open_path / "styx.yaml"
    setup = next(setup for setup in SETUPS if setup.name == "port_in_use")
    config.write_text(setup.text({"taken": taken_port, "admin": free_port()}))
    ran = await call("check", "-c", config, "--json")
    fault = f"cannot listen on 127.0.0.1:{taken_port}: Address already in use"
    assert (ran.code, json.loads(ran.out)) == (1, {"good": False, "faults": [fault], "warnings": []})


LISTENS = """
import socket, sys
with socket.create_server(("127.0.0.1", 0)) as sock:
    print(sock.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def port_of_another_process():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", LISTENS], **pipes) as process:
        yield int(process.stdout.readline())
        process.stdin.close()


@needs_root
async def test_an_address_of_a_program_that_cannot_be_seen_is_a_warning(open_path, port_of_another_process):
    """It may be that of a styx of another user, or of systemd: which a styx that starts would get."""
    config, taken = open_path / "styx.yaml", port_of_another_process
    open_path.chmod(0o777)
    setup = next(setup for setup in SETUPS if setup.name == "port_in_use")
    config.write_text(setup.text({"taken": taken, "admin": free_port()}))
    config.chmod(0o644)
    code, out, err = await command_as_nobody("check", "-c", config)
    assert (code, out) == (0, f"{config}: good\n")
    assert err.startswith(f"warning: cannot listen on 127.0.0.1:{taken}: Address already in use, by a program ")
