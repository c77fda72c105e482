"""`styx check-core-api` against a core API that is well, and against one with each of many faults."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner

from edge.rules.core_api.contract_findings import ContractFinding, Severity
from edge.rules.settings import CoreApiSettings
from edge.run.core_api_check.check_command import check_core_api
from edge.run.core_api_check.core_api_check import CheckPlan, checked_core_api

HOST = "live-acme.example.org"
ALIAS = "www.example.org"
LIVE = "max-age=60, stale-while-revalidate=600, stale-if-error=86400"


class Faulty:
    """A small core API of two hostnames of one environment. Each method is one thing that may be wrong."""

    def __init__(self) -> None:
        self.numbers = count(1)

    def status(self, hostname: str) -> int:
        return 200 if hostname in (HOST, ALIAS) else 404

    def generation(self) -> int:
        return 7

    def backends(self, hostname: str) -> list[dict[str, Any]]:
        return [{"id": "a", "address": "10.0.0.1", "port": 8080, "server": "srv-1"}]

    def route(self, hostname: str) -> dict[str, Any]:
        names = {"hostname": hostname, "site": "acme", "environment": "live"}
        return {**names, "generation": self.generation(), "backends": self.backends(hostname)}

    def body(self, hostname: str) -> bytes:
        return json.dumps(self.route(hostname)).encode()

    def headers(self, body: bytes) -> dict[str, str]:
        return {"Cache-Control": LIVE, "ETag": f'"{hash(body):x}"'}

    def unknown_headers(self) -> dict[str, str]:
        return {"Cache-Control": "max-age=10"}

    def is_current(self, known: str | None, etag: str | None) -> bool:
        return known is not None and known == etag

    async def lookup(self, request: web.Request) -> web.Response:
        hostname = request.match_info["hostname"]
        if (status := self.status(hostname)) == 404:
            return web.Response(status=404, headers=self.unknown_headers())
        if status != 200:
            return web.Response(status=status, headers={"Location": "/"})
        body = self.body(hostname)
        headers = self.headers(body)
        if self.is_current(request.headers.get("If-None-Match"), headers.get("ETag")):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=self.kind(), headers=headers)

    def kind(self) -> str:
        return "application/json"

    def stream_kind(self) -> str:
        return "text/event-stream"

    def greeting(self, last_id: str | None) -> str:
        return (
            ': hello\n\nid: 7\nevent: invalidate\ndata: {"all": true}\n\n'
            if last_id not in (None, "7")
            else ": hello\n\n"
        )

    async def changes(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": self.stream_kind()})
        await response.prepare(request)
        await response.write(self.greeting(request.headers.get("Last-Event-ID")).encode())
        await self.listening(response)
        return response

    async def listening(self, response: web.StreamResponse) -> None:
        await asyncio.sleep(60)  # the test ends before that


Change = Callable[[Faulty], None]


@asynccontextmanager
async def served(api: Faulty, token: str | None = None) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/v1/routes/{hostname}", api.lookup)
    app.router.add_get("/v1/changes", api.changes)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def found_in(api: Faulty, *, changes: bool = True, **settings: Any) -> list[ContractFinding]:
    async with served(api) as url:
        given = CoreApiSettings(url=url, **{"timeout": 10.0, "concurrency": 4, **settings})
        plan = CheckPlan(given, [HOST, ALIAS], wait=0.05, changes=changes, quiet=0.05)
        return [finding async for finding in checked_core_api(plan)]


def told(found: list[ContractFinding], *severities: Severity) -> set[str]:
    return {finding.check for finding in found if finding.severity in severities}


async def test_one_that_is_well_has_no_faults_and_no_warnings() -> None:
    found = await found_in(Faulty())
    assert told(found, Severity.FAULT, Severity.WARNING) <= {"latency"}  # of this machine
    assert told(found, Severity.OK) - {"latency"} == {
        "route",
        "not_modified",
        "unknown_host",
        "burst",
        "changes_gap",
        "changes_resume",
    }


class _Late(Faulty):
    async def lookup(self, request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError


class _Busy(Faulty):
    in_flight = 0

    async def lookup(self, request: web.Request) -> web.Response:
        self.in_flight += 1
        try:
            await asyncio.sleep(0.01)
            return web.Response(status=503) if self.in_flight > 2 else await super().lookup(request)
        finally:
            self.in_flight -= 1


class _Ending(Faulty):
    async def listening(self, response: web.StreamResponse) -> None:
        return


class _NoStream(Faulty):
    async def changes(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=500)


class _SilentStream(Faulty):
    async def changes(self, request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError


def overriding(**methods: Callable[..., Any]) -> type[Faulty]:
    return type("_Overriding", (Faulty,), methods)


def without(name: str) -> type[Faulty]:
    return overriding(
        route=lambda self, host: {key: value for key, value in Faulty.route(self, host).items() if key != name}
    )


def backend(**members: Any) -> type[Faulty]:
    return overriding(backends=lambda self, host: [{**Faulty.backends(self, host)[0], **members}])


def header(name: str, value: str | None) -> type[Faulty]:
    def headers(self: Faulty, body: bytes) -> dict[str, str]:
        fields = {key: old for key, old in Faulty.headers(self, body).items() if key != name}
        return fields if value is None else {**fields, name: value}

    return overriding(headers=headers)


FAULTS: dict[str, tuple[type[Faulty], str]] = {
    "no response in time": (_Late, "no_response"),
    "known hostnames are 404": (overriding(status=lambda self, host: 404), "known_is_404"),
    "a redirect": (overriding(status=lambda self, host: 302 if host == HOST else 200), "status"),
    "an error": (overriding(status=lambda self, host: 500 if host == HOST else 404), "status"),
    "a token is needed": (overriding(status=lambda self, host: 401), "status"),
    "unknown hostnames are 200": (overriding(status=lambda self, host: 200), "unknown_host"),
    "unknown hostnames are 500": (
        overriding(status=lambda self, host: 200 if host in (HOST, ALIAS) else 500),
        "unknown_host",
    ),
    "odd hostnames are 500": (
        overriding(status=lambda self, host: 500 if "_" in host else Faulty.status(self, host)),
        "odd_hostname",
    ),
    "no JSON": (overriding(body=lambda self, host: b"<html>"), "route_body"),
    "a list": (overriding(body=lambda self, host: b"[]"), "route_body"),
    "endless": (overriding(body=lambda self, host: b" " * 1_100_000), "route_body"),
    "no generation": (without("generation"), "route_body"),
    "no backends member": (without("backends"), "route_body"),
    "another hostname": (
        overriding(route=lambda self, host: {**Faulty.route(self, host), "hostname": "x.example"}),
        "core_api_wrong_hostname",
    ),
    "a bad redirect": (
        overriding(route=lambda self, host: {**Faulty.route(self, host), "redirect": "not a url"}),
        "core_api_bad_redirect",
    ),
    "a port as text": (backend(port="8080"), "route_body"),
    "a link-local address": (backend(address="169.254.169.254"), "core_api_bad_response"),
    "one bad backend of two": (
        overriding(
            backends=lambda self, host: [
                *Faulty.backends(self, host),
                {"id": "b", "address": "10.0.0.2", "port": 0},
            ]
        ),
        "core_api_bad_backend",
    ),
    "an id twice": (
        overriding(backends=lambda self, host: 2 * Faulty.backends(self, host)),
        "core_api_bad_backend",
    ),
    "different backends of one environment": (
        overriding(backends=lambda self, host: [{"id": host[:4], "address": "10.0.0.1", "port": 80}]),
        "siblings",
    ),
    "304 always": (overriding(is_current=lambda self, known, etag: known is not None), "always_304"),
    "304 never": (overriding(is_current=lambda self, known, etag: False), "not_modified"),
    "another ETag each time": (
        overriding(headers=lambda self, body: {"Cache-Control": LIVE, "ETag": f'"{next(self.numbers)}"'}),
        "etag_unstable",
    ),
    "an endless ETag": (header("ETag", '"' + "x" * 2000 + '"'), "etag"),
    "a generation that falls": (overriding(generation=lambda self: 100 - next(self.numbers)), "generation"),
    "fails under load": (_Busy, "burst"),
    "no stream but 500": (_NoStream, "changes"),
    "a stream without a head": (_SilentStream, "changes"),
    "a stream of another type": (overriding(stream_kind=lambda self: "text/plain"), "changes_type"),
    "an unknown id in silence": (overriding(greeting=lambda self, last_id: ": hello\n\n"), "changes_gap"),
    "no resumption": (
        overriding(greeting=lambda self, last_id: Faulty.greeting(self, "unknown")),
        "changes_resume",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_each_fault_is_found(name: str) -> None:
    kind, check = FAULTS[name]
    timeout = 0.1 if kind in (_Late, _SilentStream) else 10.0
    found = await found_in(kind(), changes=check.startswith("changes"), timeout=timeout)
    assert check in told(found, Severity.FAULT), [finding.words for finding in found]
    assert all(finding.remedy for finding in found if finding.severity is Severity.FAULT)


WARNINGS: dict[str, tuple[type[Faulty], str]] = {
    "no Cache-Control": (header("Cache-Control", None), "cache_control"),
    "not cacheable": (header("Cache-Control", "no-store"), "cache_control"),
    "no ETag": (header("ETag", None), "etag"),
    "no JSON type": (overriding(kind=lambda self: "text/html"), "content_type"),
    "an unknown role": (backend(role="primary"), "core_api_unknown_role"),
    "an unknown state": (backend(state="up"), "core_api_unknown_state"),
    "a generation that always grows": (overriding(generation=lambda self: next(self.numbers)), "generation"),
    "404 without max-age": (overriding(unknown_headers=lambda self: {}), "unknown_host_max_age"),
    "connections are closed": (
        overriding(headers=lambda self, body: {**Faulty.headers(self, body), "Connection": "close"}),
        "keep_alive",
    ),
    "a stream that ends": (_Ending, "changes_end"),
    "events without an id": (
        overriding(greeting=lambda self, last_id: 'event: invalidate\ndata: {"all": true}\n\n'),
        "changes_id",
    ),
    "events of another name": (
        overriding(greeting=lambda self, last_id: 'id: 1\nevent: changed\ndata: {"all": true}\n\n'),
        "changes_event",
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
async def test_each_weakness_is_found(name: str) -> None:
    kind, check = WARNINGS[name]
    found = await found_in(kind(), changes=check.startswith("changes"))
    assert check in told(found, Severity.WARNING), [finding.words for finding in found]


@pytest.fixture
def tokens(tmp_path) -> Iterator[str]:
    path = tmp_path / "token"
    path.write_text("secret\n")
    return str(path)


async def test_the_token_is_sent_and_that_it_is_needed_is_checked(tokens: str) -> None:
    class Guarded(Faulty):
        async def lookup(self, request: web.Request) -> web.Response:
            if request.headers.get("Authorization") != "Bearer secret":
                return web.Response(status=401)
            return await super().lookup(request)

    found = await found_in(Guarded(), changes=False, token_file=tokens)
    assert told(found, Severity.FAULT) == set()
    assert "token" in told(found, Severity.OK)
    found = await found_in(Faulty(), changes=False, token_file=tokens)
    assert "token" in told(found, Severity.WARNING)


async def test_who_does_not_respond_is_told_once() -> None:
    found = await found_in(_Late(), timeout=0.05)
    assert [finding.check for finding in found] == ["no_response", "no_response"]


async def test_certificates_are_not_asked_for_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked(*_: object) -> Awaitable[None]:
        raise AssertionError("a private key would have been sent")

    monkeypatch.setattr("edge.run.core_api_check.core_api_requests.CoreApiRequests.certificate", asked)
    monkeypatch.setattr("edge.rules.settings.CoreApiSettings.is_local", property(lambda self: False))
    async with served(Faulty()) as url:
        settings = CoreApiSettings(url=url, concurrency=1)
        plan = CheckPlan(settings, [HOST], 0.05, changes=False, certificates=True)
        found = [finding async for finding in checked_core_api(plan)]
    assert "certificate" in told(found, Severity.NOTE)


async def test_the_command(run, platform) -> None:
    host = "live-acme.localhost"
    ran = await run("check-core-api", platform.core_api_url, f"http://{host}/x", "--wait", "100ms")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"ok      {host}: acme/live, generation ")
    ran = await run("check-core-api", platform.core_api_url, "nobody.example", "--no-changes", "--json")
    assert ran.code == 1
    assert {"known_is_404", "unknown_host"} <= {finding["check"] for finding in json.loads(ran.out)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ftp://x", "a.example"), "url: must be a URL"),
        (("file:/etc/routes.yaml", "a.example"), "a file of routes is no core API"),
        (("http://127.0.0.1:1", "two words"), "there is no hostname"),
        (("http://127.0.0.1:1", "a.example", "--timeout", "5"), "must be a duration"),
        (("http://127.0.0.1:1", "a.example", "--token-file", "/none"), "/none"),
    ],
)
def test_wrong_usage_of_the_command(arguments: tuple[str, ...], words: str) -> None:
    ran = CliRunner().invoke(check_core_api, arguments)
    assert ran.exit_code == 2
    assert words in ran.stderr
