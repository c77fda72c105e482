"""The command line `styx`. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

Each command imports what it needs: `styx healthcheck` runs every few seconds in a container and must start fast.
"""

import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

import click

from edge import BUILD, __version__
from edge.rules.routing.invalidation import KINDS
from edge.run.commands.clients_command import clients
from edge.run.commands.command_parts import (
    ADMIN,
    AS_JSON,
    CONFIG,
    TOKEN,
    admin_address,
    ask,
    command,
    document_at,
    fail,
    fail_with_faults,
    foreign_content,
    record,
    worker_replies,
)
from edge.run.commands.config_command import config
from edge.run.commands.events_command import events
from edge.run.commands.log_level_command import log_level
from edge.run.commands.support_dump_command import support_dump
from edge.run.core_api_check.check_command import check_core_api
from edge.run.installation.init_command import init
from edge.run.installation.schema_command import schema
from edge.run.log.log_command import read_log
from edge.run.pages.pages_command import pages

PAGE = 1000
"Routes in one request to the admin API."

if TYPE_CHECKING:
    from edge.platform.containers.container import Make
    from edge.run.installation.admin_choice import AdminChoice


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(f"{__version__} ({BUILD})", prog_name="styx")
def main() -> None:
    """styx, an HTTP edge load balancer: requests find their containers."""


main.add_command(check_core_api)
main.add_command(schema)
main.add_command(init)
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

    os.environ["STYX_CONFIG"] = config  # who takes over after an upgrade begins with the same file
    try:
        sys.exit(run(config))
    except BadConfiguration as error:
        fail_with_faults(error)
    except CannotServe as error:
        fail(f"styx: {error}", 1)


@main.command(short_help="Check a configuration file and what it relies on.")
@CONFIG
@click.option("--json", "as_json", is_flag=True, help='Print {"good", "faults", "warnings"} as JSON.')
@click.option("--strict", is_flag=True, help="Exit 1 for a warning, too.")
def check(config: str, as_json: bool, strict: bool) -> None:
    """Check a configuration file and what it relies on: exit 0 if styx could serve, 2 with every fault if not, 1 if
    an address is in use; so would `serve`. A warning is what styx serves without."""
    import json

    from edge.run.configuration_file import BadConfiguration
    from edge.run.serve import CannotServe
    from edge.run.serve import check as run

    def end(code: int, faults: list[str], warnings: list[str]) -> NoReturn:
        click.echo(json.dumps({"good": not code, "faults": faults, "warnings": warnings}))
        sys.exit(code)

    try:
        warnings = run(config)
    except BadConfiguration as error:
        if as_json:
            end(2, str(error).splitlines(), [])
        fail_with_faults(error)
    except CannotServe as error:
        if as_json:
            end(1, [str(error)], [])
        fail(f"styx: {error}", 1)
    code = 1 if strict and warnings else 0
    if as_json:
        end(code, [], warnings)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if code:
        sys.exit(code)
    click.echo(f"{config}: good")


@main.command(short_help="Exit 0 if a running styx takes requests.")
@ADMIN
@click.option("--json", "as_json", is_flag=True, help='Print {"ready", "state"} as JSON.')
def healthcheck(admin: "AdminChoice", as_json: bool) -> None:
    """Check whether a running styx takes requests: exit 0 if it does, 1 if not."""
    from edge.admin.health import is_health_text
    from edge.run.admin_client import no_admin_server

    status, body = ask(admin, "/readyz")
    if not is_health_text(body):
        fail(f"styx: {no_admin_server(str(admin))}", 1)
    if as_json:
        import json

        body = json.dumps({"ready": status == 200, "state": body.strip()})
    click.echo(body.strip())
    if status != 200:
        sys.exit(1)


