"""The sample site inside a builtin container.

GET anything        a page that names site, environment and container
POST, PUT, ...      JSON: container, bytes, sha256 and order_id of what was received
/status/NNN         this status              /bytes/N        N bytes with Content-Length
/slow/SECONDS       a page, later            /chunked/N      N bytes, chunked
/hang               no response at all       /cut/N          announces more than N, sends N, closes
/echo-head          the request head         /cut-chunked/N  N bytes, chunked, without a last chunk
/sip/RATE           reads the request body   /stall/N        announces more than N, sends N, then stalls
                    at RATE bytes a second
"""

import asyncio
import hashlib
import html
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec

from edge.platform.containers.builtin_http import PIECE, ContainerRequest, response_head
from edge.platform.containers.container import ContainerSpec

BLOCK = bytes(range(256)) * (PIECE // 256)
HTML = "text/html; charset=utf-8"
SIPPING_PATH = "/sip/"


@dataclass(slots=True)
class Visit:
    """One admitted request, and its response."""

    spec: ContainerSpec
    request: ContainerRequest
    writer: asyncio.StreamWriter
    served: int = 0
    "Requests this container has served so far, this one included."
    received: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    keep_alive: bool = True

    async def receive(self, reader: asyncio.StreamReader) -> None:
        """Read the whole body, counting and hashing it piece by piece."""
        if self.request.body_read:
            return
        rate = _number(self.request.target.removeprefix(SIPPING_PATH)) if self._sipping else 0
        if "expect" in self.request.headers:
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async for piece in self.request.pieces(reader):
            self.received += len(piece)
            self.digest.update(piece)
            if rate:
                await asyncio.sleep(len(piece) / rate)

    @property
    def _sipping(self) -> bool:
        return self.request.target.startswith(SIPPING_PATH)

    def begin(self, status: int, content_type: str, **framing: str | int) -> None:
        """Send the response head. `framing`: content_length=N or transfer_encoding="chunked"."""
        headers: dict[str, str | int] = {"Content-Type": content_type, "X-Container": self.spec.id}
        attempt = self.request.headers.get("x-styx-attempt", "")
        if attempt.isdigit():
            headers["X-Container-Attempt"] = attempt
        headers |= {name.replace("_", "-").title(): value for name, value in framing.items()}
        if not self.keep_alive:
            headers["Connection"] = "close"
        self.writer.write(response_head(status, headers))

    def whole(self, status: int, content_type: str, body: bytes) -> None:
        """Send a complete small response."""
        if status < 200 or status in (204, 304):
            self.begin(status, content_type)
            return
        self.begin(status, content_type, content_length=len(body))
        if self.request.method != "HEAD":
            self.writer.write(body)

    async def stream(self, size: int) -> None:
        """Send `size` bytes of a fixed pattern, no faster than the client reads them."""
        while size:
            piece = BLOCK[: min(size, PIECE)]
            self.writer.write(piece)
            await self.writer.drain()
            size -= len(piece)


Page = Callable[[Visit, str], Awaitable[None]]


async def _page(visit: Visit, _: str) -> None:
    spec = visit.spec
    if visit.request.method not in ("GET", "HEAD", "OPTIONS", "TRACE"):
        receipt = {
            "container": spec.id,
            "bytes": visit.received,
            "sha256": visit.digest.hexdigest(),
            "order_id": visit.request.headers.get("x-order-id"),
        }
        visit.whole(200, "application/json", msgspec.json.encode(receipt))
        return
    name = html.escape(f"{spec.environment}-{spec.site}")
    port = visit.writer.get_extra_info("sockname")[1]
    text = (
        f"<!doctype html><title>{name}</title><h1>{name}</h1>"
        f"<p>Container <b>{spec.id}</b> on port {port} has served {visit.served} requests.</p>\n"
    )
    visit.whole(200, HTML, text.encode())


async def _status(visit: Visit, argument: str) -> None:
    status = min(max(_number(argument), 200), 999)
    visit.whole(status, "text/plain", f"status {status}\n".encode())


async def _bytes(visit: Visit, argument: str) -> None:
    size = _number(argument)
    visit.begin(200, "application/octet-stream", content_length=size)
    if visit.request.method != "HEAD":
        await visit.stream(size)


async def _chunked(visit: Visit, argument: str) -> None:
    await _chunks(visit, argument)
    if visit.request.method != "HEAD":
        visit.writer.write(b"0\r\n\r\n")


async def _cut_chunked(visit: Visit, argument: str) -> None:
    visit.keep_alive = False
    await _chunks(visit, argument)


async def _chunks(visit: Visit, argument: str) -> None:
    size = _number(argument)
    visit.begin(200, "application/octet-stream", transfer_encoding="chunked")
    while size and visit.request.method != "HEAD":
        piece = BLOCK[: min(size, PIECE)]
        visit.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await visit.writer.drain()
        size -= len(piece)


async def _slow(visit: Visit, argument: str) -> None:
    await asyncio.sleep(float(argument) if argument.replace(".", "", 1).isdigit() else 1.0)
    await _page(visit, "")


async def _hang(visit: Visit, argument: str) -> None:
    await asyncio.Event().wait()


async def _cut(visit: Visit, argument: str) -> None:
    visit.begin(200, "application/octet-stream", content_length=2 * _number(argument) + 1)
    await visit.stream(_number(argument))
    visit.keep_alive = False


async def _stall(visit: Visit, argument: str) -> None:
    visit.begin(200, "application/octet-stream", content_length=2 * _number(argument) + 1)
    await visit.stream(_number(argument))
    await asyncio.Event().wait()


async def _echo_head(visit: Visit, argument: str) -> None:
    visit.whole(200, "text/plain; charset=latin-1", visit.request.raw_head)


PAGES: dict[str, Page] = {
    "status": _status,
    "bytes": _bytes,
    "chunked": _chunked,
    "cut": _cut,
    "cut-chunked": _cut_chunked,
    "stall": _stall,
    "slow": _slow,
    "hang": _hang,
    "echo-head": _echo_head,
}


async def respond(visit: Visit) -> None:
    """Respond to a request according to its path."""
    name, _, argument = visit.request.target.partition("?")[0].lstrip("/").partition("/")
    await PAGES.get(name, _page)(visit, argument)
    await visit.writer.drain()


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
