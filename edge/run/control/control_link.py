"""A process's connection to the control channel of the admin process, which may be replaced at any time."""

import asyncio
import logging
import socket
from typing import Any, Final, NamedTuple, cast

from edge.run.control.control_messages import BadMessage, Message, Unpacker, packed

PAUSE: Final = 0.2
"Seconds between the end of a connection, or of an attempt, and the next attempt."

log = logging.getLogger("styx.control")


class Password(NamedTuple):
    """The address of the control channel, and the secret by which a process identifies itself."""

    address: str
    secret: bytes


class ControlLink(asyncio.Protocol):
    """A connection to the admin process, made again when it is lost. A subclass handles its beginning, its end, and
    each message. `kinds`: of messages that the admin process sends."""

    def __init__(self, password: Password, kinds: object) -> None:
        self._password = password
        self._kinds = kinds
        self._unpacker = Unpacker(kinds)
        self._transport: asyncio.Transport | None = None
        self._lost = asyncio.Event()

    async def stay_connected(self) -> None:
        """Connect now, and again whenever the connection is lost. Never returns."""
        loop = asyncio.get_running_loop()
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                sock.connect(self._password.address)
                self._lost.clear()
                await loop.create_unix_connection(lambda: self, sock=sock)
            except OSError as error:  # no process listens, or its backlog is full
                log.debug("control channel unavailable", extra={"code": "control_unavailable", "error": str(error)})
                sock.close()
            except BaseException:
                sock.close()
                raise
            else:
                await self._lost.wait()
            await asyncio.sleep(PAUSE)

    def _connected(self) -> None:
        """The connection is there; the first message must be `Hello`."""
        raise NotImplementedError

    def _disconnected(self) -> None:
        """The connection is lost."""
        raise NotImplementedError

    def _receive(self, message: Any) -> None:
        """A message has come. May raise BadMessage: the connection is closed then."""
        raise NotImplementedError

    def _has_room(self, most: int) -> bool:
        """Whether the process is connected, and less than `most` bytes wait for the admin process to read them."""
        transport = self._transport
        if transport is None or transport.is_closing():  # `connection_lost` comes a moment later
            return False
        return transport.get_write_buffer_size() < most

    def _send(self, message: Message) -> bool:
        """Send a message, if the process is connected. Returns whether it was sent."""
        # Writing to a transport that is closing raises (uvloop), and `connection_lost` comes a moment later.
        if self._transport is None or self._transport.is_closing():
            return False
        try:
            self._transport.write(packed(message))
        except BadMessage as error:
            log.error("control message not sent", extra={"code": "control_message_not_sent", "error": str(error)})
            return False
        return True

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._unpacker = Unpacker(self._kinds)
        self._connected()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._disconnected()
        self._lost.set()

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._unpacker.feed(data):
                self._receive(message)
        except BadMessage as error:
            log.warning("control connection closed", extra={"code": "bad_control_message", "error": str(error)})
            if self._transport is not None:
                self._transport.abort()
