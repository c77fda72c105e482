"""`styx log-level`: show the level of the event log, or override it for some time."""

from typing import TYPE_CHECKING

import click

from edge.run.commands.command_parts import ADMIN, AS_JSON, TOKEN, ask, fail, record, worker_replies

if TYPE_CHECKING:
    from edge.run.installation.admin_choice import AdminChoice


@click.command("log-level", short_help="Show or change the level of the event log.")
@click.argument("level", required=False, type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--for", "duration", default="10m", show_default=True, help="When it ends by itself: 90s, 10m, 2h.")
@click.option("--end", is_flag=True, help="End the override now.")
@ADMIN
@TOKEN
@AS_JSON
def log_level(
    level: str | None, duration: str, end: bool, admin: "AdminChoice", token_file: str | None, as_json: bool
) -> None:
    """Show from which level on a running styx writes its event log; with LEVEL, override it in all processes for
    some time. A reload or a restart ends the override."""
    import msgspec

    from edge.admin.admin_messages import LogLevels, ProcessLogLevel
    from edge.rules.settings.values import seconds

    change = None
    if level is not None or end:
        try:
            change = {"level": level or "", "seconds": 0 if end else seconds(duration)}
        except ValueError as error:
            fail(f"styx: --for {error}", 2)
    status, body = ask(admin, "/v1/log-level", token_file, body=change)
    with worker_replies(admin, status, body):
        if as_json:
            click.echo(body)
            return
        levels = record(admin, body, LogLevels)
        shown = {"admin process": levels.admin}
        for reply in (reply for reply in levels.workers if not reply.error):
            shown[f"worker {reply.worker}"] = msgspec.json.decode(reply.content, type=ProcessLogLevel)
        for process, of in shown.items():
            rest = f"for {of.seconds:.0f} s more, then {of.configured}" if of.seconds else "as configured"
            click.echo(f"{process}: {of.level}, {rest}")
