"""The channel between the master and one of its children: a socket pair, made before the fork.

The master has no event loop: it sends at once or not at all, and reads when its poll reports data. The child reads
in its loop. When one side ends, however it ends, the other reads end of file.

A channel can be stolen: another process of the same user may copy the socket of a child (pidfd_getfd(2)). So the
master checks the sender that the kernel reports, and accepts from each kind of child only its own kinds of message.
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

TIMEOUT = 1.0
"Seconds that the master waits for a child that does not read. A message is a few KiB; the socket buffers 200."
CHUNK = 65536

log = logging.getLogger("styx.channel")


class MasterEnd:
    """The master's end. `ask_for_senders` has been called on the socket before the child was forked.

    `legal`: a union of the messages that this child may send; `pid`: the child's process id.
    """

    def __init__(self, sock: socket.socket, legal: object, pid: int) -> None:
        self.sock = sock
        sock.settimeout(TIMEOUT)
        self.ended = False
        "No more messages will come."
        self.violation = ""
        "The violation of the protocol that ended it, if one did."
        self._pid = pid
        self._unpacker = Unpacker(legal, MOST_FROM_CHILD)

    def send(self, message: Message, along: socket.socket | None = None) -> bool:
        """Send a message, and this socket along with it. Returns whether the child will get them. A child that does
        not read is left to the watchdog."""
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
        """The messages that have come. None after end of file, or after the first illegal message or sender
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
                messages.extend(self._unpacker.feed(data))  # up to the first bad one
        except BlockingIOError:
            pass
        except BadMessage as error:
            self.ended, self.violation = True, str(error)
        except OSError:
            self.ended = True
        return messages

    def hang_up(self) -> None:
        """End the channel: the child reads end of file after the messages that were sent before."""
        self.ended = True
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.sock.close()


class ChildEnd:
    """A child's end. Passes each message to the callback of `listen`, and None when the master is gone."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unpacker = Unpacker(ToChild)
        self._received: Callable[[Any], None] | None = None
        self._descriptors: deque[int] = deque()
        "Received descriptors, in their order; the message that one belongs to may come a moment later."

    def listen(self, received: Callable[[Any], None]) -> None:
        """Begin to read, in the running loop; call `received` with each message."""
        self._received = received
        self._sock.setblocking(False)
        asyncio.get_running_loop().add_reader(self._sock, self._read)

    def send(self, message: Message) -> None:
        """Send a message: a few bytes, for which there is always room. If the master is gone, the reader
        notices."""
        try:
            self._sock.sendall(packed(message))
        except BadMessage as error:
            log.error(
                "message to the master not sent", extra={"code": "channel_message_not_sent", "error": str(error)}
            )
        except OSError:
            return

    def take_socket(self) -> socket.socket | None:
        """The socket that came with the message being handled. None = the kernel dropped it, because this process
        has too many open files."""
        return socket.socket(fileno=self._descriptors.popleft()) if self._descriptors else None

    def _read(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._sock, CHUNK, 1)
            self._descriptors.extend(descriptors)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            for message in self._unpacker.feed(data):
                self._receive(message)
        except BadMessage as error:
            log.error(
                "bad message on the channel",
                extra={"code": "bad_channel_message", "error": str(error)},
            )
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._receive(None)

    def _receive(self, message: Any) -> None:
        """Handle one message. An exception is logged, so that the messages behind it are handled."""
        assert self._received is not None
        try:
            self._received(message)
        except Exception:
            log.exception(
                "message from the master failed",
                extra={"code": "channel_message_failed", "message_type": type(message).__name__},
            )
