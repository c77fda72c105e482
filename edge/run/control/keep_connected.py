"""Keeps a process connected to the control channel of the admin process, which may be replaced at any time."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

PAUSE: Final = 0.2
"Seconds between the end of a connection, or of an attempt, and the next attempt."

log = logging.getLogger("styx.control")


async def keep_connected(address: str, begin: Callable[[], asyncio.Protocol], lost: asyncio.Event) -> None:
    """Connect to the Unix socket at this address now, and again whenever the connection is lost. Never returns.

    `begin` returns the protocol, ready for a new connection; the protocol sets `lost` when its connection is lost.
    """
    loop = asyncio.get_running_loop()
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect(address)
            lost.clear()
            await loop.create_unix_connection(begin, sock=sock)
        except OSError as error:  # no process listens, or its backlog is full
            log.debug("control channel unavailable", extra={"code": "control_unavailable", "error": str(error)})
            sock.close()
        except BaseException:
            sock.close()
            raise
        else:
            await lost.wait()
        await asyncio.sleep(PAUSE)
