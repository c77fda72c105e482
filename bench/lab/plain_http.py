"""An HTTP client that never retries: retries would hide the failures that a benchmark counts.

Ready-made clients repeat a request whose keep-alive connection turns out to be dead. This one raises Broken.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

TIMEOUT = 15.0
"Seconds for one whole response."


class Broken(Exception):
    """No complete response came."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One response; names of fields in lower case."""

    status: int
    fields: dict[str, str]
    body: bytes


class Connection:
    """One keep-alive connection, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.usable = True
        "False: the next request needs another one."

    @classmethod
    async def open(
        cls, port: int, tls: ssl.SSLContext | None = None, host: str | None = None, source: str = ""
    ) -> "Connection":
        """To a port of this machine, from an address of it. `host`: whose certificate must be shown, with TLS.

        Raises Broken.
        """
        local = (source, 0) if source else None
        try:
            streams = await asyncio.open_connection(
                "127.0.0.1", port, ssl=tls, server_hostname=host, local_addr=local
            )
            return cls(*streams)
        except OSError as error:
            raise Broken(f"port {port}: {error.strerror}") from error

    async def send_request(self, host: str, line: str, fields: Mapping[str, str], body: bytes = b"") -> Reply:
        """Send one request and read its response. `line`: "GET /path". Raises Broken."""
        self.usable = False
        try:
            async with asyncio.timeout(TIMEOUT):
                self._writer.write(request_head(host, line, {**fields, **_length(line, body)}) + body)
                reply = await self._read_reply()
        except TimeoutError:
            raise Broken(f"no response in {TIMEOUT:g} s") from None
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            raise Broken(f"{type(error).__name__}: {error}") from error
        self.usable = reply.fields.get("connection", "").lower() != "close"
        return reply

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed it, as far as this process knows."""
        return self._reader.at_eof() or self._writer.is_closing()

    def close(self) -> None:
        self._writer.close()

    async def _read_reply(self) -> Reply:
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        pairs = (line.partition(":") for line in lines)
        fields = {name.lower(): value.strip() for name, _, value in pairs}
        if fields.get("transfer-encoding") == "chunked":
            body = await self._chunks(fields.get("x-request-id", "none"))
        else:
            body = await self._reader.readexactly(int(fields.get("content-length", 0)))
        return Reply(int(first.split(" ")[1]), fields, body)

    async def _chunks(self, request_id: str) -> bytes:
        body = bytearray()
        while size := _chunk_size(await self._reader.readuntil(b"\r\n"), len(body), request_id):
            body += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readuntil(b"\r\n")
        return bytes(body)


def _chunk_size(line: bytes, at: int, request_id: str) -> int:
    """Raises Broken: what came instead, after how many bytes of the body, and of which request."""
    try:
        return int(line, 16)
    except ValueError:
        raise Broken(f"{line[:80]!r} instead of a chunk, after {at} bytes, request {request_id}") from None


def request_head(host: str, line: str, fields: Mapping[str, str]) -> bytes:
    """With the blank line at its end."""
    lines = [f"{line} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _length(line: str, body: bytes) -> dict[str, str]:
    return {"Content-Length": str(len(body))} if body or not line.startswith("GET ") else {}
