"""A raw client of a scene that speaks TLS: Python's own, over the socket of the plain one."""

import asyncio
import ssl
from contextlib import suppress
from typing import Any

from tests.support.scene import Client
from tests.support.scene_backends import DEADLINE
from tests.support.tls_parts import client_context


class TlsClient(Client):
    """`Client`, with a handshake before the first byte."""

    _tls: ssl.SSLObject
    _in: ssl.MemoryBIO
    _out: ssl.MemoryBIO

    @classmethod
    async def of(
        cls,
        scene: Any,
        name: str | None = "shop.test",
        *,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
        listener: int = 0,
        greeting: bytes = b"",
        first: bytes = b"",
        **options: Any,
    ) -> "TlsClient":
        """Connect and shake hands. `greeting`: sent before; `first`: with the last message of the handshake. Raises
        ssl.SSLError."""
        client = await cls.without_handshake(scene, listener=listener, **options)
        if greeting:
            await Client.write(client, greeting)
        await client.shake_hands(name, context=context, session=session, first=first)
        return client

    @classmethod
    async def without_handshake(cls, scene: Any, *, listener: int = 0, **options: Any) -> "TlsClient":
        worker = await scene.edge()
        client = await cls.connect(worker.ports[listener], **options)
        scene.clients.append(client)
        return client

    async def shake_hands(
        self,
        name: str | None = "shop.test",
        *,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
        first: bytes = b"",
    ) -> None:
        await self.hello(name, context=context, session=session)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                data = await Client.read_some(self)
                if not data:
                    raise ConnectionResetError("closed in the handshake") from None
                self._in.write(data)
        if first:
            self._tls.write(first)
        await self._flush()

    async def hello(
        self,
        name: str | None = "shop.test",
        *,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """Send the ClientHello, and no more."""
        context = context or client_context()
        if name is None:
            context.check_hostname = False
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name, session=session)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            await self._flush()

    @property
    def tls(self) -> ssl.SSLObject:
        return self._tls

    async def _flush(self) -> None:
        data = self._out.read()
        if data:
            await Client.write(self, data)

    async def write(self, data: bytes) -> None:
        async with asyncio.timeout(DEADLINE):
            for at in range(0, len(data), 1 << 16):
                self._tls.write(data[at : at + (1 << 16)])
                await self._flush()
                self.sent = at + (1 << 16)

    def send_now(self, data: bytes) -> None:
        """Write without a turn of the loop, as much as there is room for."""
        self._tls.write(data)
        super().send_now(self._out.read())

    async def write_raw(self, data: bytes) -> None:
        """Bytes that are not encrypted."""
        await Client.write(self, data)

    async def read_raw(self) -> bytes:
        """All bytes until the edge closes, as they are on the wire."""
        found = b""
        while data := await Client.read_some(self):
            found += data
        return found

    async def read_some(self) -> bytes:
        """What comes next; b"" = close_notify. Raises ConnectionResetError, also when there is none."""
        while True:
            found = b""
            try:
                while len(found) < 1 << 18:
                    data = self._tls.read(1 << 14)
                    if not data:
                        return found
                    found += data
                return found
            except ssl.SSLZeroReturnError:
                return found
            except ssl.SSLWantReadError:
                if found:
                    return found
                data = await Client.read_some(self)
                if not data:
                    raise ConnectionResetError("closed without close_notify") from None
                self._in.write(data)

    def half_close(self) -> None:
        """Say that no more will come, as TLS and as TCP; still read."""
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._sock.send(self._out.read())
        super().half_close()

    async def end_half(self) -> None:
        """Send close_notify."""
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            await self._flush()
