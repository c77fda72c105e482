"""`styx events`: the last lines of the event log of all processes."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from edge.run.commands.command_parts import ADMIN, AS_JSON, TOKEN, document_at, record

if TYPE_CHECKING:
    from edge.rules.environment_status_records import RecentEvent
    from edge.run.installation.admin_choice import AdminChoice


@click.command(short_help="List the last events of a running styx.")
@ADMIN
@TOKEN
@AS_JSON
def events(admin: "AdminChoice", token_file: str | None, as_json: bool) -> None:
    """List the last events of all processes of a running styx, the latest last, with their codes and fields."""
    import msgspec

    from edge.admin.status_page.status_records import Snapshot

    found = record(admin, document_at(admin, "/v1/status", token_file), Snapshot).events[::-1]
    click.echo(msgspec.json.encode(found) if as_json else render_events(found))


def render_events(events: Sequence["RecentEvent"]) -> str:
    """These events as text, one line for each."""
    lines = [
        f"{time.strftime('%H:%M:%S', time.localtime(event.at))} {event.level:<7} {event.by}: {event.text} "
        f"[{event.code}] {event.fields}".rstrip()
        for event in events
    ]
    return "\n".join(lines) or "no events"
