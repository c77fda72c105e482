"""What is asked of a connection's socket itself, because the loop has no call for it.

Nobody else looks at the descriptor of a connection: what it tells depends on the transport. Under TLS, an idle
socket may be readable, and what lies in it is not what the peer said.
"""

import asyncio
import os
import select
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial


def descriptor_of(transport: asyncio.Transport) -> int:
    """The descriptor by which the end of the connection can be noticed while nothing is read from it."""
    return int(transport.get_extra_info("socket").fileno())


def input_poll(transport: asyncio.Transport) -> Callable[[], Sequence[object]]:
    """A function that returns something when there are bytes, or an end, to read of which the loop has not told
    yet. A call takes 0.4 microseconds on bare metal, five and more in a virtual machine."""
    poll = select.poll()
    poll.register(descriptor_of(transport), select.POLLIN)
    return partial(poll.poll, 0)


def has_come(transport: asyncio.Transport) -> bool:
    """Whether there is something to read, of which the loop has not told yet."""
    return bool(input_poll(transport)())


def unread(transport: asyncio.Transport, most: int) -> bytes:
    """What lies in the socket of a connection that was lost and is not closed yet, about `most` bytes of it.

    A failed write ends a connection at once, though the peer's last words may have come. Linux gives them out even
    after a reset: only what has not been sent is thrown away (tcp(7), tcp_reset in net/ipv4/tcp_input.c).
    """
    descriptor, parts, size = descriptor_of(transport), [], 0
    with suppress(OSError):
        while size < most and (data := os.read(descriptor, 1 << 16)):
            parts.append(data)
            size += len(data)
    return b"".join(parts)


def read_away(transport: asyncio.Transport) -> None:
    """Read what has come, and throw it away: left unread when we close, it would cause a reset."""
    if has_come(transport):
        with suppress(OSError):
            os.read(descriptor_of(transport), 65536)


def reset(transport: asyncio.Transport) -> None:
    """Close at once, with a reset: what waits to be sent is thrown away, and the peer can tell."""
    raw = transport.get_extra_info("socket")
    with suppress(OSError):  # it is gone already
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def drop(transport: asyncio.Transport) -> None:
    """Close at once. A peer that has not taken all is reset: after an orderly end, a response that ends with its
    connection would look complete."""
    if transport.get_write_buffer_size():
        reset(transport)
    else:
        transport.abort()
