"""A connection in memory: Python's client on one side, the transport of styx on the other."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, cast

from edge.net.tls.bio_pair import BioPair
from edge.net.tls.tls_contexts import TlsProfile, base_context
from edge.net.tls.tls_transport import TlsTransport

BASE = base_context(TlsProfile.INTERMEDIATE)
Change = Callable[[bytes], bytes]


class MemoryWire:
    """The socket of the edge's side, and the application above TLS. Notes what must not happen in `faults`."""

    def __init__(self, bios: BioPair, host: ssl.SSLContext) -> None:
        self._bios = bios
        self.written = bytearray()
        self.is_ended = False
        self.is_paused = False
        self.received = bytearray()
        self.echo = False
        self.faults: list[str] = []
        self._protocol: Any = None
        tls: Any = BASE.wrap_bio(bios.incoming, bios.outgoing, server_side=True)
        tls.host_context = host
        self.transport = TlsTransport(cast(asyncio.Transport, self), tls, bios)
        self._has_begun = False

    def deliver(self, data: bytes) -> None:
        """Bytes arrive from the client."""
        if self.is_ended:
            return
        if not self._has_begun:
            self._has_begun = True
            self.transport.begin(self, data)
        else:
            self._protocol.data_received(data)
        self._look("after a read")

    def _look(self, when: str) -> None:
        if not self._bios.is_empty:
            self.faults.append(f"the shared BIOs are not empty {when}: {self._bios!r}")
            self._bios.clear()

    # what the transport asks of a socket's transport

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol

    def write(self, data: bytes) -> None:
        if self.is_ended:
            self.faults.append("a write after the end")
        self.written += data

    def close(self) -> None:
        self.is_ended = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_ended

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def write_eof(self) -> None:
        """Do nothing: the client sees no difference here."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    # who waits for the handshake

    def handshake_done(self, early: bytes) -> None:
        self._look("at the end of the handshake")
        self.transport.set_protocol(cast(asyncio.BaseProtocol, _Application(self)))
        if early:
            self.take(early)

    def handshake_failed(self, error: Exception) -> None:
        self._look("after a failed handshake")

    def handshake_lost(self, exc: Exception | None) -> None:
        """Do nothing."""

    def take(self, data: bytes) -> None:
        """The application gets bytes."""
        self._look("when the application is called")
        self.received += data
        if self.echo:
            self.transport.write(data)


class _Application:
    """The protocol above TLS."""

    def __init__(self, wire: MemoryWire) -> None:
        self.data_received = wire.take

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Do nothing."""

    def pause_writing(self) -> None:
        """Do nothing: nothing is ever full here."""

    resume_writing = pause_writing


class Party:
    """The client of one wire."""

    def __init__(self, wire: MemoryWire, name: str, rand: Random) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = rand.choice((ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3))
        self._wire = wire
        self._rand = rand
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._sent = bytearray()
        "Plaintext."

    def shake_hands(self, change: Change) -> bool:
        """Both sides, as far as they come. `change`: what becomes of the client's bytes. Returns whether it is
        complete for the client."""
        for _ in range(6):
            is_complete = False
            with suppress(ssl.SSLError):
                self._tls.do_handshake()
                is_complete = True
            self._flush(change)
            if is_complete:
                return True
            if not self._take():
                break
        return False

    def send(self, data: bytes, change: Change = lambda data: data) -> None:
        """Send plaintext, whose records are changed."""
        with suppress(ssl.SSLError):
            for at in range(0, len(data), 16384):
                self._tls.write(data[at : at + 16384])
                self._sent += data[at : at + 16384]
        self._flush(change)

    def echoes(self, data: bytes) -> bool:
        """Whether the other side, which echoes, sends the same back."""
        self._wire.echo = True
        self.send(data)
        self._take()
        found = bytearray()
        with suppress(ssl.SSLError):
            while piece := self._tls.read(16384):
                found += piece
        return bytes(found) == data and not self._wire.faults

    def check(self) -> None:
        """Note it if the application got what was not sent."""
        if not self._sent.startswith(self._wire.received):
            self._wire.faults.append("the application got what was not sent")

    def _flush(self, change: Change) -> None:
        """Give the client's bytes to the other side, in pieces of any size."""
        data = change(self._out.read())
        while data:
            size = self._rand.choice((1, 7, 100, 1500, 20_000, 70_000)) if len(data) < 2000 else 20_000
            self._wire.deliver(data[:size])
            data = data[size:]

    def _take(self) -> bool:
        """Read what the other side has written. Returns whether there was anything."""
        data, self._wire.written = bytes(self._wire.written), bytearray()
        self._in.write(data)
        return bool(data)


def established(wire: MemoryWire, name: str, rand: Random) -> Party:
    """A client that has shaken hands."""
    party = Party(wire, name, rand)
    if not party.shake_hands(lambda data: data):
        wire.faults.append("no handshake")
    return party
