"""The command `styx check-core-api`."""

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edge.rules.core_api.contract_findings import ContractFinding
    from edge.rules.settings import CoreApiSettings
    from edge.run.core_api_check.core_api_check import CheckPlan

FILE = click.Path(dir_okay=False)


@click.command("check-core-api", short_help="Check a core API: ask it as styx does.")
@click.argument("url")
@click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
@click.option(
    "--token-file",
    type=FILE,
    envvar="STYX_CORE_API_TOKEN_FILE",
    show_envvar=True,
    help="File with the bearer token.",
)
@click.option("--ca", type=FILE, help="Authorities that are believed, as PEM.")
@click.option("--certificate", type=FILE, help="Certificate that is shown to the core API, as PEM.")
@click.option("--key", type=FILE, help="Its private key, as PEM.")
@click.option("--timeout", default="5s", show_default=True, help="Timeout of one lookup: core_api.timeout.")
@click.option("--concurrency", default=64, show_default=True, type=click.IntRange(1, 1000), help="Lookups at once.")
@click.option(
    "--wait", default="31s", show_default=True, help="For how long to listen to the change stream at most."
)
@click.option("--changes/--no-changes", default=True, help="Whether to check the change stream.")
@click.option("--certificates", is_flag=True, help="Also ask for the certificates of the hosts.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check_core_api(
    url: str,
    hosts: tuple[str, ...],
    token_file: str | None,
    ca: str | None,
    certificate: str | None,
    key: str | None,
    timeout: str,
    concurrency: int,
    wait: str,
    changes: bool,
    certificates: bool,
    as_json: bool,
) -> None:
    """Check a core API: ask it as styx does, about HOSTs that it knows, and say what is wrong.

    URL is that of core_api.url, without /v1. Exit code 0: no faults (there may be warnings), 1: faults. It sends a
    few lookups for each HOST, 64 at once, and reads the change stream; nothing is changed.
    """
    import uvloop

    from edge.rules.core_api.contract_findings import has_faults
    from edge.rules.routing.hostname_text import hostname_in
    from edge.rules.settings.values import seconds
    from edge.run.core_api_check.core_api_check import CheckPlan

    tls = {"ca": ca, "certificate": certificate, "key": key}
    try:
        given = {"url": url, "timeout": seconds(timeout), "token_file": token_file, "tls": tls}
        settings = _settings({**given, "concurrency": concurrency})
        plan = CheckPlan(settings, [hostname_in(host) for host in hosts], seconds(wait), changes, certificates)
    except ValueError as error:
        click.echo(f"styx: {error}", err=True)
        sys.exit(2)
    try:
        found = uvloop.run(_told(plan, as_json))
    except OSError as error:
        click.echo(f"styx: {error}", err=True)
        sys.exit(2)
    sys.exit(1 if has_faults(found) else 0)


async def _told(plan: "CheckPlan", as_json: bool) -> "list[ContractFinding]":
    """Check a core API and print what is found: each finding when it is there, or all at the end as JSON."""
    import json

    from edge.rules.core_api.contract_findings import counts_text, finding_text, reported
    from edge.run.core_api_check.core_api_check import checked_core_api

    found = []
    async for finding in checked_core_api(plan):
        found.append(finding)
        if not as_json:
            click.echo(finding_text(finding))
    click.echo(json.dumps(reported(found), indent=1) if as_json else counts_text(found))
    return found


def _settings(values: dict[str, object]) -> "CoreApiSettings":
    """The settings of this core API. Raises ValueError with one line for each fault."""
    from pydantic import ValidationError

    from edge.rules.settings import CoreApiSettings

    try:
        settings = CoreApiSettings.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        raise ValueError("\n".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in faults)) from None
    if settings.is_pushed:
        raise ValueError("url: a file of routes is no core API: `styx check` reads it")
    return settings
