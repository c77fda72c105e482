"""Attacks of an unprivileged local user: no file changes, no command is executed, no process grows.

A styx is started as root with `user:`. Somebody who is `nobody` tries everything of `intruder_acts`; somebody who
has become the user of styx plants links in the directory of its routes, and root reloads, upgrades and restarts it.
Needs root.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench.hostile.intruder_acts import ActPlan
from bench.hostile.intruder_report import IntruderReport, Victims
from bench.lab.load_process import TIMEOUT
from bench.lab.plain_http import Broken, Connection
from bench.lab.procfs import KIB
from bench.lab.programs import BenchFailed
from bench.lab.servers import ROOT, spawn, until
from bench.operations.operate_scenes import USUAL
from bench.operations.operated_edge import Edge, operated, send
from bench.report import Fact
from bench.stubs.core_api_stub import CoreApiStub, Known
from bench.stubs.fixed_routes import backend_entry
from bench.stubs.site_containers import ANY_SITE, site_containers

UNPRIVILEGED, USER = "nobody", "daemon"
"Who tries, and who styx runs as: two users without rights that every Debian has."
HOST = "shop.test"
ADMIN_HOSTS = ("localhost", "127.0.0.1")
"Hostnames whose route leads to the admin address."
SAMPLING = 0.05
"Seconds between two looks at the memory of all processes."
ACT_TIMEOUT = 120.0
MEANWHILE = 3.0
"Seconds after the begin of an act, until all connections are open."
ADMIN_GOAL = 10.0
"Seconds."


@dataclass(frozen=True, kw_only=True, slots=True)
class IntruderPlan:
    """`seconds`: how long floods are held."""

    seconds: float = 10.0
    connections: int = 500


@dataclass
class Attack:
    """Where everything lies: open to all, but for what is in it."""

    base: Path
    edge: Edge
    core: CoreApiStub
    report: IntruderReport
    plan: IntruderPlan
    victims: Victims
    routes: Path
    "The directory of the routes."

    def act_plan(self, act: str, user: str = UNPRIVILEGED) -> ActPlan:
        return ActPlan(
            act=act,
            user=user,
            admin_port=self.edge.admin_port,
            port=self.edge.port,
            pids=list(self.edge.processes().values()),
            connections=self.plan.connections,
            seconds=self.plan.seconds,
            directory=str(self.routes),
            victims=list(map(str, self.victims.paths)),
        )

    async def act(self, act: str, user: str = UNPRIVILEGED) -> Counter[str]:
        """Have it done, and see how much the processes of styx grow meanwhile."""
        todo, result = self.base / f"{act}.json", self.base / f"{act}-result.json"
        todo.write_bytes(msgspec.json.encode(self.act_plan(act, user)))
        before = _resident(self.edge)
        child = spawn("bench.hostile.intruder_acts", self.base, todo, result)
        most = dict(before)
        try:
            async with asyncio.timeout(ACT_TIMEOUT):
                while not child.ended.is_set():
                    for title, size in _resident(self.edge).items():
                        most[title] = max(most.get(title, 0), size)
                    await asyncio.sleep(SAMPLING)
        except TimeoutError:
            raise BenchFailed(f"{act} did not end") from None
        finally:
            child.kill()
            await child.ended.wait()
        if user == UNPRIVILEGED:
            grown = {title: size - before[title] for title, size in most.items() if title in before}
            self.report.grown[act] = grown
        try:
            return Counter(msgspec.json.decode(result.read_bytes(), type=dict[str, int]))
        except (OSError, msgspec.DecodeError):
            raise BenchFailed(f"{act} failed: {child.last_words()}") from None

    def record(self, what: str, seen: object, goal: str = "", met: bool | None = None) -> None:
        self.report.facts.append(Fact(what, str(seen), goal, met))


async def run(plan: IntruderPlan) -> IntruderReport:
    """Raises BenchFailed."""
    if os.geteuid() != 0:
        raise BenchFailed("needs root, who can start styx with `user:` and become somebody without rights")
    report = IntruderReport()
    with tempfile.TemporaryDirectory(prefix="styx-intruder-") as name:
        base = Path(name)
        base.chmod(0o755)  # noqa: ASYNC240
        victims = Victims(base / "victims")
        async with _attack(base, 1, plan, report, victims) as attack:
            await _as_unprivileged(attack)
            await _with_links(attack)
        try:
            async with _attack(base, 2, plan, report, victims) as attack:
                attack.record("start by root, links planted", "it came up", "it comes up", True)
                await _check(attack)
        except BenchFailed as error:
            report.facts.append(Fact("start by root, links planted", str(error), "it comes up", False))
    return report


# as nobody


async def _as_unprivileged(attack: Attack) -> None:
    edge = attack.edge
    await _settled(attack)
    before, requested = edge.processes(), attack.core.lookups[HOST]
    edge.configure(timeouts={"keep_alive": "33s"})  # so a reload would have something to do
    _report_requests(attack, "over the admin address", await attack.act("requests"))
    _report_requests(attack, "over Unix sockets", await attack.act("unix_sockets"))
    signals = await attack.act("signals")
    done = {what: times for what, times in signals.items() if what.endswith(": done")}
    attack.record("signals, and files of the routes", _counted(done or signals), "none done", not done)
    await _nothing_happened(attack, before, requested)
    await edge.command("drain", "environment", "shop/live", "--end")  # what was done has to be undone
    await _settled(attack)
    before, requested = edge.processes(), attack.core.lookups[HOST]
    for act, what in (("control", "abstract sockets"), ("admin_connections", "admin address")):
        commanded = asyncio.create_task(_command_meanwhile(edge))
        seen = await attack.act(act)
        attack.record(f"{attack.plan.connections} connections to {what}", _counted(seen))
        code, output = await commanded
        attack.record("  a command of root meanwhile", output[-100:], "exit status 0", code == 0)
        took = await _admin_responses(edge)
        attack.record(
            "  the admin process responds afterwards",
            f"{took:.1f} s" if took else "not",
            f"<= {ADMIN_GOAL:g} s",
            bool(took),
        )
    await _nothing_happened(attack, before, requested)


async def _command_meanwhile(edge: Edge) -> tuple[int, str]:
    await asyncio.sleep(MEANWHILE)
    return await edge.command("invalidate", "hostname", "other.test")


async def _settled(attack: Attack) -> None:
    """The site is known to both workers, and nobody requests it any more."""
    requested = -1
    while requested != attack.core.lookups[HOST]:
        requested = attack.core.lookups[HOST]
        await _send_request(attack, HOST)
        await asyncio.sleep(1.0)


def _report_requests(attack: Attack, way: str, seen: Counter[str]) -> None:
    """Whoever got a status of success has acted."""
    acted = {what: times for what, times in seen.items() if re.search(r": (2..|422)$", what)}
    statuses: Counter[str] = Counter()
    for what, times in seen.items():
        statuses[what.rpartition(": ")[2]] += times
    counts = _counted(statuses)
    if acted:
        counts += f"; taken: {_counted(acted)}"
    attack.record(f"requests to act, {way}", counts, "none taken", not acted)


async def _nothing_happened(attack: Attack, before: dict[str, int], requested: int) -> None:
    edge = attack.edge
    changes: list[str] = []
    if edge.processes() != before:
        changes.append(f"processes: {before} -> {edge.processes()}")
    metrics = (await edge.request_admin("/metrics") or b"").decode()
    changes += [line for line in metrics.splitlines() if re.match(r"styx_(reloads|upgrades)_total\S* [1-9]", line)]
    drains = await edge.request_admin("/v1/drains")
    if drains is None or msgspec.json.decode(drains):
        changes.append(f"drains: {(drains or b'none counts').decode()[:200]}")
    await _send_request(attack, HOST)
    if attack.core.lookups[HOST] != requested:
        changes.append("routes were invalidated")
    attack.record(
        "  reloads, upgrades, drains, invalidations, restarts", "; ".join(changes) or "none", "none", not changes
    )


# with links of the user of styx


async def _with_links(attack: Attack) -> None:
    edge = attack.edge
    for label, what in (("reload", "reload"), ("reload that replaces workers", "reload"), ("upgrade", "upgrade")):
        if "replaces" in label:
            edge.configure(forwarding={"via_name": "changed"})
        await _plant(attack)
        code, output = await edge.command(what)
        attack.record(f"{label} by root, links planted", f"exit status {code}", "0", code == 0)
        if code:
            attack.record("  it printed", output[-300:])
        await _check(attack)
    await _plant(attack)
    send(edge.processes()["master"], signal.SIGTERM)
    if not await until(edge.subreaper.ended.is_set, TIMEOUT):
        raise BenchFailed("styx did not end")


async def _plant(attack: Attack) -> None:
    seen = await attack.act("plant", USER)
    if not seen["symbolic link: done"]:
        raise BenchFailed(f"no link could be planted: {_counted(seen)}")
    links = sum(times for what, times in seen.items() if what.startswith("hard link: done"))
    if links:
        attack.record("  hard links planted", links)


async def _check(attack: Attack) -> None:
    """The files of root are as they were, and styx serves."""
    changed = attack.victims.changed()
    attack.record("  files of root", "; ".join(changed) or "as before", "as before", not changed)
    attack.victims.restore()
    status = await _send_request(attack, HOST)
    attack.record("  a known site", status, "200", status == "200")


# what is seen


def _resident(edge: Edge) -> dict[str, int]:
    """Bytes of each process of styx that is not about to leave."""
    found = {}
    for title, pid in edge.processes().items():
        with suppress(OSError):
            size = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
            found[title] = int(size[1]) * KIB if size else 0
    return found


def _counted(seen: Mapping[str, int]) -> str:
    return ", ".join(f"{times} x {what}" for what, times in Counter(seen).most_common(8)) or "nothing"


async def _send_request(attack: Attack, host: str) -> str:
    """Status of a response; some are sent, so that both workers get one."""
    statuses = set()
    for _ in range(8):
        try:
            connection = await Connection.open(attack.edge.port)
            try:
                statuses.add(str((await connection.send_request(host, "GET /x/0", {})).status))
            finally:
                connection.close()
        except Broken as error:
            statuses.add(str(error))
    return ", ".join(sorted(statuses))


async def _admin_responses(edge: Edge) -> float | None:
    """Seconds until root gets a response from the admin process; None = not soon."""
    began = time.monotonic()
    while time.monotonic() - began < ADMIN_GOAL:
        if await edge.request_admin("/readyz") is not None:
            return time.monotonic() - began
        await asyncio.sleep(0.1)
    return None


# the stage


def _python() -> list[str]:
    """One whose library the user of styx may read, for modules are imported at all times. Raises BenchFailed."""
    packages = sysconfig.get_path("purelib")
    usual, other = [sys.executable], ["/usr/bin/env", f"PYTHONPATH={packages}", "/usr/bin/python3"]
    for python in (usual, other):
        if not subprocess.run([*python, "-c", AS_USER], cwd=ROOT, capture_output=True, check=False).returncode:
            return python
    raise BenchFailed(f"{USER} can read neither {sys.executable} with its library, nor {ROOT} and {packages}")


AS_USER = f"""
import os, pwd, sys
user = pwd.getpwnam({USER!r})
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
import edge.run.cli, encodings.idna, uvloop, wsgiref.headers
"""
"As it is for a worker: started by root, then somebody else. Nobody has imported what comes last."


@asynccontextmanager
async def _attack(
    base: Path, number: int, plan: IntruderPlan, report: IntruderReport, victims: Victims
) -> AsyncIterator[Attack]:
    directory, routes = base / f"run-{number}", base / "state"
    directory.mkdir()
    async with AsyncExitStack() as stack:
        _, ports = await stack.enter_async_context(site_containers({ANY_SITE: 2}, directory))
        leads_to = {HOST: ports[ANY_SITE]}

        def route_of(hostname: str) -> Known | None:
            counts = [backend_entry(f"c{n}", port, "srv-1") for n, port in enumerate(leads_to.get(hostname, []))]
            return Known(hostname.partition(".")[0], counts) if counts else None

        core = CoreApiStub(route_of, freshness="max-age=86400", delay=0.0)
        await stack.enter_async_context(core.running())
        settings: dict[str, Any] = USUAL | {
            "core_api": {"url": core.url},
            "user": USER,
            "routes": {"directory": str(routes)},
        }
        edge = await stack.enter_async_context(operated("styx", directory, settings, python=_python()))
        leads_to |= {host: [edge.admin_port] for host in ADMIN_HOSTS}
        yield Attack(base, edge, core, report, plan, victims, routes)
