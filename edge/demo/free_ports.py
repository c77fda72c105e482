"""Finds free ports of this machine, for demos and tests."""

import random
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LOWEST = 10_240
TRIES = 200
HELD = 100
"Number of ports that stay claimed, the last ones returned: a server listens long before its port is released."
_returned: deque[int] = deque(maxlen=1000)
"The last ports that this process returned; their servers may not listen yet."
_claims: dict[int, socket.socket] = {}
"By port: a socket whose abstract name only one process can bind, and which is closed when that process ends."


def is_free(port: int, address: str = "127.0.0.1") -> bool:
    """Whether a server could listen on this port now, as the only one.

    Tried without SO_REUSEPORT, with which the port of another styx would look free.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address, port))
            sock.listen(1)
        except OSError:
            return False
    return True


def free_port(preferred: int = 0, *, draw: Callable[[int, int], int] = random.randint) -> int:
    """Find a free port: `preferred` if it is free, else any.

    It is below the ephemeral ports, which the kernel gives to outgoing connections: one of these could be taken
    before its server listens. Another process that calls this meanwhile gets another port. Raises OSError.
    """
    if preferred and is_free(preferred) and _claim(preferred):
        return preferred
    highest = _first_ephemeral() - 1
    for _ in range(TRIES):
        port = draw(LOWEST, highest)
        if port not in _returned and is_free(port) and _claim(port):
            _returned.append(port)
            return port
    raise OSError(f"found no free port from {LOWEST} to {highest}")


def _claim(port: int) -> bool:
    """Claim a port for this process; False if another process has claimed it."""
    if port in _claims:
        return True
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0styx-port-{port}")
    except OSError:
        claim.close()
        return False
    _claims[port] = claim
    while len(_claims) > HELD:
        _claims.pop(next(iter(_claims))).close()
    return True


def release_ports() -> None:
    """Release all claims of this process, at its end: from now on another process may get these ports."""
    while _claims:
        _claims.popitem()[1].close()


def _first_ephemeral() -> int:
    first = 0
    with suppress(OSError, ValueError):
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return first if first > LOWEST + TRIES else 65_536
