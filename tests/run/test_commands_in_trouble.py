"""Commands while a part of the edge does not reply: they show what the others say, and name who is silent."""

import json
import os
import signal
from contextlib import contextmanager

import pytest
import pytest_asyncio
from click.testing import CliRunner

from edge.demo.styx_process import StyxProcess
from edge.run.cli import main
from tests.support.processes.edges import Kept, children, text

pytestmark = pytest.mark.asyncio(loop_scope="module")

READING = ("routes", "clients", "log-level", "explain a.test")
NO_REPLY = "styx: no reply from worker 0: stuck, stopped or busy; see `styx top`, `styx support-dump`\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def styx():
    async with StyxProcess(text(watchdog="1h", workers=2)) as running:
        await running.workers()
        for _ in range(40):  # until both workers know it
            async with Kept(running.port) as kept:
                assert await kept.ask()
        yield running


@contextmanager
def stopped(pid: int):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def call(styx):
    def called(*args):
        return CliRunner().invoke(main, [*args, "--admin", str(styx.settings.admin.address)])

    return called


async def test_a_worker_that_does_not_reply_hides_none_that_does(styx, call):
    with stopped(children(styx.pid)["worker 0"]):
        for command in READING:
            ran = call(*command.split())
            assert (ran.exit_code, ran.stderr) == (1, NO_REPLY), command
            assert ran.stdout.strip(), command
            document = json.loads(call(*command.split(), "--json").stdout)
            assert [reply["worker"] for reply in document["workers"]] == [1], command
        ran = call("drain", "server", "s", "--force", "--for", "1m")
        assert (ran.exit_code, ran.stdout) == (1, "server s: gets no new requests for 1m\n")
        assert ran.stderr == NO_REPLY
        ran = call("invalidate", "all")
        assert (ran.exit_code, ran.stderr) == (1, NO_REPLY)
        assert ran.stdout.startswith("routes to be asked for anew: ")
    assert call("drain", "server", "s", "--end").exit_code == 0


async def test_when_no_worker_replies_that_is_all(styx, call):
    pids = children(styx.pid)
    with stopped(pids["worker 0"]), stopped(pids["worker 1"]):
        for command in READING:
            if command == "log-level":  # the admin process has one, too
                continue
            ran = call(*command.split())
            assert (ran.exit_code, ran.stdout) == (1, ""), command
            assert ran.stderr.startswith("styx: no reply from workers 0, 1: "), command
            assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["explain", ""], "styx: HOST is empty"),
        (["drain", "server", "s", "--for", "0"], "styx: --for 0 drains nothing; --end ends a drain"),
        (["invalidate", "hostname"], "styx: which hostname? `styx invalidate hostname NAME`"),
        (["routes", "--limit", "0"], "Usage: "),
        (["routes", "--freshness", "new"], "Usage: "),
        (["clients", "--limit", "-1"], "Usage: "),
    ],
)
async def test_wrong_arguments_are_refused_before_anything_is_asked(command, said):
    ran = CliRunner().invoke(main, [*command, "--admin", "127.0.0.1:1"])
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.startswith(said)


async def test_what_does_not_exist_is_said_to(call):
    assert call("drain", "server", "s", "--force", "--for", "99d").stderr == (
        "styx: A drain has a name, and lasts for seconds from 0 (end it) to 604800 (7 days).\n"
    )
    ran = call("invalidate", "site", "nobody")
    assert (ran.exit_code, ran.stdout) == (
        0,
        "routes to be asked for anew: 0 (this edge knows none of the site nobody)\n",
    )
    assert "no such routes\n" in call("routes", "--site", "nobody").stdout
    said = call("explain", "*.a.test").stderr
    assert said.startswith("styx: *.a.test cannot be a hostname: requests for it are answered 400,")
    assert "answered 404" in call("explain", "[::1]").stderr


async def test_a_token_that_is_not_one_is_not_asked_for_again(styx):
    admin = ["--admin", str(styx.settings.admin.address)]
    ran = CliRunner(env={"STYX_ADMIN_TOKEN": "sesame"}).invoke(main, ["reload", *admin])
    assert ran.exit_code == 1
    assert "The token that was sent is not one there; without it, unix:/" in ran.stderr
    assert ran.stderr.count("\n") == 1
