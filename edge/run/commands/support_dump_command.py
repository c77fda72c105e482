"""The command line of `styx support-dump`."""

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from edge.run.commands.command_parts import ADMIN, AS_JSON, TOKEN, endpoint, fail

if TYPE_CHECKING:
    from edge.run.commands.support_dump import Manifest
    from edge.run.installation.admin_choice import AdminChoice


@click.command("support-dump", short_help="Write one archive to find out what is wrong.")
@click.option("-o", "--output", default="", help="File to create; - = standard output.  [default: one here]")
@ADMIN
@TOKEN
@AS_JSON
def support_dump(output: str, admin: "AdminChoice", token_file: str | None, as_json: bool) -> None:
    """Write one archive for whoever is to find out what is wrong: versions, settings without secrets, states, last
    events, metrics, and the stacks of all processes. Run it as root or as the user of styx, on its machine. It
    works when parts of the edge are dead or stuck, and says what is missing."""
    import msgspec

    from edge.run.commands.support_dump import write_dump

    now = time.time()
    target = endpoint(admin, token_file)
    if output == "-":
        manifest = write_dump(target, sys.stdout.buffer, now)
        click.echo(_summary(manifest), err=True)
        return
    path = output or time.strftime("styx-support-%Y%m%d-%H%M%S.tar.gz", time.gmtime(now))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:
            manifest = write_dump(target, file, now)
    except OSError as error:
        fail(f"styx: cannot write {path}: {error.strerror}", 1)
    if as_json:
        click.echo(msgspec.json.encode(manifest))
    else:
        click.echo(f"{_summary(manifest)}\n{path}")


def _summary(manifest: "Manifest") -> str:
    lines = [f"{len(manifest.parts)} parts, {sum(manifest.parts.values()) >> 10} KiB before compression"]
    lines += [f"missing: {name}: {why}" for name, why in manifest.missing.items()]
    return "\n".join(lines)
