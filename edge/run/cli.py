"""The command line `styx`. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

Each command imports what it needs: `styx healthcheck` runs every few seconds in a container and must start fast.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from edge import BUILD, __version__
from edge.rules.routing.invalidation import KINDS
from edge.run.log.log_command import read_log

PAGE = 1000
"Routes in one request to the admin API."
T = TypeVar("T")

if TYPE_CHECKING:
    from edge.platform.containers import Make
    from edge.rules.settings import Address

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
    "--token-file",
    type=click.Path(dir_okay=False),
    envvar="STYX_TOKEN_FILE",
    help="File with the admin token; STYX_ADMIN_TOKEN may hold it, too.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(f"{__version__} ({BUILD})", prog_name="styx")
def main() -> None:
    """styx, an HTTP edge load balancer: requests find their containers."""


main.add_command(read_log)


@main.command()
@CONFIG
def serve(config: str) -> None:
    """Serve clients until stopped by a signal.

    SIGTERM: finish and end; again: at once. SIGHUP: reload. SIGUSR1: reopen the logs. SIGUSR2: upgrade.
    """
    from edge.run.configuration_file import BadConfiguration
    from edge.run.serve import CannotServe
    from edge.run.serve import serve as run

    try:
        sys.exit(run(config))
    except BadConfiguration as error:
        fail_with_faults(error)
    except CannotServe as error:
        fail(f"styx: {error}", 1)


@main.command()
@CONFIG
def check(config: str) -> None:
    """Check a configuration file and what it relies on: exit 0 if styx could serve, 2 with every fault if not."""
    from edge.run.configuration_file import BadConfiguration
    from edge.run.serve import check as run

    try:
        former = run(config)
    except BadConfiguration as error:
        fail_with_faults(error)
    for fault in former:
        click.echo(f"warning: {fault}", err=True)
    click.echo(f"{config}: good")


@main.command()
@ADMIN
def healthcheck(admin: str) -> None:
    """Check whether a running styx takes requests: exit 0 if it does, 1 if not."""
    from edge.admin.health import is_health_text
    from edge.run.admin_client import no_admin_server

    status, body = ask(admin, "/readyz")
    if not is_health_text(body):
        fail(f"styx: {no_admin_server(admin)}", 1)
    click.echo(body.strip())
    if status != 200:
        sys.exit(1)


@main.command()
@click.argument("host")
@ADMIN
@TOKEN
@click.option("--json", "as_json", is_flag=True, help="Print the response of the admin API.")
def explain(host: str, admin: str, token_file: str | None, as_json: bool) -> None:
    """Show all that a running styx knows about a hostname (or a URL, or host:port), and which backend would get its
    next request."""
    from urllib.parse import quote

    from edge.admin.admin_messages import Explanation
    from edge.admin.explain_text import render_explanation

    status, body = ask(admin, f"/v1/routes/{quote(host, safe='')}/explain", token_file)
    worker_replies(admin, status, body)
    explanation = record(admin, body, Explanation)
    with foreign_content(admin):
        click.echo(body if as_json else render_explanation(explanation), nl=as_json)


@main.command()
@click.option("--site", default="", help="Routes of this site only.")
@click.option("--freshness", default="", help="Routes of this freshness only: fresh, stale, expired or unknown.")
@click.option("--limit", default=100, show_default=True, help="Maximum number of routes of each worker.")
@ADMIN
@TOKEN
def routes(site: str, freshness: str, limit: int, admin: str, token_file: str | None) -> None:
    """List the routes that a running styx has cached."""
    from urllib.parse import urlencode

    import msgspec

    from edge.admin.explain_text import render_routes
    from edge.rules.explain_records import ListedRoute, RoutePage

    found: dict[tuple[int, int], dict[str, ListedRoute]] = {}
    start: int | None = 0
    while start is not None:
        query = urlencode({"site": site, "freshness": freshness, "limit": min(limit, PAGE), "from": start})
        document = worker_replies(admin, *ask(admin, f"/v1/routes?{query}", token_file))
        pages = {(reply["worker"], reply["pid"]): reply["content"] for reply in document["workers"]}
        nexts = []
        for process, page in pages.items():
            with foreign_content(admin):
                listed = msgspec.convert(page, RoutePage)
            # The pages of two workers end at different routes; a route that a worker sends again is the same.
            found.setdefault(process, {}).update((route.hostname, route) for route in listed.routes)
            if listed.next is not None and len(found[process]) < limit:
                nexts.append(listed.next)
        start = min(nexts, default=None)
    for (worker, pid), routes_of in found.items():
        if len(found) > 1:
            click.echo(f"worker {worker}, process {pid}:")
        click.echo(render_routes(list(routes_of.values())[:limit]))


@main.command()
@click.option("--once", is_flag=True, help="Print it once, and end.")
@click.option("--interval", default=1.0, show_default=True, type=click.FloatRange(min=0.5), help="Seconds.")
@ADMIN
@TOKEN
def top(once: bool, interval: float, admin: str, token_file: str | None) -> None:
    """Show live what a running styx serves: the status page for a terminal (needs the extra `top`)."""
    from edge.admin.status_page.status_records import Snapshot

    try:
        from edge.run.top.top import run_top
    except ImportError:
        fail("styx: top needs the package rich: pip install 'styx-edge[top]'", 1)

    def read() -> Snapshot:
        status, body = ask(admin, "/v1/status", token_file)
        if status != 200:
            fail(f"styx: {decoded(admin, body).get('detail', body)}", 1)
        return record(admin, body, Snapshot)

    run_top(read, once=once, interval=interval)


@main.command("reload")
@ADMIN
@TOKEN
def reload_(admin: str, token_file: str | None) -> None:
    """Reload the configuration of a running styx; print what changed, or exit 1 with the faults in it."""
    command(admin, "reload", token_file)


@main.command()
@ADMIN
@TOKEN
def upgrade(admin: str, token_file: str | None) -> None:
    """Replace a running styx by the installed version; it keeps serving if the new one does not become ready."""
    command(admin, "upgrade", token_file)


@main.command()
@click.argument("kind", type=click.Choice(["backend", "server", "environment"]))
@click.argument("name")
@click.option("--for", "duration", default="10m", show_default=True, help="When it ends by itself: 90s, 10m, 2h.")
@click.option("--end", is_flag=True, help="End it now.")
@click.option("--force", is_flag=True, help="Also if no route names it (yet).")
@ADMIN
@TOKEN
def drain(kind: str, name: str, duration: str, end: bool, force: bool, admin: str, token_file: str | None) -> None:
    """Send no new requests to a backend (SITE/ENVIRONMENT/ID), to all backends on a server, or to an environment
    (SITE/NAME). `styx drains` lists what is drained."""
    from edge.rules.settings.values import seconds

    try:
        body = {"kind": kind, "name": name, "seconds": 0 if end else seconds(duration), "force": force}
    except ValueError as error:
        fail(f"styx: --for {error}", 2)
    worker_replies(admin, *ask(admin, "/v1/drains", token_file, body=body))
    click.echo(f"{kind} {name}: {'gets requests again' if end else f'gets no new requests for {duration}'}")


@main.command()
@ADMIN
@TOKEN
@click.option("--json", "as_json", is_flag=True, help="Print the response of the admin API.")
def drains(admin: str, token_file: str | None, as_json: bool) -> None:
    """List what is drained, by whom and until when."""
    from edge.admin.admin_messages import OperatorDrain
    from edge.admin.explain_text import render_drains

    status, body = ask(admin, "/v1/drains", token_file)
    if status != 200:
        fail(f"styx: {decoded(admin, body).get('detail', body)}", 1)
    found = record(admin, body, list[OperatorDrain])
    click.echo(body if as_json else render_drains(found), nl=as_json)


@main.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name", default="")
@ADMIN
@TOKEN
def invalidate(kind: str, name: str, admin: str, token_file: str | None) -> None:
    """Look up again: routes of a hostname, site, environment (SITE/NAME) or server, or all; or a certificate."""
    document = worker_replies(admin, *ask(admin, "/v1/invalidate", token_file, body={"kind": kind, "name": name}))
    with foreign_content(admin):
        count = max((int(reply["content"]) for reply in document["workers"]), default=0)
    click.echo(f"{'certificates' if kind == 'certificate' else 'routes'} to be asked for anew: {count}")


@main.command("core-api")
@click.option("--address", default="127.0.0.1:9900", show_default=True, help="Where it listens.")
@click.option("--db", default=":memory:", show_default=True, help="SQLite file of sites and containers.")
@click.option("--containers", "make", type=click.Choice(["builtin", "nginx"]), default="builtin", show_default=True)
def core_api(address: str, db: str, make: "Make") -> None:
    """Run a pocket hosting platform: a core API, and containers on this machine."""
    import uvloop

    from edge.demo.demo import run_platform
    from edge.rules.settings import LogSettings
    from edge.run import event_log

    event_log.configure(LogSettings(format="console"))
    where = _address(address)
    sys.exit(uvloop.run(run_platform(where.host or "0.0.0.0", where.port, db, make)))


@main.command()
@click.option("--once", is_flag=True, help="Play a script, print what happened, exit 0 or 1.")
@click.option("--containers", "make", type=click.Choice(["builtin", "nginx"]), default="builtin", show_default=True)
@click.option("--port", default=8080, show_default=True, help="Where styx listens (127.0.0.1).")
def demo(once: bool, make: "Make", port: int) -> None:
    """Run styx in front of a pocket platform with three sites."""
    import uvloop

    from edge.demo.demo import run_demo
    from edge.demo.script import run_script
    from edge.rules.settings import LogSettings
    from edge.run import event_log

    event_log.configure(LogSettings(format="console", level="warning"))
    sys.exit(uvloop.run(run_script(make) if once else run_demo(make, port)))


def fail_with_faults(error: Exception) -> NoReturn:
    """Print why a configuration cannot be used, and exit 2."""
    fail(f"styx: {error}" if str(error).startswith("cannot read") else str(error), 2)


def command(admin: str, what: str, token_file: str | None) -> None:
    """Send a command, wait until it is carried out, and print its result; exit 1 when it failed."""
    status, body = ask(admin, f"/v1/{what}", token_file, body={}, timeout=130)
    result = decoded(admin, body)
    if not (isinstance(result.get("words"), list) or isinstance(result.get("detail"), str)):
        with foreign_content(admin):
            raise KeyError("neither a result nor an error")
    for line in result.get("words", [result.get("detail", body)]):
        click.echo(line, err=status != 200)
    if status != 200:
        sys.exit(1)


def worker_replies(admin: str, status: int, body: str) -> dict[str, Any]:
    """The decoded response with the replies of all workers; exit 1 when it is an error, or a worker failed or did
    not reply."""
    document = decoded(admin, body)
    if status != 200:
        fail(f"styx: {document.get('detail', body)}", 1)
    from edge.admin.admin_messages import WorkerReplies

    replies = record(admin, body, WorkerReplies)
    for reply in replies.workers:
        if reply.error:
            fail(f"styx: worker {reply.worker}: {reply.error}", 1)
    if replies.silent:
        fail(f"styx: no reply from workers {', '.join(map(str, replies.silent))}", 1)
    return document


def record(admin: str, body: str, kind: type[T]) -> T:
    """Decode a response of the admin server as a record; exit 1 when it is not one."""
    import msgspec

    with foreign_content(admin):
        return msgspec.json.decode(body, type=kind)


@contextmanager
def foreign_content(admin: str) -> Iterator[None]:
    """Exit 1 when the content of a response is not what an admin server of styx sends."""
    from edge.run.admin_client import no_admin_server

    try:
        yield
    except (ValueError, TypeError, LookupError):
        fail(f"styx: {no_admin_server(admin)}", 1)


def fail(text: str, code: int) -> NoReturn:
    """Print a message on standard error, and exit with this code."""
    click.echo(text, err=True)
    sys.exit(code)


def ask(
    admin: str, path: str, token_file: str | None = None, *, body: dict[str, Any] | None = None, timeout: float = 5
) -> tuple[int, str]:
    """GET from the admin server of a running styx, or POST a body to it; exit 1 when it cannot be reached or denies
    access. Returns status and body of the response."""
    from edge.run import admin_client

    try:
        return admin_client.ask(
            admin_client.AdminEndpoint(admin, _address(admin), _token(token_file), timeout), path, body
        )
    except admin_client.AdminFailed as error:
        fail(f"styx: {error}", 1)


def decoded(admin: str, body: str) -> dict[str, Any]:
    """Decode a JSON response of the admin server; exit 1 when it is not one."""
    from edge.run.admin_client import AdminFailed, document

    try:
        return document(admin, body)
    except AdminFailed as error:
        fail(f"styx: {error}", 1)


def _token(file: str | None) -> str:
    from edge.net.secret_files import SecretFileError, read_secret

    try:
        return read_secret(file) or os.environ.get("STYX_ADMIN_TOKEN", "").strip()
    except SecretFileError as error:
        fail(f"styx: --token-file: {error}", 2)


def _address(text: str) -> "Address":
    from edge.rules.settings.values import address

    try:
        return address(text)
    except ValueError as error:
        fail(f"styx: {text}: {error}", 2)
