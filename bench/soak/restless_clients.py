"""The restless clients of `soak`: whatever they get, an edge must not remember them.

Their addresses are a window that moves over 127.0.0.0/8, so there are always some that were never seen before.
"""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

import msgspec

from bench.h2.h2_client import H2Wire, NotProcessed, get
from bench.lab.availability_load import Lost
from bench.lab.plain_http import Broken, Connection, request_head

KIB = 1024
ADDRESSES = 256
"Clients that are there at the same time."
NEW_ADDRESSES = 2.0
"So many a second take the place of others."
IDLE = 6.0
"Seconds that an idle client stays."
SLOW = 4.0
"Seconds that a slow reader reads."
TIME_LIMIT = 30.0


class SoakTargets(msgspec.Struct, kw_only=True):
    """Whom clients request from, and from which addresses."""

    http: int
    https: int
    h2: int
    "Ports of listeners; that of `h2` is without TLS."
    ca: str
    "File of the authority of all sites."
    steady: list[str]
    "Hostnames that must be served."
    passing: list[str]
    "Hostnames that come and go."
    began: float = 0.0
    turn: int = 0

    def begin(self, now: float) -> None:
        """The window of addresses moves from now on."""
        self.began = now

    def source(self) -> str:
        """An address for one more connection."""
        self.turn += 1
        number = int((time.monotonic() - self.began) * NEW_ADDRESSES) + self.turn % ADDRESSES
        return f"127.{1 + (number >> 16) % 250}.{(number >> 8) & 255}.{1 + number % 254}"


