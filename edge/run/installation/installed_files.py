"""The files that `styx init` writes: made from templates, for the machine it runs on; nothing is overwritten."""

import os
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple

from edge.rules.settings.reference import render as rendered_reference
from edge.rules.settings.schema.json_schema import rendered_schema
from edge.rules.settings.values import Address

UNITS: Final = "/etc/systemd/system"
HIDDEN: Final = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")
"Directories that the unit cannot see (ProtectHome, PrivateTmp)."


class InitPlan(NamedTuple):
    """The machine that the files are written for."""

    executable: str
    "Absolute path of the command."
    directory: str
    "Of the configuration, as the running styx sees it."
    listen: Address
    core_api: str
    systemd: bool


class InstalledFile(NamedTuple):
    """One file to write."""

    path: str
    text: str


def planned_files(plan: InitPlan) -> list[InstalledFile]:
    """The files of this plan, in the order in which they are written."""
    directory = plan.directory.rstrip("/")
    config = f"{directory}/styx.yaml"
    found = [
        InstalledFile(config, _filled("styx.yaml", LISTEN=str(plan.listen), CORE_API=plan.core_api)),
        InstalledFile(f"{directory}/styx.reference.yaml", rendered_reference()),
        InstalledFile(f"{directory}/styx.schema.json", rendered_schema()),
    ]
    if plan.systemd:
        service = _filled("styx.service", STYX=plan.executable, CONFIG=config)
        found += [
            InstalledFile(f"{UNITS}/styx.service", service),
            InstalledFile(f"{UNITS}/styx.socket", _filled("styx.socket", LISTEN=stream_of(plan.listen))),
            InstalledFile("/etc/sysusers.d/styx.conf", _filled("styx.sysusers")),
            InstalledFile("/etc/tmpfiles.d/styx.conf", _filled("styx.tmpfiles")),
        ]
    return found


def stream_of(listen: Address) -> str:
    """An address as systemd writes it (ListenStream=)."""
    return listen.path or (str(listen) if listen.host else f"[::]:{listen.port}")


def is_hidden(executable: str) -> bool:
    """Whether the unit could not start this executable, because it cannot see it."""
    return executable.startswith(HIDDEN)


def existing(found: list[InstalledFile], root: Path) -> list[str]:
    """Those of these files that exist already below `root`, dangling links included."""
    return [file.path for file in found if os.path.lexists(below(root, file.path))]


def write(found: list[InstalledFile], root: Path, *, for_service: bool = False) -> None:
    """Write the files below `root`, with the directories that are missing. Raises OSError, also rather than
    overwriting one.

    `for_service`: whatever the umask, others may read them, because the user of the service must; systemd-tmpfiles
    closes /etc/styx itself.
    """
    for file in found:
        path = below(root, file.path)
        missing = [each for each in (path.parent, *path.parent.parents) if not each.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(file.text)
            if for_service:
                os.fchmod(stream.fileno(), 0o644)
        if for_service:
            for each in missing:
                each.chmod(0o755)


def below(root: Path, path: str) -> Path:
    """The path of a file on this machine, when the root of the plan is `root`."""
    return root / path.lstrip("/") if path.startswith("/") else Path(path)


def _filled(name: str, **values: str) -> str:
    text = (files("edge.run.installation") / "templates" / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text
