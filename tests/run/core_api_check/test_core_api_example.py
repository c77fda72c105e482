"""The core API in docs/core_api.md is small, and `styx check-core-api` finds nothing wrong with it."""

import re
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edge.rules.core_api.contract_findings import Severity
from edge.rules.settings import CoreApiSettings
from edge.run.core_api_check.core_api_check import CheckPlan, checked_core_api

PAGE = (Path(__file__).parents[3] / "docs" / "core_api.md").read_text()
[EXAMPLE] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def url() -> Iterator[str]:
    """The example, served on a free port; its heartbeats do not outlive the test."""
    stopped = threading.Event()
    names: dict[str, Any] = {"__name__": "example"}
    exec(EXAMPLE, names)
    names["time"] = type("Clock", (), {"sleep": staticmethod(lambda seconds: stopped.wait(seconds))})
    handler = type("Quiet", (names["CoreApi"],), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        stopped.set()
        server.shutdown()
        thread.join()


def test_it_is_small_and_the_page_says_how_it_is_checked() -> None:
    lines = [line for line in EXAMPLE.splitlines() if line]
    assert len(lines) <= 36
    assert "styx check-core-api http://127.0.0.1:9900 www.example.org" in PAGE


async def test_there_is_nothing_wrong_with_it(url: str) -> None:
    settings = CoreApiSettings(url=url, timeout=20.0, concurrency=16)
    plan = CheckPlan(settings, ["www.example.org"], wait=0.5, quiet=0.05)
    found = [finding async for finding in checked_core_api(plan)]
    wrong = [
        each for each in found if each.severity in (Severity.FAULT, Severity.WARNING) and each.check != "latency"
    ]
    assert wrong == []
    assert {"not_modified", "changes_gap", "changes_resume"} <= {each.check for each in found}
