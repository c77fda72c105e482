"""docs/first_site.md, copied and pasted into a shell, does what it says; once with the wheel that it installs."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from edge.demo.free_ports import free_port
from tests.support.processes.process_verbs import ROOT
from tests.support.site.page_blocks import Command, blocks, commands, missing_in

PAGE = ROOT / "docs" / "first_site.md"
PORTS = ("8080", "9001", "9002")
INSTALLATION = "1. Install"
MARK = "@@@ next command"


def script(ports: dict[str, str]) -> tuple[str, list[Command]]:
    """The page as a script, and its commands whose output is shown: each of them prints MARK before."""
    lines, shown = [], []
    for block in blocks(PAGE):
        assert block.language in ("bash", "console")
        if block.language == "bash":
            lines.append(block.text)
            continue
        for command in commands(block):
            shown.append(command)
            lines += [f"echo {MARK!r}", command.text, f"echo {MARK!r}"]
    text = "\n".join(lines)
    for port, free in ports.items():
        assert re.search(rf"\b{port}\b", text), f"{port} is not on the page"
        text = re.sub(rf"\b{port}\b", free, text)
    # The admin address is the default one, which another styx on this machine may have.
    return text.replace("\nstyx check\n", '\nsed -i "s/127.0.0.1:9901/$STYX_ADMIN/" styx.yaml\nstyx check\n'), shown


def run(text: str, folder: Path, environ: dict[str, str], patience: float = 280.0) -> str:
    """Run it as one shell, and end whatever it leaves."""
    shell = subprocess.Popen(
        ["bash", "-euc", text],
        cwd=folder,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "STYX_ADMIN": f"127.0.0.1:{free_port()}", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = shell.communicate(timeout=patience)
    finally:
        with contextlib.suppress(ProcessLookupError):  # nothing is left
            os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, output
    return output


def check(output: str, shown: list[Command]) -> None:
    parts = output.split(f"{MARK}\n")
    assert any(line == "styx.yaml: good" for line in parts[0].splitlines())
    assert len(parts) == 2 * len(shown) + 1
    for command, printed in zip(shown, parts[1::2], strict=True):
        assert missing_in(printed, command.prints) is None, f"{command.text}\n{printed}"


def free_ports() -> dict[str, str]:
    return {port: str(free_port()) for port in PORTS}


@pytest.mark.timeout(300)
def test_the_page_serves_a_site_with_this_checkout(tmp_path: Path) -> None:
    """All blocks but the installation, whose programs are those of this environment."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "styx").write_text(f'#!/bin/sh\nexec {sys.executable} -m edge "$@"\n')
    (programs / "styx").chmod(0o755)
    text, shown = script(free_ports())
    [installation] = [block.text for block in blocks(PAGE) if block.heading == INSTALLATION]
    output = run(
        text.replace(installation, ""),
        tmp_path,
        {"PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
    )
    check(output, shown)


@pytest.mark.long
@pytest.mark.timeout(500)
def test_the_page_installs_a_wheel_and_serves_a_site(tmp_path: Path) -> None:
    """Word for word. pip takes the wheel of this checkout from a directory; what it depends on is that of this
    environment."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("edge", "config", "docs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, source)
    wheels = tmp_path / "wheels"
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(wheels)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    text, shown = script(free_ports())
    environ = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_NO_DEPS": "1",
        # The environment on PYTHONPATH has styx, too, as a link to this checkout.
        "PIP_IGNORE_INSTALLED": "1",
        "PYTHONPATH": sysconfig.get_path("purelib"),
    }
    python = tmp_path / "programs"
    python.mkdir()
    (python / "python3").symlink_to(getattr(sys, "_base_executable", sys.executable))
    environ["PATH"] = f"{python}:/usr/local/bin:/usr/bin:/bin"
    check(run(text, tmp_path, environ, patience=450.0), shown)
