"""`styx clients`: the clients that use most of an edge."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from edge.run.commands.command_parts import ADMIN, AS_JSON, TOKEN, ask, foreign_content, worker_replies

if TYPE_CHECKING:
    from edge.rules.limits.client_records import ClientList, ClientNow
    from edge.run.installation.admin_choice import AdminChoice


@click.command(short_help="List the busiest clients of a running styx.")
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(min=1), help="Maximum number of clients."
)
@ADMIN
@TOKEN
@AS_JSON
def clients(limit: int, admin: "AdminChoice", token_file: str | None, as_json: bool) -> None:
    """List the clients of a running styx with most connections, requests in flight, and hostnames that do not
    exist."""
    import msgspec

    from edge.rules.limits.client_records import ClientList

    status, body = ask(admin, "/v1/clients", token_file)
    with worker_replies(admin, status, body) as document:
        if as_json:
            click.echo(body)
            return
        with foreign_content(admin):
            lists = [msgspec.convert(reply["content"], ClientList) for reply in document["workers"]]
        click.echo(render_clients(merged_clients(lists)[:limit]))


def merged_clients(lists: Iterable["ClientList"]) -> list["ClientNow"]:
    """The clients of all workers together: who is at a limit first, then by what they take up."""
    from edge.rules.limits.client_records import ClientNow

    found: dict[str, ClientNow] = {}
    for each in (client for of_worker in lists for client in of_worker.clients):
        known = found.get(each.client, ClientNow(each.client, 0, 0, 0, False))
        found[each.client] = ClientNow(
            each.client,
            known.connections + each.connections,
            known.in_flight + each.in_flight,
            known.unknown_hosts + each.unknown_hosts,
            known.at_limit or each.at_limit,
        )
    return sorted(found.values(), key=lambda c: (not c.at_limit, -c.in_flight, -c.connections, -c.unknown_hosts))


def render_clients(clients: Sequence["ClientNow"]) -> str:
    """These clients as a table."""
    if not clients:
        return "no client is connected"
    lines = [f"{'client':<40} {'connections':>11} {'in flight':>9} {'unknown hostnames':>17}"]
    lines += [
        f"{c.client:<40} {c.connections:>11} {c.in_flight:>9} {c.unknown_hosts:>17}"
        f"{'  at its limit: further ones get 429' if c.at_limit else ''}"
        for c in clients
    ]
    return "\n".join(lines)
