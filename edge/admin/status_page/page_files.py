"""Serves the files of the status page from memory, with validators (RFC 9110, section 8.8) and a strict
Content-Security-Policy.

Everything that the page loads is one of these files. They hold nothing about the edge, so they need no rights.
"""

import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import hdrs, web

DIRECTORY: Final = Path(__file__).parent / "static"
PREFIX: Final = "/status/"
INDEX: Final = "index.html"
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    "": "text/plain; charset=utf-8",
}
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy of the page (CSP level 3): files of this server only, no inline script or style, no frame
around it."""
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    hdrs.CACHE_CONTROL: "no-cache",
    hdrs.VARY: hdrs.ACCEPT_ENCODING,
}
"Headers of every file. `no-cache`: kept by the browser, and checked before each use."


class PageFile(NamedTuple):
    """One file."""

    body: bytes
    compressed: bytes
    "The same with gzip: a third of it, which shows when the page comes through a tunnel."
    content_type: str
    etag: str


class PageFiles:
    """All files of the page, in memory: some 300 KiB."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._directory = directory
        self._files: Mapping[str, PageFile] = {}

    def read(self) -> None:
        """Read the files. Raises OSError."""
        self._files = {
            path.relative_to(self._directory).as_posix(): _read(path)
            for path in sorted(self._directory.rglob("*"))
            if path.is_file() and path.suffix in TYPES
        }

    @property
    def names(self) -> list[str]:
        return list(self._files)

    async def index(self, request: web.Request) -> web.Response:
        """The handler of the page itself."""
        return self.response(INDEX, request)

    async def named(self, request: web.Request) -> web.Response:
        """The handler of a file that the page loads: `name` in the path."""
        return self.response(request.match_info["name"], request)

    def response(self, name: str, request: web.Request) -> web.Response:
        """The file of this name, or 304 if the client has it. Raises HTTPNotFound."""
        file = self._files.get(name)
        if file is None:
            raise web.HTTPNotFound
        # Weak, because the bytes with gzip and without are not the same (RFC 9110, section 8.8.1).
        headers = {**HEADERS, hdrs.ETAG: f'W/"{file.etag}"'}
        if any(tag.value in (file.etag, "*") for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        headers[hdrs.CONTENT_TYPE] = file.content_type
        if takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")):
            return web.Response(body=file.compressed, headers={**headers, hdrs.CONTENT_ENCODING: "gzip"})
        return web.Response(body=file.body, headers=headers)


def takes_gzip(accepted: str) -> bool:
    """Whether a client that sends this Accept-Encoding takes gzip (RFC 9110, section 12.5.3). `*` does not count:
    browsers name it."""
    for part in accepted.split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip().lower() == "gzip":
            return parameters.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _read(path: Path) -> PageFile:
    body = path.read_bytes()
    return PageFile(body, gzip.compress(body, mtime=0), TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:20])
