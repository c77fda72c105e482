"""What the tests of whole processes share besides fixtures."""

import contextlib
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
COMMAND = (sys.executable, "-m", "edge")

DEADLINE = 100.0
"Seconds after which a wait in a test has failed: many, for processes start slowly on a machine that is busy."

CONFIG = """\
listeners: [{{address: "127.0.0.1:{port}"}}]
core_api: {{url: "{core_api}"}}
admin: {{address: "{admin}"}}
workers: 1
drain: {{delay: 0s}}
"""


def listens(port: int) -> bool:
    """Whether anybody takes connections there."""
    with socket.socket() as sock, contextlib.suppress(OSError):
        sock.settimeout(1)
        sock.connect(("127.0.0.1", port))
        return True
    return False


def is_alive(pid: int) -> bool:
    """Whether the process still runs; one that only waits to be buried does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
