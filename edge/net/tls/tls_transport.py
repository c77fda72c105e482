"""TLS over a transport of the loop: to the loop it is a protocol, to the application a transport.

    socket ─► loop's transport ─► TlsTransport ─► application, as its `data_received`
    socket ◄─ loop's transport ◄─ TlsTransport ◄─ application, by `write`

It has what the connections of this package ask of a transport, no more. Plaintext is never held: what is decrypted
is handed over at once, and one write is encrypted whole, so back-pressure is that of the socket's transport in both
directions. At most the rest of one read waits, and in OpenSSL a record that has not come whole, of 16 KiB.

    close_notify        the end of the other side's half: `eof_received`
    end of the socket   the same without close_notify, but the connection is then lost with an error (RFC 8446,
                        section 6.1: what came may be cut off), so that a close-delimited response is not complete
    close, write_eof    close_notify is sent first; that of the other side is not waited for
    renegotiation       refused by the context (OP_NO_RENEGOTIATION)
    KeyUpdate           answered by OpenSSL, with the next write
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final, Protocol, cast

from edge.net.tls.bio_pair import BioPair
from edge.net.transport.encrypted_transport import EncryptedTransport
from edge.net.transport.read_budget import SHORT
from edge.net.transport.small_reads import FIRST, ByteProtocol, SmallReads, read_in_small_pieces
from edge.net.transport.socket_state import input_poll, unread

RECORD: Final = 16384
"Bytes of plaintext in one record, at most (RFC 8446, section 5.1). OpenSSL returns one record at a time."
WRITE_AT_ONCE: Final = 128 * 1024
"Bytes that are encrypted at once, so that the shared BIO stays small."
PIECE: Final = RECORD + 24
"Bytes of a long read that are decrypted before the clock is read: a whole record."
LEAST_PIECE: Final = 1024
"The same when that took too long."
TIME_SLICE: Final = 0.001
"Seconds for which one connection may decrypt in a turn of the loop."
TRUNCATED: Final = "the connection ended without close_notify"


class HandshakeHandler(Protocol):
    """Receives the end of a handshake."""

    def handshake_done(self, early: bytes) -> None:
        """The handshake is complete; `early`: plaintext that came with its last message. Sets the protocol."""

    def handshake_failed(self, error: Exception) -> None:
        """The handshake has failed. An alert is sent and the connection closed; `handshake_lost` follows."""

    def handshake_lost(self, exc: Exception | None) -> None:
        """The connection has ended before the handshake was complete, or after it failed."""


class TlsTransport(EncryptedTransport):
    """One TLS connection, of either side. (No subclass of asyncio's classes: a loop only looks up the methods.)"""

    __slots__ = (
        "_bios",
        "_eof_received",
        "_eof_sent",
        "_failure",
        "_handler",
        "_is_closing",
        "_is_paused",
        "_is_scheduled",
        "_piece",
        "_protocol",
        "_raw",
        "_ssl",
        "_unread",
        "at_end",
        "has_received",
    )

    def __init__(self, raw: asyncio.Transport, tls: ssl.SSLObject | None, bios: BioPair) -> None:
        """`tls` was made with this pair of BIOs; None = `begin` gets it. `raw` is taken over by `begin`, or by
        `wait` before it."""
        self._raw = raw
        self._ssl = tls
        self._bios = bios
        self._handler: HandshakeHandler | None = None
        "Who waits for the handshake; None = it is complete."
        self._protocol: ByteProtocol | None = None
        "The application; before the handshake, who gets what is received."
        self._unread = b""
        "The rest of a long read, which is left to a later turn of the loop; the socket is paused meanwhile."
        self._piece = PIECE
        self._is_paused = self._is_scheduled = self._is_closing = False
        "The first: whether the application has paused reading."
        self._eof_sent = self._eof_received = False
        self.at_end: Callable[[], None] | None = None
        "Called when the connection is lost, while its SSLObject is still there."
        self.has_received = False
        "Whether anything came after the handshake, such as a session."
        self._failure: Exception | None = None
        "Why the connection is closed, as `connection_lost` tells it."

    def __repr__(self) -> str:
        state = "closing" if self._is_closing else "handshake" if self._handler is not None else "open"
        return f"<TlsTransport {state} {self._protocol!r}>"

    def wait(self, first: ByteProtocol) -> None:
        """Take over the socket's transport before the handshake; until it begins, `first` gets what is received.
        (Later it would take two system calls: uvloop stops reading and starts again.)"""
        self._protocol = first
        self._raw.set_protocol(cast(asyncio.Protocol, self))

    def give_back(self, protocol: object) -> None:
        """Nothing is to be encrypted: the socket's transport has this protocol from now on."""
        self._protocol = None
        self._raw.set_protocol(cast(asyncio.Protocol, protocol))

    def begin(self, handler: HandshakeHandler, data: bytes, tls: ssl.SSLObject | None = None) -> None:
        """Begin the handshake, with `data` that was read before. The socket's transport is taken over, unless
        `wait` has done so. `tls`: if the constructor did not get it."""
        self._handler = handler
        if tls is not None:
            self._ssl = tls
        if self._protocol is None:
            self._raw.set_protocol(cast(asyncio.Protocol, self))
        self._protocol = None
        if data:
            self._bios.incoming.write(data)
        self._shake_hands()

    # asyncio.Protocol, for the socket's transport

    def read_buffer(self) -> memoryview:
        """The part of the shared buffer for the next read; called by `SmallReads`."""
        protocol = self._protocol
        return protocol.get_buffer(-1) if isinstance(protocol, SmallReads) else FIRST

    def data_received(self, data: bytes) -> None:
        """Decrypt what was read, and hand it over."""
        if self._ssl is None:
            if self._protocol is not None:
                self._protocol.data_received(data)
        elif self._unread:
            self._unread += data
        elif len(data) > SHORT:
            read_in_small_pieces(self._raw, self)
            self._receive(data)
        elif not (self._is_closing or self._eof_received):
            self._bios.incoming.write(data)
            if self._handler is not None:
                self._shake_hands()
            else:
                self._hand_over(self._decrypt(len(data)))

    def _receive(self, data: bytes) -> None:
        """Decrypt a long read piece by piece, until the time for one connection in a turn is used up. (In 256 KiB,
        9,700 messages of KeyUpdate have room, which would take 80 ms.)"""
        began, view, at, pieces = monotonic(), memoryview(data), 0, list[bytes]()
        while at < len(data) and not (self._is_closing or self._eof_received):
            if at and monotonic() - began > TIME_SLICE:
                self._keep(bytes(view[at:]))
                break
            self._bios.incoming.write(view[at : at + self._piece])
            at += self._piece
            if self._handler is not None:
                self._shake_hands()
            else:
                pieces.append(self._decrypt())
        else:
            self._piece = min(PIECE, self._piece * 2)
        self._hand_over(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _keep(self, rest: bytes) -> None:
        """Leave this much of a read to a later turn of the loop, and take less of it at once."""
        self._unread = rest
        self._piece = max(LEAST_PIECE, self._piece // 2)
        if not self._is_paused:
            self._raw.pause_reading()
            self._receive_later()

    def _receive_later(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._receive_on)

    def _receive_on(self) -> None:
        self._is_scheduled = False
        if self._is_paused or self._is_closing or not self._unread:
            return
        data, self._unread = self._unread, b""
        self._receive(data)
        if not (self._unread or self._is_paused or self._is_closing or self._raw.is_closing()):
            self._raw.resume_reading()

    def eof_received(self) -> bool:
        """Report the end of the socket, unless close_notify came before."""
        if self._handler is not None or self._is_closing or self._protocol is None:
            return False
        if self._eof_received:
            return True  # it was said before, and the application has kept its own half open
        self._eof_received = True
        self._failure = ConnectionAbortedError(TRUNCATED)
        return bool(self._protocol.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end of the connection: to the application, or to who waits for the handshake."""
        self._is_closing = True
        protocol, handler = self._protocol, self._handler
        self._handler = None
        try:
            if handler is not None:
                handler.handshake_lost(self._failure or exc)
            elif protocol is not None:
                protocol.connection_lost(self._failure or exc)
        finally:
            if self.at_end is not None:
                self.at_end()
            self._ssl = self._protocol = self.at_end = None

    def pause_writing(self) -> None:
        if self._handler is None and self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._handler is None and self._protocol is not None:
            self._protocol.resume_writing()

    # asyncio.Transport, for the application

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set the application, which gets what is received from now on."""
        self._protocol = cast(ByteProtocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The application."""
        return cast(asyncio.BaseProtocol, self._protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As of the socket's transport; `ssl_object`: the SSLObject, until the connection is lost; `tls_failure`:
        the error for which it was closed."""
        if name == "tls_failure":
            return self._failure
        return self._ssl if name == "ssl_object" else self._raw.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt bytes and send them. Bytes for a connection that is closed, or whose half is, are discarded."""
        if self._is_closing or self._eof_sent or not data or self._ssl is None:
            return
        if len(data) > WRITE_AT_ONCE:
            view = memoryview(data)
            for at in range(0, len(data), WRITE_AT_ONCE):
                self.write(view[at : at + WRITE_AT_ONCE])
            return
        try:
            self._ssl.write(data)
        except ssl.SSLError as error:
            self._fail(error)
        else:
            self._raw.write(self._bios.outgoing.read())

    def writelines(self, parts: Sequence[bytes]) -> None:
        """Encrypt several pieces as one, because each would be a record of its own."""
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        """Close the sending half: close_notify, and the end of the socket's half. What comes is still read."""
        if not self._is_closing:
            self._send_close_notify()
            self._raw.write_eof()

    def can_write_eof(self) -> bool:
        """Whether `write_eof` can be called."""
        return True

    def close(self) -> None:
        """Send close_notify and close when everything is sent."""
        if not self._is_closing:
            self._send_close_notify()
            self._is_closing = True
            self._raw.close()

    def abort(self) -> None:
        """Close at once, without close_notify: unsent bytes are discarded."""
        self._is_closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        """Whether the connection is closed, or will be when everything is sent."""
        return self._is_closing or self._raw.is_closing()

    def pause_reading(self) -> None:
        """Read no more from the socket."""
        self._is_paused = True
        if not self._unread:  # or else it is paused
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Read from the socket again, first what was read before."""
        self._is_paused = False
        if self._unread:
            self._receive_later()
        else:
            self._raw.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the watermarks of the write buffer, in encrypted bytes."""
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The watermarks, low and high."""
        return self._raw.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """Encrypted bytes that are not sent yet."""
        return self._raw.get_write_buffer_size()

    # EncryptedTransport

    def unread(self, most: int) -> bytes:
        """As `socket_state.unread`, decrypted. Called in `connection_lost`."""
        data = self._unread + unread(self._raw, most)
        self._unread = b""
        if not data or self._ssl is None or self._eof_received:
            return b""
        self._bios.incoming.write(data)
        pieces: list[bytes] = []
        try:
            while piece := self._ssl.read(RECORD):
                pieces.append(piece)
        except ssl.SSLWantReadError:  # all is read
            pass
        except ssl.SSLError as error:
            self._failure = self._failure or error
        self._bios.clear()
        return b"".join(pieces)

    def receive_pending(self) -> Sequence[object]:
        """Take in what the socket holds now, up to one read; what it means for the application is not empty.

        Session tickets and KeyUpdate are nothing to the application, which has no request under way; bytes, an end
        or an error are handed over in a later turn of the loop.
        """
        if self._is_closing or self._eof_received:
            return (self,)
        if not input_poll(self._raw)():
            return ()
        data = unread(self._raw, 1)
        if not data:
            return (self,)
        self._bios.incoming.write(data)
        received = self._decrypt()
        if not received and not self._is_closing and not self._eof_received:
            return ()
        asyncio.get_running_loop().call_soon(self._hand_over, received)
        return (self,)

    # OpenSSL

    def _shake_hands(self) -> None:
        """Take the next steps of the handshake, with what is in the BIOs."""
        tls, handler = self._ssl, self._handler
        if tls is None or handler is None:
            return
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send_outgoing()
            return
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._send_outgoing()
        # (Without input, OpenSSL would raise an exception, which takes five microseconds.)
        early = self._decrypt() if self._bios.incoming.pending else b""
        if self._handler is None or self._is_closing:
            return  # the bytes after the handshake were no record of this connection, and it has failed
        self._handler = None
        handler.handshake_done(early)
        if self._eof_received:
            self._hand_over(b"")

    def _decrypt(self, most: int = RECORD) -> bytes:
        """Decrypt all that is in the BIO, and send what OpenSSL has to say to it. Sets `_eof_received` at
        close_notify. `most`: bytes that are expected, for which room is made; more come in pieces."""
        tls, bios = self._ssl, self._bios
        if tls is None:
            bios.clear()
            return b""
        self.has_received = True
        data = b""
        pieces: list[bytes] | None = None
        try:
            data = tls.read(most)
            # With the end of a record whose beginning came before, more may come out than went in.
            while data and (bios.incoming.pending or len(data) == most < RECORD):
                if pieces is None:
                    pieces = []
                pieces.append(data)
                data, most = b"", RECORD
                data = tls.read(most)
            if not data:
                self._eof_received = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._eof_received = True
        except ssl.SSLError as error:
            self._fail(error)
        if bios.incoming.pending:  # behind close_notify
            bios.incoming.read()
        self._send_outgoing()
        if pieces is None:
            return data
        pieces.append(data)
        return b"".join(pieces)

    def _hand_over(self, data: bytes) -> None:
        """Give plaintext, and the end of it, to the application."""
        protocol = self._protocol
        if data and protocol is not None:
            protocol.data_received(data)
        if self._eof_received and not self._is_closing and self._failure is None:
            protocol = self._protocol
            if protocol is None or not protocol.eof_received():
                self.close()

    def _send_outgoing(self) -> None:
        if self._bios.outgoing.pending:
            self._raw.write(self._bios.outgoing.read())

    def _send_close_notify(self) -> None:
        if self._eof_sent or self._handler is not None or self._ssl is None:
            return
        self._eof_sent = True
        with suppress(ssl.SSLError):  # that of the other side has not come, and is not waited for
            self._ssl.unwrap()
        alert = self._bios.clear()
        if alert:
            self._raw.write(alert)

    def _fail(self, error: Exception) -> None:
        """Close after an error of TLS. OpenSSL may have written an alert, which is sent."""
        alert = self._bios.clear()
        if self._is_closing:
            return
        self._is_closing = True
        self._failure = error
        if alert:
            self._raw.write(alert)
        self._raw.close()
        if self._handler is not None:
            self._handler.handshake_failed(error)
