"""The configurations of Traefik in the documentation, as Traefik itself takes them, and where it sends requests."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from edge.demo.free_ports import free_port
from tests.support.drawings import DOCS
from tests.support.processes.process_verbs import DEADLINE
from tests.support.site.page_blocks import blocks

TRAEFIK = shutil.which("traefik", path=str(Path(sys.executable).parent))
pytestmark = pytest.mark.skipif(TRAEFIK is None, reason="needs the extra: pip install -e '.[release]'")
OPTIONS = (
    "--api.insecure=true",
    "--global.checknewversion=false",
    "--global.sendanonymoususage=false",
    "--log.level=ERROR",
)
BLOCKS = [block.text for block in blocks(DOCS / "migrating.md") if block.language == "traefik"]


class Backend(BaseHTTPRequestHandler):
    """Responds with 204 to everything."""

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Traefik:
    """A running Traefik with one file of its file provider."""

    def __init__(self, web: int, api: int, log: Path) -> None:
        self._web, self._api, self._log = web, api, log

    def get(self, port: int, path: str, host: str) -> tuple[int, bytes]:
        """The status and body of a response; raises ConnectionRefusedError while it starts."""
        connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        connection.request("GET", path, headers={"Host": host})
        response = connection.getresponse()
        found = response.status, response.read()
        connection.close()
        return found

    def status(self, host: str) -> int:
        """The status of a request for this host."""
        return self.get(self._web, "/", host)[0]

    def await_routes(self, host: str) -> None:
        """Wait until this host is routed. Raises AssertionError with what Traefik says against its file."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline and not self._log.read_text():
            with suppress(ConnectionRefusedError):
                if self.status(host) != 404:
                    return
            time.sleep(0.05)  # it tells nobody that it has read a file
        raise AssertionError(self._log.read_text() or "no route")

    def statuses(self, kind: str) -> dict[str, str]:
        """What Traefik says of the routers or services of its file."""
        every: list[dict[str, Any]] = json.loads(self.get(self._api, f"/api/http/{kind}", "localhost")[1])
        return {each["name"]: each["status"] for each in every if each["provider"] == "file"}


@pytest.fixture
def traefik(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Traefik]:
    """Traefik with the text of the parameter, whose servers are one that responds with 204."""
    with ExitStack() as stack:
        backend = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Backend))
        Thread(target=backend.serve_forever, daemon=True).start()
        stack.callback(backend.shutdown)
        file, log = tmp_path / "routes.yaml", tmp_path / "log"
        file.write_text(re.sub(r"10\.[0-9.]+:\d+", f"127.0.0.1:{backend.server_port}", request.param))
        web, api = free_port(), free_port()
        addresses = (f"--entryPoints.web.address=127.0.0.1:{web}", f"--entryPoints.traefik.address=127.0.0.1:{api}")
        command = [str(TRAEFIK), f"--providers.file.filename={file}", *addresses, *OPTIONS]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=stack.enter_context(log.open("wb")))
        stack.callback(process.wait)
        stack.callback(process.kill)
        yield Traefik(web, api, log)


@pytest.mark.parametrize("traefik", BLOCKS, indirect=True)
def test_traefik_takes_the_page_s_configuration_and_routes_as_it_says(traefik: Traefik) -> None:
    traefik.await_routes("shop.example.org")
    assert traefik.statuses("routers") == {"shop@file": "enabled", "tenants@file": "enabled"}
    assert traefik.statuses("services") == {"shop@file": "enabled"}
    for host in ("shop.example.org", "www.shop.example.org", "one.shops.example.org"):
        assert traefik.status(host) == 204, host
    for host in ("shops.example.org", "a.b.shops.example.org", "example.org"):
        assert traefik.status(host) == 404, host


@pytest.mark.parametrize("traefik", [BLOCKS[0].replace("loadBalancer", "loadBalance")], indirect=True)
def test_a_mistake_would_be_noticed(traefik: Traefik) -> None:
    with pytest.raises(AssertionError, match="loadBalance"):
        traefik.await_routes("shop.example.org")
