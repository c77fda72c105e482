"""Ports of this machine that nobody uses, for demos and tests."""

import random
import socket
from collections import deque
from pathlib import Path

LOWEST = 10_240
TRIES = 200
_given: deque[int] = deque(maxlen=1000)
"The last ones that this process was told of: nobody may listen there yet."


def is_free(port: int, address: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now, with nobody else on it.

    Without SO_REUSEPORT, which would let us sit down beside another styx and share its clients.
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


def free_port(wish: int = 0) -> int:
    """`wish` if it is free, else any free port, from below those that the machine gives to outgoing connections:
    one of these could be taken by anybody's connection before its server is up. Raises OSError."""
    if wish and is_free(wish):
        return wish
    highest = _first_ephemeral() - 1
    for _ in range(TRIES):
        port = random.randint(LOWEST, highest)
        if port not in _given and is_free(port):
            _given.append(port)
            return port
    raise OSError(f"found no free port from {LOWEST} to {highest}")


def _first_ephemeral() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        first = 32_768
    return first if first > LOWEST + TRIES else 65_536
