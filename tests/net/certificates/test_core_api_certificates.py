"""The client of the core API for certificates, against a real server."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edge.net.certificates.core_api_certificates import MAX_RESPONSE, CertificateResult, CoreApiCertificates
from edge.net.routing.core_api import CoreApiError
from edge.rules.settings import CoreApiSettings
from tests.support.sample_certificates import authority
from tests.support.scripted_certificates import CertificateServer

LEAF = authority().leaf("shop.test")
DOCUMENT: dict[str, Any] = {"names": ["shop.test"], "generation": 7, "certificates": [LEAF.as_json()], "new": {}}


@pytest.fixture
async def server() -> AsyncIterator[CertificateServer]:
    server = CertificateServer()
    server.serve(DOCUMENT)
    await server.start()
    yield server
    await server.stop()


class Asked:
    def __init__(self, server: CertificateServer) -> None:
        self.observed: list[str] = []
        self.source = CoreApiCertificates(
            CoreApiSettings(url=server.url), lambda kind, _: self.observed.append(kind)
        )

    async def ask(self, hostname: str = "shop.test", etag: str | None = None) -> CertificateResult:
        try:
            return await self.source.ask(hostname, etag)
        finally:
            await self.source.close()

    async def fails(self) -> CoreApiError:
        with pytest.raises(CoreApiError) as raised:
            await self.ask()
        return raised.value


async def test_a_certificate(server: CertificateServer) -> None:
    server.headers = {"Cache-Control": "max-age=60", "ETag": '"7"'}
    asked = Asked(server)
    result = await asked.ask()
    assert result.response is not None
    assert result.response.certificates[0].key == LEAF.key
    assert (result.cache_control, result.etag, result.not_modified, result.retry_after) == (
        "max-age=60",
        '"7"',
        False,
        None,
    )
    assert asked.observed == ["certificate"]
    [(path, headers)] = server.requests
    assert path == "/v1/certificates/shop.test"
    assert "If-None-Match" not in headers


async def test_a_name_cannot_be_a_path(server: CertificateServer) -> None:
    await Asked(server).ask("../a/b?c")
    assert server.requests[0][0] == "/v1/certificates/..%2Fa%2Fb%3Fc"


async def test_not_modified(server: CertificateServer) -> None:
    server.status, server.body, server.headers = 304, b"", {"Cache-Control": "max-age=5"}
    asked = Asked(server)
    assert await asked.ask(etag='"7"') == CertificateResult(None, True, None, "max-age=5", '"7"')
    assert server.requests[0][1]["If-None-Match"] == '"7"'
    assert asked.observed == ["not_modified"]
    assert not (await Asked(server).fails()).service_failed, "nobody asked whether it was modified"


async def test_there_is_none(server: CertificateServer) -> None:
    server.status, server.headers = 404, {"Cache-Control": "max-age=3"}
    asked = Asked(server)
    assert await asked.ask() == CertificateResult(None, cache_control="max-age=3")
    assert asked.observed == ["absent"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3.0), ("0", 0.0), ("999999999", 3600.0), ("-1", 1.0), ("1e3", 1.0), ("Fri, 1 Jan", 1.0)],
)
async def test_it_is_being_issued(server: CertificateServer, value: str, seconds: float) -> None:
    server.status, server.headers = 503, {"Retry-After": value}
    asked = Asked(server)
    assert (await asked.ask()).retry_after == seconds
    assert asked.observed == ["issuing"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_the_service_fails(server: CertificateServer, status: int) -> None:
    server.status = status
    asked = Asked(server)
    error = await asked.fails()
    assert (error.service_failed, error.connected, str(error)) == (True, True, f"status {status}")
    assert asked.observed == ["error"]


@pytest.mark.parametrize(
    ("status", "about"), [(201, False), (301, False), (400, True), (401, False), (403, False), (410, True)]
)
async def test_another_status(server: CertificateServer, status: int, about: bool) -> None:
    server.status = status
    asked = Asked(server)
    error = await asked.fails()
    assert (error.service_failed, error.about_hostname) == (False, about)
    assert asked.observed == ["rejected"]


BAD = {
    "no json": b"{not json",
    "nothing": b" ",
    "a list": b"[]",
    "no names": json.dumps({**DOCUMENT, "names": None}).encode(),
    "no key": json.dumps({**DOCUMENT, "certificates": [{"chain": LEAF.chain}]}).encode(),
    "a key that is a number": json.dumps({**DOCUMENT, "certificates": [{"chain": "", "key": 1}]}).encode(),
    "a generation of 70 bits": json.dumps({**DOCUMENT, "generation": 2**70}).encode(),
    "nested without end": b"[" * 100_000,
    "no UTF-8": b'{"names": ["\xff"]}',
    "too large": b" " * (MAX_RESPONSE + 1),
}


@pytest.mark.parametrize("what", BAD)
async def test_bad_responses(server: CertificateServer, what: str) -> None:
    server.body = BAD[what]
    error = await Asked(server).fails()
    assert not error.service_failed
    assert LEAF.key.splitlines()[1] not in str(error)


async def test_the_largest_response(server: CertificateServer) -> None:
    server.body = server.body.ljust(MAX_RESPONSE)
    assert (await Asked(server).ask()).response is not None


@pytest.mark.parametrize(
    ("etag", "kept"), [('"7"', '"7"'), ('W/"7"', 'W/"7"'), ("x" * 5000, None), ('"\xe9"', None)]
)
async def test_entity_tags(server: CertificateServer, etag: str, kept: str | None) -> None:
    server.headers = {"ETag": etag}
    assert (await Asked(server).ask()).etag == kept


async def test_nobody_is_there(server: CertificateServer) -> None:
    await server.stop()
    error = await Asked(server).fails()
    assert (error.service_failed, error.connected) == (True, False)
