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
"Ports that stay reserved, the last ones that were given: who waits for one listens long before it is released."
_given: deque[int] = deque(maxlen=1000)
"The last ones that this process was told of: nobody may listen there yet."
_reserved: deque[socket.socket] = deque()


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
    one of these could be taken by anybody's connection before its server is up. Reserved, so that no other process
    is given it meanwhile. Raises OSError."""
    if wish and is_free(wish):
        return wish
    highest = _first_ephemeral() - 1
    for _ in range(TRIES):
        port = draw(LOWEST, highest)
        if port not in _given and _reserve(port):
            _given.append(port)
            return port
    raise OSError(f"found no free port from {LOWEST} to {highest}")


def _reserve(port: int) -> bool:
    """Hold it by a socket that is bound and does not listen; False when somebody else has it, in whatever way.

    Who binds with SO_REUSEADDR, as servers do, can have it all the same, and who does not, as we do here, cannot.
    """
    sock = socket.socket()
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        return False
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _reserved.append(sock)
    while len(_reserved) > HELD:
        _reserved.popleft().close()
    return True


def _first_ephemeral() -> int:
    first = 0
    with suppress(OSError, ValueError):
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return first if first > LOWEST + TRIES else 65_536
