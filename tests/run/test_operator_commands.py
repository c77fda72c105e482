"""Commands that look at a running edge: its settings, its events, its log level. One edge for all of them."""

import json
import os
import signal
import socket
from contextlib import contextmanager
from dataclasses import dataclass

import click
import pytest
import pytest_asyncio
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from edge.admin.commands.openapi import OPERATIONS
from edge.demo.styx_process import StyxProcess
from edge.run.cli import main
from tests.support.processes.edges import Kept, children, text, told
from tests.support.processes.process_verbs import ROOT

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def styx():
    config = text(more='timeouts: {head: "${HEAD_TIMEOUT:-7s}"}', workers=1)
    async with StyxProcess(config, {"HEAD_TIMEOUT": "8s"}) as running:
        await running.workers()
        yield running


@contextmanager
def free_tcp_port():
    """An address where nobody listens, which nobody else gets meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


def call(*args, **env):
    """The command in this process: it starts ten times as fast."""
    result = CliRunner(env=env).invoke(main, [str(arg) for arg in args])
    return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def ask(styx):
    def asked(*args, code=0):
        ran = call(*args, "--admin", styx.settings.admin.address)
        assert ran.code == code, ran.err
        return ran

    return asked


async def test_config_show_of_a_running_edge(ask, styx):
    shown = (ask("config", "show", "timeouts")).out.splitlines()
    assert len(shown) > 10
    [head] = [line.split() for line in shown if line.startswith("timeouts.head ")]
    assert head == ["timeouts.head", "8s", f"{styx.file}:8:12", "(${HEAD_TIMEOUT})"]
    assert all(line.endswith(" default") for line in shown if not line.startswith("timeouts.head "))
    given = json.loads((ask("config", "show", "--given", "--json")).out)
    assert {setting["source"] for setting in given["settings"]} == {"file", "environment"}
    assert (ask("config", "show", "timeoust", code=1)).out == ""


async def test_config_show_tells_of_a_file_that_was_edited_and_not_read_again(ask, styx):
    assert (ask("config", "show", "workers")).err == ""
    before = styx.file.read_text()
    styx.file.write_text(before.replace("7s", "9s"))
    assert f"{styx.file} has changed since" in (ask("config", "show", "workers")).err
    styx.file.write_text(before.replace("timeouts: {", "timeouts: {body: 21s, "))
    ask("reload")
    ran = ask("config", "show", "timeouts.body")
    assert (ran.out.split()[1], ran.err) == ("21s", "")


async def test_config_show_of_a_file_is_the_same(styx):
    ran = call("config", "show", "-c", styx.file, HEAD_TIMEOUT="8s")
    assert "timeouts.head " in ran.out
    bad = call("config", "show", "-c", "/nowhere.yaml")
    assert (bad.code, bad.out) == (2, "")


async def test_log_level(ask, styx, until):
    processes = {"master", "admin", "worker 0"}
    assert (ask("log-level")).out.splitlines() == [
        "admin process: info, as configured",
        "worker 0: info, as configured",
    ]
    shown = ask("log-level", "debug", "--for", "5m")
    assert shown.out.count(": debug, for 300 s more, then info\n") == 2
    await until(lambda: {event["by"] for event in told(styx, "log_level_overridden")} == processes)
    levels = json.loads((ask("log-level", "--json")).out)
    assert levels["workers"][0]["content"]["level"] == levels["admin"]["level"] == "debug"
    ask("log-level", "--end")
    await until(lambda: {event["by"] for event in told(styx, "log_level_restored")} == processes)
    assert (ask("log-level", "debug", "--for", "2d", code=1)).err.startswith("styx: level is one of")
    assert (ask("log-level", "debug", "--for", "soon", code=2)).err.startswith("styx: --for ")


async def test_events_of_the_master_and_of_a_reload_that_failed(ask, styx):
    before = styx.file.read_text()
    styx.file.write_text("nonsense")
    ask("reload", code=1)
    styx.file.write_text(before)
    listed = (ask("events")).out
    assert "master: configuration not reloaded [reload_failed] what=" in listed
    found = json.loads((ask("events", "--json")).out)
    assert found == sorted(found, key=lambda event: event["at"])
    assert {"master", "admin"} <= {event["by"] for event in found}


async def test_events_of_the_master_outlive_the_admin_process(ask, styx, until):
    os.kill(children(styx.pid)["admin"], signal.SIGKILL)
    await until(lambda: "admin" in children(styx.pid) and told(styx, "process_died") != [])

    def codes():
        return {event["code"] for event in json.loads(ask("events", "--json").out)}

    await styx.workers()
    await until(lambda: {"serving", "process_died"} <= codes())


async def test_every_reading_command_prints_json(ask, styx):
    for command in ("healthcheck", "routes", "top", "drains", "clients", "events", "log-level", "config show"):
        json.loads((ask(*command.split(), "--json")).out)


async def test_check_prints_json(tmp_path):
    good = call("check", "-c", ROOT / "config" / "demo.yaml", "--json")
    assert json.loads(good.out) == {"good": True, "faults": [], "warnings": []}
    (tmp_path / "bad.yaml").write_text("workers: many\n")
    bad = call("check", "-c", tmp_path / "bad.yaml", "--json")
    found = json.loads(bad.out)
    assert (bad.code, found["good"]) == (2, False)
    assert any("bad.yaml:1:10: workers" in fault for fault in found["faults"])


async def test_commands_find_the_edge_by_its_configuration(styx, tmp_path, monkeypatch):
    address = str(styx.settings.admin.address)
    assert call("healthcheck", STYX_CONFIG=str(styx.file)).out == "ready\n"
    monkeypatch.setattr("edge.run.installation.configuration_path.DEFAULTS", ("styx.yaml",))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "styx.yaml").write_text(f'admin: {{address: "{address}"}}\n')
    for command in ("healthcheck", "routes", "top", "drains", "clients", "events", "log-level", "config show"):
        assert call(*command.split(), "--json").code == 0, command
    with free_tcp_port() as other:  # --admin, then STYX_ADMIN, then the configuration
        assert call("healthcheck", "--admin", address, STYX_ADMIN=other).out == "ready\n"
        assert call("healthcheck", STYX_ADMIN=other).err.startswith(
            f"styx: nobody answers at {other} (STYX_ADMIN): "
        )
        (tmp_path / "styx.yaml").write_text(f'admin: {{address: "{other}"}}\n')
        said = f"styx: nobody answers at {other} (admin.address of {tmp_path}/styx.yaml): Connection refused\n"
        assert call("healthcheck").err == said


READ = [each for each in OPERATIONS if each.method == "get" and each.media == "application/json"]


@pytest.mark.parametrize("operation", READ, ids=lambda each: each.path)
async def test_a_real_edge_answers_as_its_openapi_description_says(styx, operation):
    document = json.loads((await styx.ask_admin("/v1/openapi.json"))[1])
    async with Kept(styx.port) as kept:
        assert await kept.ask()  # so that there is a route
    described = document["paths"][operation.path]["get"]["responses"]["200"]["content"]["application/json"]
    status, body = await styx.ask_admin(operation.path.replace("{host}", "a.test"))
    assert status == 200
    schema = {**described["schema"], "components": document["components"]}
    Draft202012Validator(schema).validate(json.loads(body))


async def test_completion():
    script = CliRunner(env={"_STYX_COMPLETE": "bash_source"}).invoke(main, prog_name="styx").stdout
    assert script.startswith("_styx_completion() {")
    words = {"_STYX_COMPLETE": "bash_complete", "COMP_WORDS": "styx log-level de", "COMP_CWORD": "2"}
    assert CliRunner(env=words).invoke(main, prog_name="styx").stdout == "plain,debug\n"


ACTING = {"serve", "core-api", "demo", "reload", "upgrade", "drain", "invalidate", "init"}
ACTING |= {"render", "preview"}  # what they make are pages
WRITES_JSON = {"schema"}


async def test_no_reading_command_is_without_json():
    def commands(group):
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                yield from commands(command)
            else:
                yield name, command

    without = {name for name, command in commands(main) if not any("--json" in p.opts for p in command.params)}
    assert without <= ACTING | WRITES_JSON
