"""The first page of docs/install.md, copied and pasted, serves a site, also with limits of the unit."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge.demo.free_ports import free_port
from edge.demo.script_client import ScriptClient
from edge.demo.styx_process import StyxProcess
from tests.support.processes.process_verbs import ROOT

PAGE = (ROOT / "docs" / "install.md").read_text()
[FIRST_SITE] = re.findall(r"## A first site\n+```\n(.*?)```", PAGE, re.DOTALL)

LIMITED = """
import ctypes, os, sys
REFUSE_EXEC_GAIN, PR_SET_MDWE, PR_SET_NO_NEW_PRIVS = 1, 65, 38
libc = ctypes.CDLL(None, use_errno=True)
for option in (PR_SET_NO_NEW_PRIVS, PR_SET_MDWE):
    if libc.prctl(option, 1, 0, 0, 0):
        sys.exit(f"prctl {option}: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[1], sys.argv[1:])
"""
"As MemoryDenyWriteExecute= and NoNewPrivileges= of the unit, by prctl(2); Linux 6.3."


class _Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *arguments: object) -> None:
        return


@pytest.fixture
def site() -> Iterator[int]:
    """The port of a small server, as `python3 -m http.server`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Site) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def configuration(tmp_path: Path, site: int) -> str:
    """What the commands of the first page have written; with free ports, and the styx of this checkout."""
    *commands, last = [line for line in FIRST_SITE.splitlines() if "venv" not in line and "pip" not in line]
    assert last == "/opt/styx/bin/styx serve"
    script = "\n".join(commands).replace("/opt/styx/bin/styx", f"{sys.executable} -m edge")
    for port, free in (("8080", free_port()), ("9000", site)):
        assert port in script
        script = script.replace(port, str(free))
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        ["sh", "-euc", script], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "styx.yaml: good"
    return (tmp_path / "styx.yaml").read_text().replace("127.0.0.1:9901", f"127.0.0.1:{free_port()}")


@pytest.fixture
def limits() -> tuple[str, ...]:
    """The command that starts styx with two limits of the unit; none where Linux is older than 6.3."""
    command = (sys.executable, "-c", LIMITED)
    ran = subprocess.run([*command, "/bin/true"], capture_output=True, check=False)
    return command if ran.returncode == 0 else ()


async def test_the_first_page_serves_a_site(configuration: str, limits: tuple[str, ...]) -> None:
    """With the limits of the unit: no memory is writable and executable, no rights are gained."""
    text = configuration + "workers: 1\ndrain: {delay: 0s}\n"
    async with StyxProcess(text, within=limits) as styx, ScriptClient(styx.port) as client:
        response = await client.ask("www.localhost")
        assert (response.status, response.body) == (200, b"hello")
