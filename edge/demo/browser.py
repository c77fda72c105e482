"""Opens the demo's page in the browser of the desktop, if there is one."""

import os
import sys
import webbrowser
from collections.abc import Mapping
from threading import Thread

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def has_desktop(environ: Mapping[str, str], *, terminal: bool) -> bool:
    """Whether somebody at a terminal of a desktop started this process.

    Without a desktop, `webbrowser` would start a browser that takes over the terminal.
    """
    return terminal and any(environ.get(name) for name in DISPLAYS)


def open_browser(url: str) -> None:
    """Open this page, if there is a desktop."""
    if has_desktop(os.environ, terminal=sys.stdout.isatty()):
        # In a thread, because some browsers return only when they have ended.
        Thread(target=webbrowser.open, args=(url,), name="browser", daemon=True).start()
