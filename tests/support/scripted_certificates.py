"""A scripted core API that is asked for certificates: over HTTP, or in the same process."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from edge.net.certificates.core_api_certificates import CertificateResult
from edge.rules.certificates.certificate_records import CertificateResponse, ChainAndKey
from tests.support.sample_certificates import Leaf


def response_of(*leaves: Leaf, names: tuple[str, ...], generation: int = 1) -> CertificateResponse:
    pairs = tuple(ChainAndKey(leaf.chain, leaf.key) for leaf in leaves)
    return CertificateResponse(names=names, generation=generation, certificates=pairs)


class ScriptedSource:
    """A source in the same process. `answers`: by hostname, a result, an exception, or a function returning one."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.otherwise: Any = CertificateResult(None)
        self.lookups: list[tuple[str, str | None]] = []
        self.at_once = self.most_at_once = 0
        self._open = asyncio.Event()
        self._open.set()
        self._asked = asyncio.Semaphore(0)
        self.is_closed = False

    @property
    def hostnames(self) -> list[str]:
        return [hostname for hostname, _ in self.lookups]

    def hold(self) -> None:
        """Keep answers back until `release`."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def asked(self) -> str:
        """Wait for a lookup that no earlier call waited for."""
        async with asyncio.timeout(100):
            await self._asked.acquire()
        return self.lookups[-1][0]

    async def ask(self, hostname: str, etag: str | None) -> CertificateResult:
        self.lookups.append((hostname, etag))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self._asked.release()
        try:
            await self._open.wait()
            await asyncio.sleep(0)
        finally:
            self.at_once -= 1
        response = self.answers.get(hostname, self.otherwise)
        if isinstance(response, Callable):  # type: ignore[arg-type]
            response = response()
        if isinstance(response, BaseException):
            raise response
        assert isinstance(response, CertificateResult)
        return response

    async def close(self) -> None:
        self.is_closed = True


class CertificateServer:
    """The core API over HTTP. `status`, `headers`, `body`: of the next responses."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body: bytes = b""
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    def serve(self, document: Any) -> None:
        self.body = json.dumps(document).encode()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._respond)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.raw_path, dict(request.headers)))
        return web.Response(status=self.status, headers=self.headers, body=self.body)