class RestlessClients:
    """Plays one client after another; `seen` counts what each kind got."""

    def __init__(self, targets: SoakTargets, rand: Random) -> None:
        self._targets = targets
        self._rand = rand
        self.seen: dict[str, Counter[str]] = {}
        self._tls = ssl.create_default_context(cafile=targets.ca)
        self._h2_tls = ssl.create_default_context(cafile=targets.ca)
        self._h2_tls.set_alpn_protocols(["h2"])
        self._kinds: tuple[tuple[int, str, Callable[[], Awaitable[str]]], ...] = (
            (40, "requests from sites that come and go", self._passing),
            (8, "the same over TLS", self._passing_over_tls),
            (15, "made-up hostnames", self._unknown),
            (4, "leave within a head", self._leave_in_head),
            (4, "leave within an upload", self._leave_in_upload),
            (5, "leave within a response", self._leave_in_response),
            (4, "leave before a response", self._leave_before_response),
            (3, "read slowly", self._read_slowly),
            (3, "send a body slowly", self._send_slowly),
            (4, "say nothing", self._say_nothing),
            (3, "send noise", self._noise),
            (3, "leave within a handshake", self._leave_in_handshake),
            (2, "made-up names over TLS", self._unknown_over_tls),
            (5, "leave within streams", self._leave_in_streams),
        )

    async def one(self, due: float) -> None:
        """A client of any kind. Raises nothing."""
        [(_, kind, play)] = self._rand.choices(self._kinds, [share for share, _, _ in self._kinds])
        seen = self.seen.setdefault(kind, Counter())
        try:
            async with asyncio.timeout(TIME_LIMIT):
                seen[await play()] += 1
        except TimeoutError:
            seen["timeout"] += 1
        except (Broken, Lost, NotProcessed, OSError, EOFError) as error:
            seen[f"cut: {type(error).__name__}"] += 1

    # whole requests

    async def _passing(self) -> str:
        return await self._ask(self._rand.choice(self._targets.passing))

    async def _passing_over_tls(self) -> str:
        return await self._ask(self._rand.choice(self._targets.passing), over_tls=True)

    async def _unknown(self) -> str:
        return await self._ask(f"{self._rand.getrandbits(48):x}.test")

    async def _unknown_over_tls(self) -> str:
        return await self._ask(f"{self._rand.getrandbits(48):x}.test", over_tls=True)

    async def _ask(self, host: str, *, over_tls: bool = False) -> str:
        if over_tls:
            connection = await Connection.open(self._targets.https, self._tls, host, self._targets.source())
        else:
            connection = await Connection.open(self._targets.http, source=self._targets.source())
        line, body = ("POST /", b"x" * 500) if self._rand.random() < 0.3 else ("GET /", b"")
        try:
            reply = await connection.send_request(host, line, {}, body)
        finally:
            connection.close()
        return f"{reply.status} {reply.fields.get('x-styx-error', '')}".strip()

    # those that do not stay

    async def _raw(self, *, buffer: int = 64 * KIB) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        source = self._targets.source(), 0
        return await asyncio.open_connection("127.0.0.1", self._targets.http, local_addr=source, limit=buffer)

    def _head(self, line: str, **fields: str) -> bytes:
        host = self._rand.choice(self._targets.steady)
        return request_head(host, line, {name.replace("_", "-"): value for name, value in fields.items()})

    async def _leave_in_head(self) -> str:
        _, writer = await self._raw()
        head = self._head("GET /", Cookie="a" * self._rand.randrange(2000))
        writer.write(head[: self._rand.randrange(1, len(head))])
        return await self._leave(writer)

    async def _leave_in_upload(self) -> str:
        _, writer = await self._raw()
        writer.write(self._head("POST /sip/65536", Content_Length="1000000") + b"x" * 100_000)
        await asyncio.sleep(0.3 * self._rand.random())
        return await self._leave(writer)

    async def _leave_in_response(self) -> str:
        reader, writer = await self._raw()
        writer.write(self._head("GET /bytes/1048576"))
        await reader.read(1000)
        return await self._leave(writer)

    async def _leave_before_response(self) -> str:
        _, writer = await self._raw()
        writer.write(self._head("GET /slow/1"))
        await asyncio.sleep(0.5 * self._rand.random())
        return await self._leave(writer)

    async def _read_slowly(self) -> str:
        reader, writer = await self._raw(buffer=4 * KIB)
        writer.write(self._head("GET /bytes/4194304"))
        end = time.monotonic() + SLOW
        while time.monotonic() < end:
            await reader.read(8 * KIB)
            await asyncio.sleep(0.1)
        return await self._leave(writer)

    async def _send_slowly(self) -> str:
        reader, writer = await self._raw()
        writer.write(self._head("POST /", Content_Length="4000", Connection="close"))
        for _ in range(20):
            writer.write(b"x" * 200)
            await asyncio.sleep(0.1)
        status = (await reader.readline()).decode("latin-1")[9:12]
        writer.close()
        return status

    async def _say_nothing(self) -> str:
        _, writer = await self._raw()
        await asyncio.sleep(IDLE * self._rand.random())
        return await self._leave(writer)

    async def _noise(self) -> str:
        reader, writer = await self._raw()
        writer.write(self._rand.randbytes(self._rand.randrange(1, 3000)) + b"\r\n\r\n")
        status = (await reader.readline()).decode("latin-1")[9:12]
        writer.close()
        return status or "closed"

    async def _leave_in_handshake(self) -> str:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", self._targets.https, local_addr=(self._targets.source(), 0)
        )
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        handshake = self._tls.wrap_bio(incoming, outgoing, server_hostname=self._rand.choice(self._targets.steady))
        with suppress(ssl.SSLWantReadError):
            handshake.do_handshake()
        hello = outgoing.read()
        writer.write(hello[: self._rand.randrange(1, len(hello) + 1)])
        await asyncio.sleep(0.1)
        return await self._leave(writer)

    async def _leave_in_streams(self) -> str:
        host = self._rand.choice(self._targets.steady)
        if over_tls := self._rand.random() < 0.5:
            wire = await H2Wire.open(self._targets.https, self._targets.source(), tls=self._h2_tls, host=host)
        else:
            wire = await H2Wire.open(self._targets.h2, self._targets.source())
        scheme = "https" if over_tls else "http"
        for path in ("/", "/bytes/1048576", "/slow/1", f"/bytes/{64 * KIB}"):
            with suppress(NotProcessed):
                wire.begin(get(host, path, scheme=scheme))
        await asyncio.sleep(0.3 * self._rand.random())
        wire.close()
        await wire.ended
        return "left"

    async def _leave(self, writer: asyncio.StreamWriter) -> str:
        """By a FIN, or by a reset."""
        if self._rand.random() < 0.5:
            writer.transport.abort()
        else:
            writer.close()
        return "left"
