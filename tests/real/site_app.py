"""A site in ASGI, without a framework: what an application on uvicorn does, and the page that a browser opens."""

import asyncio
import gzip
import hashlib
import json
import struct
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

KINDS = 10
"Of each kind of asset."
AT_ONCE = 4
"Images that a browser must ask for before any of them is answered."

seen: dict[str, Any] = {"closed": [], "left": 0, "not_modified": 0, "pongs": 0}
words: asyncio.Queue[str] = asyncio.Queue()
together = asyncio.Barrier(AT_ONCE)
report: asyncio.Queue[Any] = asyncio.Queue()


class Http:
    """One request and its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        self._receive = receive
        self._send = send

    async def body(self) -> bytes:
        body, more = b"", True
        while more:
            message = await self._receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return body

    async def begin(self, status: int = 200, **fields: object) -> None:
        headers = [(name.replace("_", "-").encode(), str(value).encode()) for name, value in fields.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def piece(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self, body: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": body})

    async def whole(self, body: bytes, kind: str = "text/plain", **fields: object) -> None:
        await self.begin(content_type=kind, content_length=len(body), **fields)
        await self.end(body)

    async def told(self, value: object) -> None:
        await self.whole(json.dumps(value).encode(), "application/json", cache_control="no-store")


# for clients


async def tell_seen(http: Http) -> None:
    await http.told(seen)


async def say_next(http: Http) -> None:
    words.put_nowait((await http.body()).decode())
    await http.begin(204)
    await http.end()


async def facts(http: Http) -> None:
    body, scope = await http.body(), http.scope
    told = {name: scope[name] for name in ("method", "scheme", "client", "http_version")}
    told |= {"headers": http.headers, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    await http.told(told)


async def stream(http: Http) -> None:
    """200,000 bytes in pieces, of no announced length."""
    await http.begin(content_type="application/octet-stream")
    for n in range(200):
        await http.piece(bytes([n]) * 1000)
    await http.end()


async def echo(http: Http) -> None:
    """The head of the response comes before the body is read, so there is no 100."""
    await http.begin(content_type="application/octet-stream")
    await http.end(await http.body())


async def compressed(http: Http) -> None:
    await http.whole(gzip.compress(b"styx " * 20_000), content_encoding="gzip", vary="Accept-Encoding")


async def cached(http: Http) -> None:
    """To be asked about again each time."""
    if http.headers.get("if-none-match") == '"v1"':
        seen["not_modified"] += 1
        await http.begin(304, etag='"v1"', cache_control="no-cache")
        await http.end()
    else:
        await http.whole(b"cached text", etag='"v1"', cache_control="no-cache")


async def events(http: Http) -> None:
    """Three events, the end; after a reconnection the rest of them."""
    await http.begin(content_type="text/event-stream", cache_control="no-store")
    first = int(http.headers.get("last-event-id", "0")) + 1
    await http.piece(b"retry: 10\n\n")
    for n in range(first, first + 3):
        await http.piece(f"id: {n}\ndata: event {n}\n\n".encode())
    await http.end()


async def said_events(http: Http) -> None:
    """The first event at once, each other one when POST /next says it."""
    await http.begin(content_type="text/event-stream")
    word = "first"
    while word != "end":
        await http.piece(f"data: {word}\n\n".encode())
        word = await words.get()
    await http.end()


# for a browser


async def page(http: Http) -> None:
    numbers = range(KINDS)
    parts = [f'<link rel="stylesheet" href="/asset/{n}.css">' for n in numbers]
    parts += [f'<script src="/asset/{n}.js"></script>' for n in numbers]
    parts += [f'<img src="/asset/{n}.png">' for n in range(KINDS + 2)]
    text = (Path(__file__).parent / "page.html").read_text().replace("<!-- assets -->", "\n".join(parts))
    await http.whole(text.encode(), "text/html; charset=utf-8")


async def asset(http: Http) -> None:
    number, _, kind = http.scope["path"].rpartition("/")[2].partition(".")
    filler = "/* " + "styx " * 2000 + "*/"
    if kind == "css":
        await http.whole(f":root {{ --c{number}: {number}; }} {filler}".encode(), "text/css")
    elif kind == "js":
        await http.whole(f"loaded.push({number}); {filler}".encode(), "text/javascript")
    else:
        async with together:
            await http.whole(png(int(number) + 1), "image/png")


def png(width: int) -> bytes:
    """A black picture, one pixel high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (1 + width))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


async def take_report(http: Http) -> None:
    report.put_nowait(json.loads(await http.body()))
    await http.told("thanks")


async def tell_report(http: Http) -> None:
    await http.told(await report.get())


async def nothing(http: Http) -> None:
    await http.begin(404, content_length=0)
    await http.end()


PAGES = {
    "": page,
    "asset": asset,
    "cached": cached,
    "echo": echo,
    "events": events,
    "facts": facts,
    "gzip": compressed,
    "next": say_next,
    "report": take_report,
    "reported": tell_report,
    "said": said_events,
    "seen": tell_seen,
    "stream": stream,
}


async def websocket(scope: Scope, receive: Receive, send: Send) -> None:
    """Says everything back; "close me" closes with 4002; /ws/refused is refused."""
    await receive()
    if scope["path"] == "/ws/refused":
        await send({"type": "websocket.close"})
        return
    offered = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "close me":
            await send({"type": "websocket.close", "code": 4002, "reason": "as you wish"})
        else:
            data = {name: message[name] for name in ("text", "bytes") if message.get(name) is not None}
            await send({"type": "websocket.send", **data})
    seen["closed"].append(message["code"])


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await websocket(scope, receive, send)
        return
    http = Http(scope, receive, send)
    await PAGES.get(scope["path"].split("/")[1], nothing)(http)
