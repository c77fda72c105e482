"""The files of the status page: read once, sent with validators (RFC 9110, section 8.8) and a strict policy.

Everything that the page loads is one of these files. They hold nothing about the edge, so they need no rights.
"""

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
}
"Headers of every file. `no-cache`: kept by the browser, and checked before each use."


class PageFile(NamedTuple):
    """One file."""

    body: bytes
    content_type: str
    etag: str


class PageFiles:
    """All files of the page, in memory: some 200 KiB."""

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

    def response(self, name: str, request: web.Request) -> web.Response:
        """The file of this name, or 304 if the client has it. Raises HTTPNotFound."""
        file = self._files.get(name)
        if file is None:
            raise web.HTTPNotFound
        headers = {**HEADERS, hdrs.ETAG: f'"{file.etag}"'}
        if any(tag.value in (file.etag, "*") for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.body, headers={**headers, hdrs.CONTENT_TYPE: file.content_type})


def _read(path: Path) -> PageFile:
    body = path.read_bytes()
    return PageFile(body, TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:20])
