"""`styx demo` and `styx core-api` as a user runs them: screen, browser and Ctrl-C."""

import asyncio
import contextlib
import os
import re
import shutil
import signal

import aiohttp
import pytest
import yaml

from edge.demo.demo import CONFIG
from edge.demo.free_ports import free_port
from tests.support.processes.process_verbs import COMMAND, ROOT, is_alive

CHROMIUM = shutil.which("chromium")
PAGE = r"(http://127\.0\.0\.1:\d+/)  the platform under a load"

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--dump-dom",
)


class Shown:
    """A running command and its output so far."""

    def __init__(self, process):
        self.process = process
        self.text = ""

    async def until_shown(self, words):
        async with asyncio.timeout(100):
            while words not in self.text:
                line = await self.process.stdout.readline()
                assert line, f"it ended without printing {words!r}:\n{self.text}"
                self.text += line.decode()

    async def to_the_end(self):
        """Read the rest of the output; returns the exit status."""
        async with asyncio.timeout(100):
            self.text += (await self.process.stdout.read()).decode()
            return await self.process.wait()

    def found(self, pattern):
        return re.search(pattern, self.text)[1]


@pytest.fixture
async def show():
    """show("demo", "--port", "0") -> Shown, a command in the background."""
    running = []

    async def shown(*args):
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *args, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=ROOT
        )
        running.append(process)
        return Shown(process)

    yield shown
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(100):
            await process.communicate()


@pytest.fixture
async def demo(show):
    """`styx demo`, with its screen up."""
    shown = await show("demo", "--port", "0")
    await shown.until_shown("Ctrl-C ends")
    return shown


def pid_of_styx(demo):
    return int(demo.found(r"styx is process (\d+)"))


@pytest.mark.skipif(CHROMIUM is None, reason="a real browser needs the Debian package chromium")
async def test_a_browser_opens_the_page(demo, tmp_path):
    url = demo.found(r"(http://live-acme\.localhost:\d+/)")
    browser = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={tmp_path}/profile",
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "HOME": str(tmp_path)},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(60):
            page, _ = await browser.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(browser.pid, signal.SIGKILL)
        await browser.wait()
    assert "<h1>live-acme</h1>" in page.decode()
    container = demo.found(r"live-acme\.localhost:\d+/ +one container: (\w+)")
    assert f"<b>{container}</b>" in page.decode()


async def test_the_commands_on_the_screen_work(demo, run):
    """The page and the three sites respond, and its curl lines and styx lines work."""
    async with aiohttp.ClientSession() as http:
        async with http.get(demo.found(PAGE)) as response:
            assert "<title>styx demo</title>" in await response.text()
        for site in ("acme", "globex", "initech"):
            port = demo.found(rf"http://live-{site}\.localhost:(\d+)/")
            async with http.get(
                f"http://127.0.0.1:{port}/", headers={"Host": f"live-{site}.localhost"}
            ) as response:
                assert response.status == 200
                assert f"<h1>live-{site}</h1>" in await response.text()
        lines = re.findall(r"curl -X (POST|PATCH) (http\S+)(?: -d '(.*)')?", demo.text)
        assert len(lines) == 7
        for method, url, body in lines:
            async with http.request(method, url, data=body or None) as response:
                assert response.status in (200, 201, 202), f"{method} {url} {body}: {await response.text()}"
    admin = demo.found(r"Status page, health, metrics: +http://(\S+)/")
    explained = await run("explain", "live-globex.localhost", "--admin", admin)
    assert explained.code == 0
    assert demo.found(r"five: (\w+)") in explained.out


@pytest.fixture
async def demo_over_tls(show):
    """`styx demo --tls`, with its screen up."""
    shown = await show("demo", "--tls", "--port", "0")
    await shown.until_shown("Ctrl-C ends")
    return shown


async def curl(*options: str) -> str:
    """What curl prints: the body, the status and the version of HTTP."""
    process = await asyncio.create_subprocess_exec(
        *(
            "curl",
            "-sS",
            "--noproxy",
            "*",
            "--max-time",
            "20",
            "-w",
            " %{http_code} HTTP/%{http_version}",
            *options,
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    return printed.decode()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs the Debian package curl")
async def test_https_with_an_authority_of_the_demo(demo_over_tls, run):
    demo = demo_over_tls
    option, ca, globex = demo.found(r"container's id: +curl -s (--cacert \S+ https://\S+)").split()
    for site in ("acme", "globex", "initech"):
        url = demo.found(rf"(https://live-{site}\.localhost:\d+/)")
        printed = await curl(option, ca, url)
        assert f"<h1>live-{site}</h1>" in printed
        assert printed.endswith(" 200 HTTP/2")
    assert (await curl(option, ca, "--http1.1", globex)).endswith(" 200 HTTP/1.1")
    assert "unable to get local issuer certificate" in await curl(globex), "nobody else has signed it"
    redirected = await curl("-L", option, ca, demo.found(r"HTTPS and HTTP/2; (http://\S+) is redirected"))
    assert "<h1>live-acme</h1>" in redirected
    admin = demo.found(r"Status page, health, metrics: +http://(\S+)/")
    explained = await run("explain", "live-globex.localhost", "--admin", admin)
    assert "certificate of live-globex.localhost" in explained.out
    await demo_ends(demo)
    assert not await asyncio.to_thread(os.path.exists, ca)


async def demo_ends(demo):
    demo.process.send_signal(signal.SIGTERM)
    assert await demo.to_the_end() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_everything(demo, until, number):
    """While somebody looks at its page, and its load runs."""
    async with aiohttp.ClientSession() as http, http.get(demo.found(PAGE) + "v1/demo/stream") as stream:
        assert await stream.content.readline() == b"event: history\n"
        demo.process.send_signal(number)
        assert await demo.to_the_end() == 0
    assert demo.text.endswith("Stopping.\n")
    assert not is_alive(pid_of_styx(demo))


async def test_a_styx_that_dies_is_reported(demo):
    os.kill(pid_of_styx(demo), signal.SIGKILL)
    assert await demo.to_the_end() == 1
    assert "styx: it ended by itself, with exit status -9" in demo.text


async def test_taken_ports(run, taken_port):
    ran = await run("demo", "--port", taken_port)
    words = f"styx: port {taken_port} of 127.0.0.1 is taken: choose another one with --port\n"
    assert (ran.code, ran.out, ran.err) == (1, "", words)
    ran = await run("core-api", "--address", f"127.0.0.1:{taken_port}")
    words = f"styx: port {taken_port} of 127.0.0.1 is taken: choose another one with --address\n"
    assert (ran.code, ran.out, ran.err) == (1, "", words)


async def test_a_platform_alone(show, tmp_path):
    port = free_port()
    for sites in ("none yet", "live-acme"):
        shown = await show("core-api", "--address", f"127.0.0.1:{port}", "--db", str(tmp_path / "platform.db"))
        await shown.until_shown("Ctrl-C ends")
        assert f"Sites: {sites}." in shown.text
        if sites == "none yet":
            url, body = re.search(r"curl -X POST (http\S+) -d '(.*)'", shown.text).groups()
            async with aiohttp.ClientSession() as http, http.post(url, data=body) as response:
                assert response.status == 201
        shown.process.send_signal(signal.SIGTERM)
        assert await shown.to_the_end() == 0


def test_config_demo_yaml_equals_the_configuration_of_the_demo():
    file = re.sub(r":-[^}]*\}", "}", (ROOT / "config" / "demo.yaml").read_text())
    assert yaml.safe_load(file) == yaml.safe_load(CONFIG)
