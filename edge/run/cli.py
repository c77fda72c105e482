"""The command `styx`. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

Imports are made inside the commands: `styx healthcheck` runs every few seconds in a container.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from edge import __version__

if TYPE_CHECKING:
    from edge.platform.containers import Make
    from edge.rules.settings import Address, Settings

CONFIG = click.option(
    "-c",
    "--config",
    type=click.Path(dir_okay=False),
    envvar="STYX_CONFIG",
    default="config/styx.yaml",
    show_default=True,
    help="Configuration file.",
)
ADMIN = click.option(
    "--admin",
    default="127.0.0.1:9901",
    envvar="STYX_ADMIN",
    show_default=True,
    help="Admin address: host:port or unix:/path.",
)
TOKEN = click.option(
    "--token-file", type=click.Path(dir_okay=False), envvar="STYX_TOKEN_FILE", help="File with the admin token."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="styx")
def main() -> None:
    """styx, an HTTP edge load balancer: requests find their containers."""


@main.command()
@CONFIG
def serve(config: str) -> None:
    """Serve clients until told to stop."""
    import uvloop

    from edge.run import event_log
    from edge.run.serve import CannotServe
    from edge.run.serve import serve as run

    settings = load(config)
    event_log.configure(settings.log)
    try:
        uvloop.run(run(settings))
    except CannotServe as error:
        fail(f"styx: {error}", 1)


@main.command()
@CONFIG
def check(config: str) -> None:
    """Check a configuration file: exit 0 if it is good, 2 with every fault if it is not."""
    load(config)
    click.echo(f"{config}: good")


@main.command()
@ADMIN
def healthcheck(admin: str) -> None:
    """Ask a running styx whether it takes requests: exit 0 if it does, 1 if not."""
    status, body = ask(admin, "/readyz")
    click.echo(body.strip())
    if status != 200:
        sys.exit(1)


@main.command()
@click.argument("host")
@ADMIN
@TOKEN
@click.option("--json", "as_json", is_flag=True, help="Print what the admin API says.")
def explain(host: str, admin: str, token_file: str | None, as_json: bool) -> None:
    """Tell all that a running styx knows of a hostname, and who would get its next request."""
    import msgspec

    from edge.admin.explain_table import render
    from edge.rules.snapshots import ExplainedRoute

    status, body = ask(admin, f"/v1/routes/{host}/explain", token_file)
    if status != 200:
        detail = msgspec.json.decode(body).get("detail", body) if body.startswith("{") else body
        fail(f"styx: {detail}", 1)
    click.echo(body if as_json else render(msgspec.json.decode(body, type=ExplainedRoute)))


@main.command("core-api")
@click.option("--address", default="127.0.0.1:9900", show_default=True, help="Where it listens.")
@click.option("--db", default=":memory:", show_default=True, help="SQLite file of sites and containers.")
@click.option("--containers", "make", type=click.Choice(["builtin", "nginx"]), default="builtin", show_default=True)
def core_api(address: str, db: str, make: "Make") -> None:
    """Run a pocket hosting platform: a core API, and containers on this machine."""
    import uvloop

    from edge.rules.settings import LogSettings
    from edge.run import event_log
    from edge.run.demo import run_platform

    event_log.configure(LogSettings(format="console"))
    where = _address(address)
    sys.exit(uvloop.run(run_platform(where.host or "0.0.0.0", where.port, db, make)))


@main.command()
@click.option("--once", is_flag=True, help="Play the story, print what happened, exit 0 or 1.")
@click.option("--containers", "make", type=click.Choice(["builtin", "nginx"]), default="builtin", show_default=True)
@click.option("--port", default=8080, show_default=True, help="Where styx listens (127.0.0.1).")
def demo(once: bool, make: "Make", port: int) -> None:
    """Run styx in front of a pocket platform with three sites."""
    import uvloop

    from edge.rules.settings import LogSettings
    from edge.run import event_log
    from edge.run.demo import run_demo
    from edge.run.story import run_story

    event_log.configure(LogSettings(format="console", level="warning"))
    sys.exit(uvloop.run(run_story(make) if once else run_demo(make, port)))


def load(path: str) -> "Settings":
    """Settings from a file, or exit 2 with every fault on a line of its own."""
    from edge.rules.settings_file import SettingsError, parse

    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"styx: cannot read {path}: {getattr(error, 'strerror', None) or error}", 2)
    try:
        return parse(text, name=path, environ=os.environ)
    except SettingsError as error:
        fail("\n".join(str(fault) for fault in error.faults), 2)


def fail(text: str, code: int) -> NoReturn:
    """Say why on standard error, and exit."""
    click.echo(text, err=True)
    sys.exit(code)


def ask(admin: str, path: str, token_file: str | None = None) -> tuple[int, str]:
    """GET from a running styx's admin server, or exit 1 when there is none."""
    import http.client
    import socket

    where = _address(admin)
    headers = {"Host": "localhost"}
    if token_file is not None:
        headers["Authorization"] = f"Bearer {Path(token_file).read_text().strip()}"
    connection = http.client.HTTPConnection(where.host or "localhost", where.port or 80, timeout=5)
    try:
        if where.path:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(5)
            connection.sock.connect(where.path)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        fail(f"styx: nobody answers at {admin}: {error}", 1)
    finally:
        connection.close()


def _address(text: str) -> "Address":
    from edge.rules.settings_values import address

    try:
        return address(text)
    except ValueError as error:
        fail(f"styx: {text}: {error}", 2)
