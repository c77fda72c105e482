"""The line between the master and one of its children: a socket pair, made before the fork.

The master has no event loop: it sends at once or not at all, and reads what its poll tells it to. The child reads
in its loop. When one side ends, however it ends, the other reads the end of the line.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from edge.run.orders import BadMessage, FromChild, Message, ToChild, Unpacker, packed

PATIENCE = 1.0
"Seconds that the master waits for a child that does not read; an order is a few KiB, the line holds 200."
CHUNK = 65536


class MasterEnd:
    """Held by the master."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE)
        self.ended = False
        "Nothing more will come."
        self._unpacker = Unpacker(FromChild)

    def tell(self, message: Message, along: socket.socket | None = None) -> bool:
        """Whether the child will get it, and this socket. One that does not read is the watchdog's business."""
        try:
            data = packed(message)
            sent = 0
            if along is not None:
                sent = socket.send_fds(self.sock, [data], [along.fileno()])
            self.sock.sendall(data[sent:])
        except (OSError, BadMessage):
            return False
        return True

    def read(self) -> list[Any]:
        """What has come. Nothing when the line has ended or the child is out of its mind; its end tells more."""
        try:
            data = self.sock.recv(CHUNK, socket.MSG_DONTWAIT)
            self.ended = not data
            return list(self._unpacker.feed(data))
        except BlockingIOError:
            return []
        except (OSError, BadMessage):
            self.ended = True
            return []

    def close(self) -> None:
        self.sock.close()


class ChildEnd:
    """Held by a child. `heard` gets each message, and None when the master is gone."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unpacker = Unpacker(ToChild)
        self._heard: Callable[[Any], None] | None = None
        self._came: deque[int] = deque()
        "Descriptors, in their order; the message that they belong to may come a moment later."

    def listen(self, heard: Callable[[Any], None]) -> None:
        """Begin to read, in the running loop."""
        self._heard = heard
        self._sock.setblocking(False)
        asyncio.get_running_loop().add_reader(self._sock, self._read)

    def tell(self, message: Message) -> None:
        """A few bytes, for which there is always room; if the master is gone, the reader will notice."""
        try:
            self._sock.sendall(packed(message))
        except OSError:
            return

    def take_socket(self) -> socket.socket | None:
        """The one that came along with the message that is being heard. None = the kernel gave us none, because we
        have too many files open."""
        return socket.socket(fileno=self._came.popleft()) if self._came else None

    def _read(self) -> None:
        assert self._heard is not None
        try:
            data, came, _, _ = socket.recv_fds(self._sock, CHUNK, 1)
            self._came.extend(came)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._heard(None)
            return
        for message in self._unpacker.feed(data):
            self._heard(message)
