"""The command `styx init`."""

import os
import shutil
import sys
from pathlib import Path

import click


@click.command(short_help="Write a configuration for this machine, and units.")
@click.option("--directory", help="Directory of the configuration.  [default: /etc/styx for root, else .]")
@click.option("--listen", help="Address for clients.  [default: 0.0.0.0:80 for root, else 127.0.0.1:8080]")
@click.option("--core-api", default="http://127.0.0.1:9900", show_default=True, help="URL of the core API.")
@click.option(
    "--systemd/--no-systemd", default=None, help="Write units, too.  [default: if this is root's systemd]"
)
@click.option("--root", default="/", show_default=True, help="Write below this directory, as for an image.")
def init(directory: str | None, listen: str | None, core_api: str, systemd: bool | None, root: str) -> None:
    """Write a commented configuration for this machine, and with systemd its unit, socket and user.

    No file is overwritten: if one exists, nothing is written, and the exit code is 1.
    """
    from edge.rules.settings.values import address
    from edge.run.installation.installed_files import InitPlan, existing, is_hidden, planned_files, write

    is_root = os.geteuid() == 0
    if systemd is None:
        systemd = is_root and Path("/run/systemd/system").is_dir()
    try:
        listens = address(listen or ("0.0.0.0:80" if is_root else "127.0.0.1:8080"))
    except ValueError as error:
        _fail(f"--listen {error}", 2)
    executable = _executable()
    plan = InitPlan(executable, directory or ("/etc/styx" if is_root else "."), listens, core_api, systemd)
    found, base = planned_files(plan), Path(root)
    _check(plan.core_api, found[0].text)
    if there := existing(found, base):
        _fail(f"nothing written, because there is already: {', '.join(there)}", 1)
    try:
        write(found, base, for_service=systemd)
    except OSError as error:
        _fail(f"cannot write {error.filename}: {error.strerror}", 1)
    for file in found:
        click.echo(f"written: {file.path}")
    if systemd and is_hidden(executable):
        click.echo(
            f"warning: the unit cannot see {executable}; install styx outside of home directories, such as in "
            "/opt/styx, and correct ExecStart",
            err=True,
        )
    click.echo("\nNext:\n" + "\n".join(f"  {line}" for line in _next_steps(found[0].path, systemd)))


def _next_steps(config: str, systemd: bool) -> list[str]:
    if systemd:
        return [
            "systemd-sysusers && systemd-tmpfiles --create",
            f"styx check -c {config}",
            "systemctl daemon-reload && systemctl enable --now styx.socket styx",
        ]
    return [f"styx check -c {config}", f"styx serve -c {config}"]


def _check(core_api: str, text: str) -> None:
    """Exit 2 if this text would be no configuration."""
    from edge.rules.settings.file import SettingsError, parse

    try:
        parse(text, name="styx.yaml", environ={})
    except SettingsError as error:
        _fail(f"--core-api {core_api}: {error.faults[0].words}", 2)


def _executable() -> str:
    """The absolute path of the command that runs now."""
    found = shutil.which(sys.argv[0]) or shutil.which("styx") or "styx"
    return os.path.abspath(found)


def _fail(words: str, code: int) -> None:
    click.echo(f"styx: {words}", err=True)
    sys.exit(code)
