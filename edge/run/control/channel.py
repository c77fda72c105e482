"""The line between the master and one of its children: a socket pair, made before the fork.

The master has no event loop: it sends at once or not at all, and reads what its poll tells it to. The child reads
in its loop. When one side ends, however it ends, the other reads the end of the line.

A line can be stolen: whoever is the same user as a child may take a copy of its socket (pidfd_getfd(2)). So the
master believes what the kernel says of the sender, and hears from each kind of child what that has to say, and no
more.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from edge.run.control.control_messages import MOST_FROM_CHILD, BadMessage, Message, ToChild, Unpacker, packed
from edge.run.control.peer_credentials import SPACE, sender_in

PATIENCE = 1.0
"Seconds that the master waits for a child that does not read; an order is a few KiB, the line holds 200."
CHUNK = 65536

log = logging.getLogger("styx.lifeline")


class MasterEnd:
    """Held by the master. The socket has been told to `ask_for_senders` before the child was forked.

    `legal`: a union of the messages that this child may send; `pid`: the child's process id.
    """

    def __init__(self, sock: socket.socket, legal: object, pid: int) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE)
        self.ended = False
        "Nothing more will come."
        self.violation = ""
        "What was not as agreed, if that is why it ended."
        self._pid = pid
        self._unpacker = Unpacker(legal, MOST_FROM_CHILD)

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
        """What has come. Nothing more after the end of the line, or after the first message that is not as agreed
        (`violation`)."""
        messages: list[Any] = []
        if self.violation:
            return messages
        try:
            data, ancillary, flags, _ = self.sock.recvmsg(CHUNK, SPACE, socket.MSG_DONTWAIT)
            self.ended = not data
            if data:
                sender = sender_in(ancillary)
                if flags & socket.MSG_CTRUNC or sender is None or sender.pid != self._pid:
                    raise BadMessage(f"sent by process {sender.pid if sender else 'unknown'}")
                messages.extend(self._unpacker.feed(data))  # up to the bad one, if there is one
        except BlockingIOError:
            pass
        except BadMessage as error:
            self.ended, self.violation = True, str(error)
        except OSError:
            self.ended = True
        return messages

    def hang_up(self) -> None:
        """End the line: the child reads that the master is gone, after what it was told before."""
        self.ended = True
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

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
        except BadMessage as error:
            log.error(
                "message to the master not sent", extra={"code": "channel_message_not_sent", "error": str(error)}
            )
        except OSError:
            return

    def take_socket(self) -> socket.socket | None:
        """The one that came along with the message that is being heard. None = the kernel gave us none, because we
        have too many files open."""
        return socket.socket(fileno=self._came.popleft()) if self._came else None

    def _read(self) -> None:
        try:
            data, came, _, _ = socket.recv_fds(self._sock, CHUNK, 1)
            self._came.extend(came)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            for message in self._unpacker.feed(data):
                self._hear(message)
        except BadMessage as error:
            log.error(
                "bad message on the channel",
                extra={"code": "bad_channel_message", "error": str(error)},
            )
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._hear(None)

    def _hear(self, message: Any) -> None:
        """A message that cannot be dealt with must not take along those that came with it."""
        assert self._heard is not None
        try:
            self._heard(message)
        except Exception:
            log.exception(
                "message from the master failed",
                extra={"code": "channel_message_failed", "message_type": type(message).__name__},
            )
