"""docs/incidents.md says what the commands say: each of its stories is played, and its outputs are compared.

One edge before one platform for all stories; each leaves it as it found it. Numbers, times and ids differ.
"""

import asyncio
import datetime
import os
import re
import signal
import ssl
from pathlib import Path

import pytest
import pytest_asyncio
from click.testing import CliRunner

from edge.demo.free_ports import free_port
from edge.demo.script_client import ScriptClient
from edge.demo.styx_process import StyxProcess
from edge.platform.pocket_platform import PlatformSpec, PocketPlatform
from edge.run.cli import main
from tests.support.processes.edges import Kept, told
from tests.support.processes.process_verbs import DEADLINE, ROOT
from tests.support.tls_parts import ca

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = (ROOT / "docs" / "incidents.md").read_text()
CONFIG = """\
listeners: [{{address: "127.0.0.1:{port}"}}, {{address: "127.0.0.1:{tls}", tls: true}}]
core_api: {{url: "{core_api}", timeout: 1s}}
admin: {{address: "127.0.0.1:{admin}"}}
tls: {{certificates: "file:{certificates}"}}
limits: {{unknown_hosts_per_client: 1}}
workers: 1
watchdog: 1s
access_log: {{path: ""}}
drain: {{delay: 0s}}
"""
ACME, SHOP = "live-acme.localhost", "live-shop.localhost"
DAY = datetime.timedelta(days=1)
VARYING = [
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r"file:\S+|/(etc|tmp)/\S*?certificates"), "DIRECTORY"),
    (re.compile(r"\d\d:\d\d:\d\d"), "CLOCK"),
    (re.compile(r"\b\d+(\.\d+)? (d|h|min|s|ms)( \d+ (h|min|s))?\b"), "TIME"),
    (re.compile(r"\bonce\b|\b\d+ times\b"), "TIMES"),
    (re.compile(r"\b[0-9a-f]{4}(?= srv-)"), "ID"),
    (re.compile(r"\d+(\.\d+)?"), "#"),
]


def normal(text: str) -> str:
    """A line without what differs from one run to the next."""
    for pattern, instead in VARYING:
        text = pattern.sub(instead, text)
    return text.strip()


def stories() -> dict[str, list[tuple[str, list[str]]]]:
    """The commands of each story with the lines of their outputs, by heading."""
    found = {}
    for section in PAGE.split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        commands: list[tuple[str, list[str]]] = []
        for block in re.findall(r"```console\n(.*?)```", body, re.DOTALL):
            for line in block.splitlines():
                if line.startswith("$ styx "):
                    commands.append((line.removeprefix("$ styx "), []))
                else:
                    commands[-1][1].append(line)
        if commands:
            found[heading] = commands
    return found


STORIES = stories()


def missing_in(output: str, lines: list[str]) -> str | None:
    """The first of these lines that does not follow in the output; … = anything."""
    rest = iter([normal(line) for line in output.splitlines()])
    for line in lines:
        beginning, dots, end = line.partition("…")
        if dots and not beginning.strip() and not end:
            continue
        first, last = normal(beginning), normal(end)
        if not any(each.startswith(first) and each.endswith(last) if dots else each == first for each in rest):
            return line
    return None


async def test_lines_are_compared() -> None:
    output = "a  12 s ago\nb 3 times: x\n"
    assert missing_in(output, ["a 5 min ago", "b once: …"]) is None
    assert missing_in(output, ["…", "b 2 times: x"]) is None
    assert missing_in(output, ["b 2 times"]) == "b 2 times"
    assert missing_in(output, ["b once: x", "a 5 s ago"]) == "a 5 s ago"


