"""`styx top`: the status page for a terminal, brought up to date each second until Ctrl-C."""

import time
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console
from rich.live import Live

from edge.admin.status_page.status_records import Snapshot
from edge.run.top.top_screen import screen


def run_top(read: Callable[[], Snapshot], *, once: bool, interval: float, console: Console | None = None) -> None:
    """Show what `read` returns, once or every `interval` seconds."""
    console = console or Console()
    if once:
        console.print(screen(read(), 60))
        return
    with suppress(KeyboardInterrupt), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(screen(read(), console.size.height), refresh=True)
            time.sleep(interval)
