"""Ports of this machine that nobody uses, for demos and tests."""

import random
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LOWEST = 10_240
TRIES = 200
HELD = 100
"Ports that stay claimed, the last ones that were given: who waits for one listens long before it is released."
_given: deque[int] = deque(maxlen=1000)
"The last ones that this process was told of: nobody may listen there yet."
_claims: dict[int, socket.socket] = {}
"By port; a name that only one process can have, and that ends with it."


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


def free_port(wish: int = 0, *, draw: Callable[[int, int], int] = random.randint) -> int:
    """`wish` if it is free, else any free port, from below those that the machine gives to outgoing connections:
    one of these could be taken by anybody's connection before its server is up. Another process that asks meanwhile
    is given another one. Raises OSError."""
    if wish and is_free(wish) and _claim(wish):
        return wish
    highest = _first_ephemeral() - 1
    for _ in range(TRIES):
        port = draw(LOWEST, highest)
        if port not in _given and is_free(port) and _claim(port):
            _given.append(port)
            return port
    raise OSError(f"found no free port from {LOWEST} to {highest}")


def _claim(port: int) -> bool:
    """Make it ours; False when another process was given it, and does not listen yet."""
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


def _first_ephemeral() -> int:
    first = 0
    with suppress(OSError, ValueError):
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return first if first > LOWEST + TRIES else 65_536
