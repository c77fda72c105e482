"""What is asked of a connection's socket itself, because the loop has no word for it."""

import asyncio
import os
import select
import socket
import struct
from contextlib import suppress


def has_come(transport: asyncio.Transport) -> bool:
    """Whether there is something to read, of which the loop has not told yet."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


def unread(transport: asyncio.Transport, most: int) -> bytes:
    """What lies in the socket of a connection that was lost and is not closed yet, about `most` bytes of it.

    A failed write ends a connection at once, though the peer's last words may have come. Linux gives them out even
    after a reset: only what has not been sent is thrown away (tcp(7), tcp_reset in net/ipv4/tcp_input.c).
    """
    descriptor, parts, size = transport.get_extra_info("socket").fileno(), [], 0
    with suppress(OSError):
        while size < most and (data := os.read(descriptor, 1 << 16)):
            parts.append(data)
            size += len(data)
    return b"".join(parts)


def read_away(transport: asyncio.Transport) -> None:
    """Read what has come, and throw it away: left unread when we close, it would cause a reset."""
    if has_come(transport):
        with suppress(OSError):
            os.read(transport.get_extra_info("socket").fileno(), 65536)


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
