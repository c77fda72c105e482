"""Draws the screen of `styx top` from a snapshot: what is served, the environments, and recent events. Pure."""

import time
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge.admin.explain_text import duration
from edge.admin.status_page.status_records import Snapshot
from edge.rules.environment_status_records import ContainerStatus, EnvironmentStatus
from edge.rules.traffic.top_records import Top

COLOURS: Final = {
    "healthy": "green",
    "recovering": "cyan",
    "probation": "yellow",
    "silent": "magenta",
    "cold": "blue",
    "down": "red",
    "draining": "bright_black",
    "drained": "bright_black",
}
"By condition. Words say the same, for terminals without colours."
WIDTH: Final = 20
"Characters of the bar of an environment's containers."
WIDEST: Final = 24
"Characters of the name of an environment."
TALL: Final = 36
"Lines from which a screen has room for the top sites."
MOST_EVENTS: Final = 6


def screen(snapshot: Snapshot, lines: int) -> RenderableType:
    """The whole screen, of about `lines` lines."""
    parts: list[RenderableType] = [_heading(snapshot), _now(snapshot)]
    rows = _top_rows(snapshot.environments.top) if snapshot.environments.top is not None and lines >= TALL else []
    below = len(snapshot.workers) + len(snapshot.listeners) + len(snapshot.drains)
    parts.append(_environments(snapshot, max(3, lines - 15 - below - len(rows))))
    if rows:
        parts.append(_top(rows))
    parts += [_workers(snapshot), _listeners(snapshot)]
    parts += [
        Text(f"drained: {drain.kind} {drain.name} by {drain.by or 'unknown'}, {duration(drain.seconds)} left")
        for drain in snapshot.drains
    ]
    parts.append(_events(snapshot))
    return Group(*parts)


def _heading(snapshot: Snapshot) -> Text:
    good = snapshot.stage == "ready"
    text = Text.assemble((snapshot.edge, "bold"), "  ", (snapshot.stage, "green" if good else "yellow"))
    if snapshot.reason:
        text.append(f": {snapshot.reason}")
    source = snapshot.source
    name = "file of routes" if source.kind == "file" else "core API"
    text.append(f"   {snapshot.routes.known:.0f} hostnames, {snapshot.environments.total} environments   ")
    text.append(f"{name} {'works' if source.up else 'fails'}", "green" if source.up else "red")
    if source.kind != "file" and not source.changes_up:
        text.append(", no stream of changes", "yellow")
    return text


def _now(snapshot: Snapshot) -> Text:
    now = snapshot.now
    blames = {"client": "client", "backend": "backend", "core": "core API", "edge": "edge"}
    failed = [f"{name} {now.by_blame[key]:.1f}" for key, name in blames.items() if now.by_blame.get(key)]
    text = Text(f"{now.requests:.0f} requests/s")
    text.append(f", failed: {', '.join(failed)}" if failed else ", none failed", "red" if failed else "green")
    text.append(f"   median {_ms(now.p50)}, 95 % {_ms(now.p95)}, 99 % {_ms(now.p99)}")
    text.append(f"   {now.retries:.1f} retries/s, {now.refusals:.1f} refusals/s")
    text.append(f"   {now.in_flight:.0f} in flight, {now.connections:.0f} clients")
    return text


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def _environments(snapshot: Snapshot, room: int) -> Table:
    table = Table(expand=True, box=None, pad_edge=False)
    table.add_column("environment", no_wrap=True, max_width=WIDEST)
    table.add_column("per second", no_wrap=True, justify="right")
    table.add_column("in flight", no_wrap=True, justify="right")
    table.add_column("containers", no_wrap=True, min_width=WIDTH + 4, max_width=WIDTH + 8)
    table.add_column("", no_wrap=True, ratio=1)  # gives way first in a narrow terminal
    shown = sorted(snapshot.environments.shown, key=lambda e: (not e.in_trouble, -e.rate))
    for environment in shown[:room]:
        table.add_row(
            Text(f"{environment.site}/{environment.environment}", "bold" if environment.in_trouble else ""),
            f"{environment.rate:.1f}",
            str(environment.in_flight),
            bar(environment.containers),
            notes(environment),
        )
    return table


def bar(containers: Iterable[ContainerStatus]) -> Text:
    """The containers, each as wide as its share, in the colour of its condition; a letter = it has no share."""
    text = Text()
    for container in containers:
        width = round(container.share * WIDTH)
        colour = COLOURS[container.condition]
        text.append("█" * width if width else container.condition[:1].upper(), colour)
        text.append(" ")
    return text


def notes(environment: EnvironmentStatus) -> Text:
    """The remarkable facts about an environment."""
    text = Text()
    if environment.maintenance:
        text.append("maintenance ")
    if environment.redirect:
        text.append(f"redirected to {environment.redirect} ")
    if environment.drained:
        text.append("drained by an operator ", "yellow")
    for container in environment.containers:
        if container.condition in ("down", "probation"):
            why = f" ({container.why})" if container.why else ""
            text.append(f"{container.id} {container.condition}{why} ", COLOURS[container.condition])
    return text


def _top_rows(top: Top) -> list[list[str]]:
    """The first ones of each list, side by side: a name and a number of each."""
    columns = [
        [(one, f"{one.requests_per_second:.1f}") for one in top.rate],
        [(one, f"{one.failures_per_second:.2f}") for one in top.errors],
        [(one, _ms(one.mean_ms)) for one in top.latency],
    ]
    cells = [[(f"{one.site}/{one.environment}", number) for one, number in column] for column in columns]
    return [[text for cell in row for text in cell] for row in zip_longest(*cells, fillvalue=("", ""))]


def _top(rows: Iterable[Sequence[str]]) -> Table:
    table = Table(expand=True, box=None, pad_edge=False)
    for name, number in (("most requests", "per second"), ("most errors", "per second"), ("slowest", "mean")):
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=2)
        table.add_column(number, no_wrap=True, justify="right", ratio=1)
    for row in rows:
        table.add_row(*(Text(text, "red" if n == 3 else "") for n, text in enumerate(row)))
    return table


def _workers(snapshot: Snapshot) -> Table:
    table = Table(expand=False, box=None, pad_edge=False)
    for heading in ("worker", "process", "in flight", "clients", "loop lag"):
        table.add_column(heading, justify="right")
    for worker in snapshot.workers:
        late = worker.heard > 2.0
        table.add_row(
            f"{worker.slot}{' (leaving)' if worker.leaving else ''}",
            str(worker.pid),
            f"{worker.in_flight:.0f}",
            f"{worker.connections:.0f}",
            Text(f"silent for {duration(worker.heard)}", "red") if late else _ms(worker.lag_ms),
        )
    return table


def _listeners(snapshot: Snapshot) -> Table:
    table = Table(expand=False, box=None, pad_edge=False)
    for heading in ("listener", "clients", "waiting"):
        table.add_column(heading, justify="left" if heading == "listener" else "right")
    for one in snapshot.listeners:
        waits = Text(f"{one.queue:.0f}", "yellow" if one.queue else "")
        table.add_row(Text(one.address), f"{one.connections:.0f}", waits)
    return table


def _events(snapshot: Snapshot) -> Panel:
    lines = [
        Text.assemble(
            (time.strftime("%H:%M:%S ", time.localtime(event.at)), "dim"),
            (event.text, {"warning": "yellow", "error": "red", "critical": "red"}.get(event.level, "")),
            (f" {event.fields}", "dim"),
        )
        for event in snapshot.events[:MOST_EVENTS]
    ]
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Panel(Group(*lines) if lines else Text("nothing to report", "dim"), title="events", title_align="left")
