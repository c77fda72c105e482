"""`styx demo` and `styx core-api`: runs a pocket platform in this process, with or without styx before it.

In the demo styx is a child process, started as `styx serve -c FILE`, as in production.
"""

import asyncio
import signal
import sqlite3
from typing import Any

import click

from edge.demo.browser import open_browser
from edge.demo.free_ports import free_port, is_free
from edge.demo.page.demo_page import DemoPage
from edge.demo.styx_process import StyxFailed, StyxProcess
from edge.platform.containers.container import ContainerFailed, Make
from edge.platform.pocket_platform import PlatformSpec, PocketPlatform
from edge.platform.route_api import CacheControl

CONFIG = """\
listeners: [{address: "${STYX_LISTEN}"}]
core_api: {url: "${CORE_API}"}
admin: {address: "${STYX_ADMIN}"}
workers: 1
"""
"config/demo.yaml without its comments; a wheel does not contain that file."

TLS_CONFIG = """\
listeners:
  - {address: "127.0.0.1:$LISTEN", tls: true}
  - {address: "127.0.0.1:$REDIRECTING", redirect_to_https: $LISTEN}
core_api: {url: "${CORE_API}"}
backends: {tls: {ca: "${PKI}/containers-ca.pem", certificate: "${PKI}/edge.pem", key: "${PKI}/edge.key"}}
admin: {address: "${STYX_ADMIN}"}
workers: 1
"""
"With --tls. (A port is a number, which no variable can be.)"

PORT, TLS_PORT = 8080, 8443
CORE_API_PORT = 9900
ADMIN_PORT = 9901
PAGE_PORT = 9902
LOG_CHECK_EVERY = 10.0
"Seconds between two looks at the size of styx's log."

FRESHNESS = CacheControl(max_age=2, unknown_max_age=2)
"Short, so that changes take effect at once."

SITES: dict[str, dict[str, Any]] = {
    "acme": {"containers": 1},
    "globex": {"containers": 5},
    "initech": {"containers": 1, "standby": 1},
}

SCREEN = """
styx is up, before a pocket hosting platform with three sites ({make} containers). Open in a browser:

  {page}  the platform under a load, live, with everything that can be done to it

  {acme}/      one container: {acme_ids}
  {globex}/    five: {globex_ids}
  {initech}/   a standby pair: {initech_ids}

{tls}Response with the container's id:  curl -s{trust} {globex}/
Route and weights in styx:         styx explain live-globex.localhost{admin_option}
Status page, health, metrics:      {admin}/

Change something, then send the request again:

  more containers   curl -X PATCH {platform}/environments/acme/live -d '{{"containers": 5}}'
  fill one          curl -X POST {platform}/containers/{one}/fill
  kill one          curl -X POST {platform}/containers/{two}/kill
  move one          curl -X POST {platform}/containers/{three}/move
  slow one down     curl -X POST {platform}/containers/{four}/slow -d '{{"factor": 20}}'
  heal one          curl -X POST {platform}/containers/{one}/heal
  another site      curl -X POST {platform}/environments -d '{{"site": "hooli", "containers": 2}}'

styx is process {pid}; its log, with a line for every request: tail -f {log}
Ctrl-C ends everything.
"""

TLS_SCREEN = """\
HTTPS and HTTP/2; {http} is redirected. Containers speak TLS, too, and prove who they are. The authority that
has signed the certificates of the sites, until Ctrl-C: {ca}

"""

PLATFORM_SCREEN = """
The core API is at {url}, with {make} containers. Sites: {sites}.

  create a site        curl -X POST {url}/v1/platform/environments -d '{{"site": "acme", "containers": 2}}'
  list environments    curl {url}/v1/platform/environments
  look up a route      curl -i {url}/v1/routes/live-acme.localhost
  let idle ones sleep  curl -X PATCH {url}/v1/platform/upkeep/reaper -d '{{"on": true, "seconds": 60}}'
  move them about      curl -X PATCH {url}/v1/platform/upkeep/dragon -d '{{"on": true, "seconds": 5}}'

To run styx before it, in another terminal: CORE_API={url} styx serve -c config/demo.yaml
Ctrl-C ends it.
"""