@main.command(short_help="Show all that a running styx knows about a hostname.")
@click.argument("host")
@ADMIN
@TOKEN
@AS_JSON
def explain(host: str, admin: "AdminChoice", token_file: str | None, as_json: bool) -> None:
    """Show all that a running styx knows about a hostname (or a URL, or host:port), and which backend would get its
    next request."""
    from urllib.parse import quote

    from edge.admin.admin_messages import Explanation
    from edge.admin.explain_text import render_explanation

    if not host.strip():
        fail("styx: HOST is empty: give a hostname, host:port or a URL", 2)
    status, body = ask(admin, f"/v1/routes/{quote(host, safe='')}/explain", token_file)
    with worker_replies(admin, status, body):
        explanation = record(admin, body, Explanation)
        with foreign_content(admin):
            click.echo(body if as_json else render_explanation(explanation), nl=as_json)


@main.command()
@click.option("--site", default="", help="Routes of this site only.")
@click.option(
    "--freshness",
    type=click.Choice(["fresh", "stale", "expired", "unknown"]),
    help="Routes of this freshness only.",
)
@click.option(
    "--limit",
    default=100,
    show_default=True,
    type=click.IntRange(min=1),
    help="Maximum number of routes of each worker.",
)
@ADMIN
@TOKEN
@AS_JSON
def routes(
    site: str, freshness: str | None, limit: int, admin: "AdminChoice", token_file: str | None, as_json: bool
) -> None:
    """List the routes that a running styx has cached."""
    from urllib.parse import urlencode

    import msgspec

    from edge.rules.explain_records import ListedRoute, RoutePage
    from edge.run.commands.route_listing import listing

    found: dict[tuple[int, int], dict[str, ListedRoute]] = {}
    start: int | None = 0
    with ExitStack() as at_the_end:
        while start is not None:
            wanted = {"site": site, "freshness": freshness or "", "limit": min(limit, PAGE)}
            query = urlencode({**wanted, "from": start})
            answered = worker_replies(admin, *ask(admin, f"/v1/routes?{query}", token_file))
            document = at_the_end.enter_context(answered)
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
        click.echo(listing([(*process, list(of.values())[:limit]) for process, of in found.items()], as_json))


@main.command(short_help="Show live what a running styx serves (extra `top`).")
@click.option("--once", is_flag=True, help="Print it once, and end.")
@click.option("--interval", default=1.0, show_default=True, type=click.FloatRange(min=0.5), help="Seconds.")
@ADMIN
@TOKEN
@AS_JSON
def top(once: bool, interval: float, admin: "AdminChoice", token_file: str | None, as_json: bool) -> None:
    """Show live what a running styx serves: the status page for a terminal (needs the extra `top`). `--json` prints
    it once."""
    from edge.admin.status_page.status_records import Snapshot

    def read() -> Snapshot:
        return record(admin, document_at(admin, "/v1/status", token_file), Snapshot)

    if as_json:
        body = document_at(admin, "/v1/status", token_file)
        record(admin, body, Snapshot)
        click.echo(body)
        return
    try:
        from edge.run.top.top import run_top
    except ImportError:
        fail("styx: top needs the package rich: pip install 'styx-edge[top]'", 1)
    run_top(read, once=once, interval=interval)


@main.command("reload", short_help="Reload the configuration of a running styx.")
@ADMIN
@TOKEN
def reload_(admin: "AdminChoice", token_file: str | None) -> None:
    """Reload the configuration of a running styx; print what changed, or exit 1 with the faults in it."""
    command(admin, "reload", token_file)


@main.command(short_help="Replace a running styx by the installed version.")
@ADMIN
@TOKEN
def upgrade(admin: "AdminChoice", token_file: str | None) -> None:
    """Replace a running styx by the installed version; it keeps serving if the new one does not become ready."""
    command(admin, "upgrade", token_file)


