"""The archive for support, of an edge that is well and of one that is partly dead. One edge for all tests."""

import io
import json
import os
import signal
import tarfile

import pytest
import pytest_asyncio
from click.testing import CliRunner

from edge.demo.free_ports import free_port
from edge.demo.styx_process import StyxProcess
from edge.rules.settings.values import Address
from edge.run.admin_client import AdminEndpoint
from edge.run.cli import main
from edge.run.commands import support_dump
from edge.run.processes.process_reports import styx_processes
from tests.support.processes.edges import children, text
from tests.support.processes.unprivileged import as_nobody, needs_root

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def styx():
    async with StyxProcess(text(more='edge_name: "${EDGE_SECRET}"'), {"EDGE_SECRET": "s3cr3t"}) as running:
        await running.workers()
        yield running


def dump(target, timeout=5.0):
    out = io.BytesIO()
    address = target if isinstance(target, Address) else target.settings.admin.address
    manifest = support_dump.write_dump(AdminEndpoint("edge", address, timeout=timeout), out, 1e9)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        parts = {entry.name: archive.extractfile(entry).read().decode() for entry in archive}
    return manifest, {name.removeprefix("styx-support/"): part for name, part in parts.items()}


async def test_an_edge_that_is_well(styx):
    manifest, parts = dump(styx)
    assert manifest.missing == {}
    assert json.loads(parts["manifest.json"])["parts"].keys() == parts.keys() - {"manifest.json"}
    assert manifest.created == "2001-09-09T01:46:40Z"
    assert "styx_requests_total" in parts["api/metrics.txt"]
    assert parts["api/ready.txt"] == "ready\n"
    assert any(event["code"] == "serving" for event in json.loads(parts["api/status.json"])["events"])
    assert "uvloop " in parts["packages.txt"]
    processes = [name for name in parts if name.startswith("processes/")]
    assert len(processes) == 4
    for name in processes:
        assert "Main thread 0x" in parts[name], name
    [worker] = [part for name, part in parts.items() if name.endswith("-worker-1.txt")]
    assert "worker_process.py" in worker
    assert "VmRSS" in worker


async def test_no_secret_is_in_it(styx):
    _, parts = dump(styx)
    config = json.loads(parts["api/config.json"])
    [name] = [setting for setting in config["settings"] if setting["path"] == "edge_name"]
    assert name["value"] == "(hidden)"
    del parts["api/status.json"]  # an edge's name is no secret, whatever its variable is called: pages show it
    assert not [name for name, part in parts.items() if "s3cr3t" in part]


async def test_a_worker_that_is_stopped(styx, monkeypatch):
    monkeypatch.setattr(support_dump, "API_PARTS", support_dump.API_PARTS[:1])  # each waits for its reply
    [_, second] = await styx.workers()
    os.kill(second, signal.SIGSTOP)
    try:
        manifest, parts = dump(styx)
    finally:
        os.kill(second, signal.SIGCONT)
    assert manifest.missing["api/overview.json"] == "no reply from workers 1"
    assert "stopped by a signal" in manifest.missing[f"processes/{second}-worker-1.txt"]
    assert "most recent call first" in parts[f"processes/{styx.pid}-master.txt"]


async def test_an_admin_process_that_does_not_reply(styx):
    admin = children(styx.pid)["admin"]
    os.kill(admin, signal.SIGSTOP)
    try:
        manifest, parts = dump(styx, timeout=0.1)
    finally:
        os.kill(admin, signal.SIGCONT)
    assert {name for name in manifest.missing if name.startswith("api/")} == {
        f"api/{name}" for name, _ in support_dump.API_PARTS
    }
    told = [why for name, why in manifest.missing.items() if name.startswith("api/")]
    assert not [why for why in told if "accepted the connection, but not answered" not in why]
    for pid in (styx.pid, *await styx.workers()):
        [report] = [part for name, part in parts.items() if name.startswith(f"processes/{pid}-")]
        assert "most recent call first" in report


async def test_no_edge_at_all(monkeypatch):
    monkeypatch.setattr(support_dump, "styx_processes", list)
    manifest, parts = dump(Address("127.0.0.1", free_port()))
    assert "there is no process of styx" in manifest.missing["processes"]
    assert "processors: " in parts["system.txt"]


async def test_it_has_a_bound(styx, monkeypatch):
    monkeypatch.setattr(support_dump, "MOST_PART", 1000)
    monkeypatch.setattr(support_dump, "MOST_TOTAL", 5000)
    manifest, parts = dump(styx)
    assert max(manifest.parts.values()) == 1000
    assert sum(manifest.parts.values()) == 5000
    assert manifest.missing["api/metrics.txt"].startswith("cut off after ")
    assert len(parts["api/metrics.txt"]) == manifest.parts["api/metrics.txt"]


async def test_the_command(styx, tmp_path):
    path, admin = tmp_path / "dump.tar.gz", str(styx.settings.admin.address)

    def call(*more):
        return CliRunner().invoke(main, ["support-dump", "--admin", admin, *more])

    ran = call("-o", str(path))
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.endswith(f"{path}\n")
    assert path.stat().st_mode & 0o777 == 0o600
    again = call("-o", str(path))
    assert (again.exit_code, again.stderr) == (1, f"styx: cannot write {path}: File exists\n")
    with tarfile.open(fileobj=io.BytesIO(call("-o", "-").stdout_bytes)) as archive:
        assert "styx-support/manifest.json" in archive.getnames()


async def test_processes_of_other_edges_are_not_in_it(styx):
    everywhere = styx_processes()
    ours = support_dump.of_one_edge(everywhere, children(styx.pid)["worker 0"])
    assert {process.pid for process in ours} == {styx.pid, *children(styx.pid).values()}


@needs_root
async def test_somebody_without_rights_gets_no_stacks_and_is_told_why(styx):
    def dumped():
        manifest, parts = dump(styx)
        return manifest.missing, [name for name, part in parts.items() if "most recent call first" in part]

    missing, with_stacks = await as_nobody(dumped)
    assert with_stacks == []
    assert set(missing.values()) == {"stacks: not permitted: this needs root or the user of the process"}
    assert len(missing) == 4