class Incident:
    """The edge, its platform and a client."""

    def __init__(self, platform: PocketPlatform, styx: StyxProcess, client: ScriptClient, tls_port: int) -> None:
        self.platform, self.styx, self.client, self.tls_port = platform, styx, client, tls_port

    async def styx_says(self, command: str) -> str:
        words = [*command.split(), "--admin", str(self.styx.settings.admin.address)]
        ran = await asyncio.to_thread(CliRunner().invoke, main, words)  # the platform is in this loop
        return ran.output

    async def status(self, host: str) -> int:
        return (await self.client.ask(host)).status

    async def is_told(self, story: str) -> None:
        """Each command of this story says what the page says, at the latest after a while: events take a moment."""
        for command, lines in STORIES[story]:
            give_up, output = asyncio.get_running_loop().time() + DEADLINE / 3, await self.styx_says(command)
            while missing_in(output, lines) is not None and asyncio.get_running_loop().time() < give_up:
                await asyncio.sleep(0.05)
                output = await self.styx_says(command)
            missing = missing_in(output, lines)
            assert missing is None, f"styx {command}: {missing!r} is not in\n{output}"

    async def until_top_says(self, words: str) -> None:
        async with asyncio.timeout(DEADLINE):
            while words not in await self.styx_says("top --once"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


def certificates(directory: Path) -> None:
    """One that has expired, and one that has not."""
    now = datetime.datetime.now(datetime.UTC)
    for host, end in ((SHOP, now - 2 * DAY), (ACME, now + 20.5 * DAY)):
        issued = ca().issue_cert(host, not_before=now - 90 * DAY, not_after=end)
        pem = b"".join(blob.bytes() for blob in (*issued.cert_chain_pems, issued.private_key_pem))
        (directory / f"{host}.pem").write_bytes(pem)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def incident(tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("incidents") / "certificates"
    directory.mkdir()
    certificates(directory)
    async with PocketPlatform(PlatformSpec(notice=0.02, seed=7)) as platform:
        await platform.create_environment("acme", service_time=0.01, containers=3)
        await platform.create_environment("shop", service_time=0)
        await platform.create_environment("books", service_time=0)
        tls, core_api = free_port(), platform.core_api_url
        config = CONFIG.format(
            port=free_port(), tls=tls, admin=free_port(), core_api=core_api, certificates=directory
        )
        async with StyxProcess(config) as styx, ScriptClient(styx.port) as client:
            await styx.workers()
            played = Incident(platform, styx, client, tls)
            assert await played.status(ACME) == 200
            yield played


async def test_site_unknown(incident: Incident) -> None:
    assert await incident.status("live-amce.localhost") == 404
    await incident.is_told("Site unknown")


async def test_core_api_down(incident: Incident) -> None:
    await incident.platform.stop_core_api()
    try:
        assert await incident.status("live-books.localhost") == 503
        await incident.is_told("Core API down")
        assert await incident.status(ACME) == 200
        await incident.until_top_says("core API fails")
    finally:
        await incident.platform.start_core_api()
    assert await incident.status("live-books.localhost") == 200


async def moved(incident: Incident) -> None:
    """The container of the shop is somewhere else, and nobody has told."""
    assert await incident.status(SHOP) == 200
    [container] = incident.platform.containers("shop")
    await incident.platform.move(container.spec.id, announce=False)


async def test_wrong_generation(incident: Incident) -> None:
    await moved(incident)
    incident.platform.registry._db.execute("UPDATE environments SET generation = 5 WHERE site = 'shop'")
    assert await incident.status(SHOP) == 502
    await incident.is_told("Wrong generation")
    assert await incident.status(SHOP) == 200


async def test_route_moved(incident: Incident) -> None:
    await moved(incident)
    assert await incident.status(SHOP) == 200
    await incident.is_told("Route moved")


async def test_one_container_slow(incident: Incident) -> None:
    slow = incident.platform.containers("acme")[0]
    slow.slow(40)
    for _ in range(15):
        await asyncio.gather(*(incident.status(ACME) for _ in range(3)))
    await incident.is_told("One container slow")
    slow.slow(1)


async def test_all_full(incident: Incident) -> None:
    containers = incident.platform.containers("acme")
    for each in containers:
        each.fill(on=True)
    assert await incident.status(ACME) == 503
    await incident.is_told("All full")
    for each in containers:
        each.fill(on=False)


async def test_drained_and_forgotten(incident: Incident) -> None:
    await incident.styx_says("drain environment acme/live --for 2h")
    assert await incident.status(ACME) == 503
    await incident.is_told("Drained and forgotten")
    assert await incident.status(ACME) == 200


async def test_certificate_expired(incident: Incident) -> None:
    context = ssl.create_default_context()
    ca().configure_trust(context)
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        await asyncio.open_connection("127.0.0.1", incident.tls_port, ssl=context, server_hostname=SHOP)
    assert await incident.status(SHOP) == 200
    await incident.is_told("Certificate expired")


async def test_client_attack(incident: Incident, until) -> None:
    statuses = {await incident.status(f"made-up-{number}.localhost") for number in range(30)}
    assert statuses == {404, 429}
    await incident.is_told("Client attack")
    async with Kept(incident.styx.port) as kept:
        assert (await kept.ask(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    await until(lambda: told(incident.styx, "request_rejected") != [])
    [rejected] = told(incident.styx, "request_rejected")
    assert (rejected["client"], rejected["cause"]) == ("127.0.0.1", "bad_request")
    await incident.styx_says("log-level --end")


async def test_worker_stuck(incident: Incident) -> None:
    [worker] = await incident.styx.workers()
    os.kill(worker, signal.SIGSTOP)
    await incident.is_told("Worker stuck")
    assert await incident.status(SHOP) == 200


async def test_every_story_is_played() -> None:
    played = {name.removeprefix("test_").replace("_", " ") for name in globals() if name.startswith("test_")}
    assert {heading.lower() for heading in STORIES} <= played
    assert len(STORIES) == 10