@main.command(short_help="Send no new requests to a backend, server, environment.")
@click.argument("kind", type=click.Choice(["backend", "server", "environment"]))
@click.argument("name")
@click.option("--for", "duration", default="10m", show_default=True, help="When it ends by itself: 90s, 10m, 2h.")
@click.option("--end", is_flag=True, help="End it now.")
@click.option("--force", is_flag=True, help="Also if no route names it (yet).")
@ADMIN
@TOKEN
def drain(
    kind: str, name: str, duration: str, end: bool, force: bool, admin: "AdminChoice", token_file: str | None
) -> None:
    """Send no new requests to a backend (SITE/ENVIRONMENT/ID), to all backends on a server, or to an environment
    (SITE/NAME). `styx drains` lists what is drained."""
    from edge.rules.settings.values import seconds

    try:
        lasts = 0 if end else seconds(duration)
    except ValueError as error:
        fail(f"styx: --for {error}", 2)
    if not (end or lasts):
        fail("styx: --for 0 drains nothing; --end ends a drain", 2)
    body = {"kind": kind, "name": name, "seconds": lasts, "force": force}
    with worker_replies(admin, *ask(admin, "/v1/drains", token_file, body=body)):
        click.echo(f"{kind} {name}: {'gets requests again' if end else f'gets no new requests for {duration}'}")


@main.command()
@ADMIN
@TOKEN
@AS_JSON
def drains(admin: "AdminChoice", token_file: str | None, as_json: bool) -> None:
    """List what is drained, by whom and until when."""
    from edge.admin.admin_messages import OperatorDrain
    from edge.admin.explain_text import render_drains

    body = document_at(admin, "/v1/drains", token_file)
    found = record(admin, body, list[OperatorDrain])
    click.echo(body if as_json else render_drains(found), nl=as_json)


@main.command(short_help="Look up routes or a certificate again.")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name", default="")
@ADMIN
@TOKEN
def invalidate(kind: str, name: str, admin: "AdminChoice", token_file: str | None) -> None:
    """Look up again: routes of a hostname, site, environment (SITE/NAME) or server, or all; or a certificate."""
    if not name and kind != "all":
        fail(f"styx: which {kind}? `styx invalidate {kind} NAME`, or `styx invalidate all` for everything", 2)
    response = ask(admin, "/v1/invalidate", token_file, body={"kind": kind, "name": name})
    with worker_replies(admin, *response) as document:
        with foreign_content(admin):
            count = max((int(reply["content"]) for reply in document["workers"]), default=0)
        what = "certificates" if kind == "certificate" else "routes"
        nothing = "" if count or kind == "all" else f" (this edge knows none of the {kind} {name})"
        click.echo(f"{what} to be asked for anew: {count}{nothing}")


@main.command("core-api", short_help="Run a pocket hosting platform on this machine.")
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
    where = admin_address(address)
    sys.exit(uvloop.run(run_platform(where.host or "0.0.0.0", where.port, db, make)))


@main.command()
@click.option("--once", is_flag=True, help="Play a script, print what happened, exit 0 or 1.")
@click.option("--containers", "make", type=click.Choice(["builtin", "nginx"]), default="builtin", show_default=True)
@click.option("--port", type=int, help="Where styx listens (127.0.0.1).  [default: 8080; with --tls 8443]")
@click.option("--tls", is_flag=True, help="HTTPS, with certificates of an authority made at the start.")
def demo(once: bool, make: "Make", port: int | None, tls: bool) -> None:
    """Run styx in front of a pocket platform with three sites."""
    import uvloop

    from edge.demo.demo import PORT, TLS_PORT, run_demo
    from edge.demo.script import run_script
    from edge.rules.settings import LogSettings
    from edge.run import event_log

    event_log.configure(LogSettings(format="console", level="warning"))
    if port is None:
        port = TLS_PORT if tls else PORT
    sys.exit(uvloop.run(run_script(make, tls=tls) if once else run_demo(make, port, tls=tls)))


for other in (clients, config, events, log_level, pages, support_dump):
    main.add_command(other)
