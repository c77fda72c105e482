"""`styx support-dump`: one archive with everything that is needed to diagnose an edge.

It asks the admin API, and reads /proc: parts of the edge may be dead or stuck. What is missing, and why, is in
`manifest.json`. No secrets: settings are those of `styx config show`; there is no environment, command line, access
log or file of the machine in it. Hostnames, and addresses of clients in events, are.
"""

import io
import json
import os
import platform
import re
import tarfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import IO, Final, NamedTuple

import msgspec

from edge import BUILD, __version__
from edge.run.admin_client import AdminEndpoint, AdminFailed, ask
from edge.run.processes.process_reports import of_one_edge, report, styx_processes

MOST_PART, MOST_TOTAL = 4 << 20, 32 << 20
"Bytes of one part, and of all together, before compression. What is longer is cut off."
MOST_PROCESSES: Final = 200
API_PARTS: Final = (
    ("overview.json", "/v1/overview"),
    ("version.json", "/v1/version"),
    ("status.json", "/v1/status"),
    ("config.json", "/v1/config"),
    ("drains.json", "/v1/drains"),
    ("log-level.json", "/v1/log-level"),
    ("routes.json", "/v1/routes?limit=1000"),
    ("ready.txt", "/readyz"),
    ("metrics.txt", "/metrics"),
)
"Names in the archive, and paths of the admin API."
SYSTEM_FILES: Final = (
    "/proc/loadavg",
    "/proc/uptime",
    "/proc/meminfo",
    "/proc/net/sockstat",
    "/proc/net/sockstat6",
    "/proc/sys/fs/file-nr",
    "/proc/pressure/cpu",
    "/proc/pressure/memory",
    "/sys/fs/cgroup/cpu.max",
    "/sys/fs/cgroup/cpu.stat",
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory.current",
)


class DumpPart(NamedTuple):
    """One file of the archive."""

    name: str
    content: str
    missing: str = ""
    "What is missing in it, and why; empty = nothing."


class Manifest(msgspec.Struct):
    """The `manifest.json` of an archive."""

    created: str
    "UTC, ISO 8601."
    admin: str
    styx: str
    parts: dict[str, int]
    "Bytes of each file."
    missing: dict[str, str]
    "Why a file, or a part of it, is missing."


def write_dump(target: AdminEndpoint, out: IO[bytes], now: float) -> Manifest:
    """Write the archive, a compressed tar file. `now`: seconds since the epoch."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    manifest = Manifest(created, target.name, f"{__version__} ({BUILD})", {}, {})
    left = MOST_TOTAL
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for part in _parts(target):
            data = part.content.encode(errors="replace")
            most = min(MOST_PART, left)
            if part.missing:
                manifest.missing[part.name] = part.missing
            if len(data) > most:
                manifest.missing[part.name] = f"cut off after {most} of {len(data)} bytes"
                data = data[:most]
            left -= len(data)
            manifest.parts[part.name] = len(data)
            _add(archive, part.name, data, now)
        _add(archive, "manifest.json", msgspec.json.format(msgspec.json.encode(manifest)), now)
    return manifest


def _add(archive: tarfile.TarFile, name: str, data: bytes, now: float) -> None:
    entry = tarfile.TarInfo(f"styx-support/{name}")
    entry.size, entry.mtime, entry.mode = len(data), int(now), 0o600
    archive.addfile(entry, io.BytesIO(data))


def _parts(target: AdminEndpoint) -> Iterator[DumpPart]:
    yield DumpPart("system.txt", _system())
    yield DumpPart("packages.txt", _packages())
    member, silent = 0, ""
    for name, path in API_PARTS:
        part = DumpPart(f"api/{name}", "", silent) if silent else _from_api(target, name, path)
        if part.missing and not part.content:
            silent = part.missing  # it would be the same for each, after a timeout each
        elif name == "overview.json":
            member, part = _member_of(part)
        yield part
    yield from _of_processes(member)


def _from_api(target: AdminEndpoint, name: str, path: str) -> DumpPart:
    try:
        status, body = ask(target, path)
    except AdminFailed as error:
        return DumpPart(f"api/{name}", "", str(error))
    is_answered = status == 200 or path == "/readyz"
    return DumpPart(f"api/{name}", body or f"status {status}", "" if is_answered else f"status {status}")


def _member_of(part: DumpPart) -> tuple[int, DumpPart]:
    """The id of one process of the edge that replied, 0 = unknown; and the part, with the workers that did not."""
    try:
        overview = json.loads(part.content)
        pids = [int(reply["pid"]) for reply in overview["workers"]]
        silent = ", ".join(map(str, overview["silent"]))
    except (ValueError, TypeError, LookupError):
        return 0, part._replace(missing="it is no response of styx")
    return (pids[0] if pids else 0), part._replace(missing=f"no reply from workers {silent}" if silent else "")


def _of_processes(member: int) -> Iterator[DumpPart]:
    """A report of each process of the edge with this process; of all on this machine, if it is not known."""
    everywhere = styx_processes()
    processes = of_one_edge(everywhere, member) or everywhere
    if not processes:
        yield DumpPart("processes", "", "there is no process of styx on this machine, or not in this container")
    for process in processes[:MOST_PROCESSES]:
        text, missing = report(process)
        name = f"processes/{process.pid}-{process.title.replace(' ', '-')}.txt"
        yield DumpPart(name, text, f"stacks: {missing}" if missing else "")


def _system() -> str:
    lines = [
        f"{name}: {value}"
        for name, value in (
            ("system", " ".join(os.uname())),
            ("distribution", _of_release("PRETTY_NAME")),
            ("python", platform.python_version()),
            ("processors", f"{os.cpu_count()}, of which {len(os.sched_getaffinity(0))} may be used"),
            ("time", time.strftime("%Y-%m-%dT%H:%M:%S%z")),
        )
    ]
    return "\n".join([*lines, *(f"\n== {path}\n{_file(path)}" for path in SYSTEM_FILES)]) + "\n"


def _of_release(key: str) -> str:
    try:
        return platform.freedesktop_os_release().get(key, "")
    except OSError:
        return ""


def _file(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")[:20_000].rstrip()
    except OSError as error:
        return f"(missing: {error.strerror})"


def _packages() -> str:
    """The versions of the packages that styx needs."""
    lines = [f"styx-edge {__version__} ({BUILD})"]
    try:
        wanted = [each for each in requires("styx-edge") or () if "extra == 'dev'" not in each]
    except PackageNotFoundError:
        wanted = []
    for name in sorted({re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in wanted}):
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            lines.append(f"{name} is not installed")
    return "\n".join(lines) + "\n"