async def run_platform(host: str, port: int, db: str, make: Make) -> int:
    """Run a core API and its containers until SIGTERM or SIGINT.

    Returns the exit status: 1 = it could not run, and has printed the reason.
    """
    stop = stop_signals()
    if port and not is_free(port, host):
        click.echo(f"styx: port {port} of {host} is taken: choose another one with --address", err=True)
        return 1
    try:
        spec = PlatformSpec(db=db, address=host, port=port, make=make, freshness=FRESHNESS)
        async with PocketPlatform(spec) as platform:
            known = [f"{known.environment}-{known.site}" for known in platform.registry.environments()]
            url = platform.core_api_url
            click.echo(PLATFORM_SCREEN.format(url=url, make=make, sites=", ".join(known) or "none yet"))
            await stop.wait()
    except (ContainerFailed, OSError, sqlite3.Error) as error:
        click.echo(f"styx: {error}", err=True)
        return 1
    return 0


async def run_demo(make: Make, port: int, *, tls: bool = False) -> int:
    """Run three sites and styx before them until SIGTERM or SIGINT. `tls`: styx serves HTTPS, and containers do.

    Returns the exit status: 1 = it could not run or styx ended, and it has printed the reason.
    """
    stop = stop_signals()
    if port and not is_free(port):
        click.echo(f"styx: port {port} of 127.0.0.1 is taken: choose another one with --port", err=True)
        return 1
    try:
        spec = PlatformSpec(port=free_port(CORE_API_PORT), make=make, freshness=FRESHNESS, tls=tls)
        async with PocketPlatform(spec) as platform:
            await asyncio.gather(*(platform.create_environment(site, **size) for site, size in SITES.items()))
            port = port or free_port()
            async with (
                StyxProcess(_config(port, tls=tls), environ_of_styx(platform, port)) as styx,
                DemoPage(platform, styx, free_port(PAGE_PORT)) as page,
            ):
                click.echo(_screen(make, platform, styx, page))
                open_browser(page.url)
                return await _wait(styx, stop)
    except (ContainerFailed, StyxFailed, OSError) as error:
        click.echo(f"styx: {error}", err=True)
        return 1


def _config(port: int, *, tls: bool) -> str:
    if not tls:
        return CONFIG
    return TLS_CONFIG.replace("$LISTEN", str(port)).replace("$REDIRECTING", str(free_port(PORT)))


def environ_of_styx(platform: PocketPlatform, port: int) -> dict[str, str]:
    """The environment variables that CONFIG refers to."""
    return {
        "STYX_LISTEN": f"127.0.0.1:{port}",
        "PKI": "" if platform.pki is None else str(platform.pki.directory),
        "CORE_API": platform.core_api_url,
        "STYX_ADMIN": f"127.0.0.1:{free_port(ADMIN_PORT)}",
    }


async def _wait(styx: StyxProcess, stop: asyncio.Event) -> int:
    """Wait until `stop` is set or styx ends by itself; returns the exit status."""
    ends = [asyncio.ensure_future(event.wait()) for event in (stop, styx.ended)]
    while not any(end.done() for end in ends):
        await asyncio.wait(ends, timeout=LOG_CHECK_EVERY, return_when=asyncio.FIRST_COMPLETED)
        styx.shorten_log()
    for end in ends:
        end.cancel()
    if stop.is_set():
        click.echo("Stopping.")
        return 0
    click.echo(f"styx: it ended by itself, with exit status {styx.code}:\n{styx.last_words()}", err=True)
    return 1


def _screen(make: Make, platform: PocketPlatform, styx: StyxProcess, page: DemoPage) -> str:
    ids = {site: [container.spec.id for container in platform.containers(site)] for site in SITES}
    admin = styx.settings.admin.address
    one, two, three, four, _ = ids["globex"]
    pki, scheme = platform.pki, "http" if platform.pki is None else "https"
    return SCREEN.format(
        **{site: f"{scheme}://live-{site}.localhost:{styx.port}" for site in SITES},
        **{f"{site}_ids": " ".join(of) for site, of in ids.items()},
        make=make,
        tls="" if pki is None else TLS_SCREEN.format(ca=pki.site_ca, http=_redirecting(styx)),
        trust="" if pki is None else f" --cacert {pki.site_ca}",
        page=page.url,
        admin=f"http://{admin}",
        admin_option="" if admin.port == ADMIN_PORT else f" --admin {admin}",
        platform=f"{platform.core_api_url}/v1/platform",
        one=one,
        two=two,
        three=three,
        four=four,
        pid=styx.pid,
        log=styx.log,
    )


def _redirecting(styx: StyxProcess) -> str:
    return f"http://live-acme.localhost:{styx.settings.listeners[1].address.port}/"


def stop_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
