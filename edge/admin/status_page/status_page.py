"""The status page: its files, its stream of snapshots, and one snapshot for programs."""

from collections.abc import Callable

import msgspec
from aiohttp import hdrs, web

from edge.admin.status_page.page_files import PageFiles
from edge.admin.status_page.status_stream import SnapshotSource, StatusStream


class StatusPage:
    """The status page of one edge."""

    def __init__(self, source: SnapshotSource, files: PageFiles | None = None) -> None:
        self._source = source
        self.files = files or PageFiles()
        self._stream: StatusStream

    def start(self) -> None:
        """Read the files. Raises OSError."""
        self.files.read()
        self._stream = StatusStream(self._source)

    async def stop(self) -> None:
        """End all streams."""
        await self._stream.stop()

    async def snapshot(self, _: web.Request) -> web.Response:
        """The state of the edge now, as JSON."""
        body = msgspec.json.encode(await self._source.snapshot())
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: "application/json"})

    async def stream(self, request: web.Request, alive: Callable[[], None]) -> web.StreamResponse:
        """Snapshots, until the client leaves (`StatusStream.respond`)."""
        return await self._stream.respond(request, alive)
