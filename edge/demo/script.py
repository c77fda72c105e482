"""The script of `styx demo --once`: shows the main features of styx once, on real sockets, and prints a table.

styx is a child process, the platform runs in this process, and all ports are free ones.
"""

import asyncio
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import click

from edge.demo.free_ports import free_port
from edge.demo.script_client import ScriptClient, what_came, who_answered
from edge.demo.script_steps import CORE_API_TIMEOUT, SITES, STEPS, Result, ScriptContext, Step
from edge.demo.styx_process import StyxFailed, StyxProcess
from edge.platform.containers.container import ContainerFailed, Make
from edge.platform.pocket_platform import PlatformSpec, PocketPlatform
from edge.platform.route_api import CacheControl

CONFIG = """\
listeners: [{{address: "127.0.0.1:{port}", tls: {tls}}}]
core_api: {{url: "{core_api}", timeout: "{timeout:g}s"}}
{backends}
admin: {{address: "127.0.0.1:{admin}"}}
workers: 1
"""

BACKENDS = 'backends: {{tls: {{ca: "{ca}", certificate: "{edge[0]}", key: "{edge[1]}"}}}}'
"How containers with TLS are reached."

FRESHNESS = CacheControl(max_age=1, unknown_max_age=1)
"Short, so that routes become stale within the script, and unannounced changes are soon looked up."

ROW = "{mark:1} {number:>2}  {asked:<48} {came:<30} {whom}"

STEP_TIMEOUT = 60.0
"Seconds after which a step has failed."


async def run_script(
    make: Make,
    sites: Mapping[str, Mapping[str, Any]] = SITES,
    steps: Sequence[Step] = STEPS,
    *,
    tls: bool = False,
) -> int:
    """Run all steps and print their results. `tls`: on both sides of styx. Returns the exit status: 0 = all passed,
    1 = not."""
    began = time.monotonic()
    make_of = f"{make} containers" + (" and TLS" if tls else "")
    click.echo(f"The script of styx, with {make_of}.\n")
    try:
        async with PocketPlatform(PlatformSpec(make=make, freshness=FRESHNESS, tls=tls)) as platform:
            await asyncio.gather(*(platform.create_environment(site, **size) for site, size in sites.items()))
            trusted = None if platform.pki is None else str(platform.pki.site_ca)
            async with StyxProcess(_config(platform)) as styx, ScriptClient(styx.port, trusted) as client:
                failed = await _play(steps, ScriptContext(platform, styx, client))
                log_end = styx.last_words() if failed else ""
    except (ContainerFailed, StyxFailed, OSError) as error:
        click.echo(f"styx: {error}", err=True)
        return 1
    if log_end:
        click.echo(f"\nThe end of styx's log:\n{textwrap.indent(log_end, '    ')}")
    took = f"{time.monotonic() - began:.1f} s"
    summary = f"{failed} of {len(steps)} steps failed" if failed else f"all {len(steps)} steps came as expected"
    click.echo(f"\n{'✗' if failed else '✓'} {summary}, with {make_of}, in {took}.")
    return 1 if failed else 0


def _config(platform: PocketPlatform) -> str:
    pki = platform.pki
    return CONFIG.format(
        port=free_port(),
        tls="false" if pki is None else "true",
        core_api=platform.core_api_url,
        backends="" if pki is None else BACKENDS.format(ca=pki.container_ca, edge=pki.edge),
        admin=free_port(),
        timeout=CORE_API_TIMEOUT,
    )


async def _play(steps: Sequence[Step], context: ScriptContext) -> int:
    """Run the steps one after another; returns how many failed."""
    click.echo(ROW.format(mark="", number="", asked="requests", came="responses", whom="containers"))
    failed = 0
    for number, step in enumerate(steps, 1):
        result = await _play_step(step, context)
        failed += bool(result.faults)
        _print_row(number, step, result)
        if context.styx.ended.is_set():
            click.echo(f"  styx itself ended, with exit status {context.styx.code}.")
            return failed or 1
    return failed


async def _play_step(step: Step, context: ScriptContext) -> Result:
    try:
        async with asyncio.timeout(STEP_TIMEOUT):
            return await step.play(context)
    except TimeoutError:
        return Result([], [f"it did not end within {STEP_TIMEOUT:g} s"])
    except (aiohttp.ClientError, ContainerFailed) as error:
        return Result([], [f"{type(error).__name__}: {error}"])


def _print_row(number: int, step: Step, result: Result) -> None:
    counts = sorted(who_answered(result.replies).items())
    whom = "  ".join(f"{name} {count}" for name, count in counts)
    click.echo(
        ROW.format(
            mark="✗" if result.faults else "✓",
            number=number,
            asked=step.asked,
            came=what_came(result.replies),
            whom=f"{whom}  ({result.note})" if result.note else whom,
        )
    )
    if result.faults:
        click.echo(f"      expected: {step.expected}")
        for fault in result.faults:
            click.echo(f"      but: {fault}")
